import { type DescMessage, fromBinary, type Message } from "@bufbuild/protobuf";
import { type Status, StatusSchema } from "@sessiond/proto/google/rpc/status";
import type { Client, Session } from "@sessiond/proto/sessiond/v1/session";
import * as rpc from "@sessiond/proto/sessiond/v1/session_service";
import { ProtobufReader, UNUSUAL } from "./protobuf-reader.js";

// A service asks for these answers once per request of each user, so they are read by hand. For the
// same messages, @bufbuild/protobuf takes twice as long and five times the memory, because it reads
// any message.

const READERS: ReadonlyMap<DescMessage, (reader: ProtobufReader) => Message> = new Map<
  DescMessage,
  (reader: ProtobufReader) => Message
>([
  [
    rpc.VerifySessionResponseSchema,
    (reader) => ({ $typeName: "sessiond.v1.VerifySessionResponse", ...readAnswer(reader) }),
  ],
  [
    rpc.GetSessionResponseSchema,
    (reader) => ({ $typeName: "sessiond.v1.GetSessionResponse", ...readAnswer(reader) }),
  ],
  [
    rpc.BatchVerifySessionsResponseSchema,
    (reader) => ({ $typeName: "sessiond.v1.BatchVerifySessionsResponse", ...readResults(reader) }),
  ],
  [
    rpc.BatchGetSessionsResponseSchema,
    (reader) => ({ $typeName: "sessiond.v1.BatchGetSessionsResponse", ...readResults(reader) }),
  ],
]);

/**
 * An answer with sessions. Undefined for all other messages, and for bytes that servers of this
 * version do not write, such as those with a field that we do not know: the library must read them.
 */
export function parseSessions(
  desc: DescMessage,
  bytes: Uint8Array<ArrayBuffer>,
): Message | undefined {
  const read = READERS.get(desc);
  if (read === undefined) return undefined;
  try {
    return read(new ProtobufReader(bytes));
  } catch (error) {
    if (error === UNUSUAL) return undefined;
    throw error;
  }
}

function readAnswer(reader: ProtobufReader): { session?: Session } {
  let session: Session | undefined;
  while (reader.isBefore(reader.length)) {
    if (reader.field() !== 1) throw UNUSUAL;
    session = readSession(reader, reader.begin(session));
  }
  return session === undefined ? {} : { session };
}

function readResults(reader: ProtobufReader): { results: rpc.SessionResult[] } {
  const results: rpc.SessionResult[] = [];
  while (reader.isBefore(reader.length)) {
    if (reader.field() !== 1) throw UNUSUAL;
    const end = reader.begin();
    const result = reader.isBefore(end) ? readResult(reader) : { case: undefined };
    if (reader.isBefore(end)) throw UNUSUAL;
    results.push({ $typeName: "sessiond.v1.SessionResult", result });
  }
  return { results };
}

function readResult(reader: ProtobufReader): rpc.SessionResult["result"] {
  switch (reader.field()) {
    case 1:
      return { case: "session", value: readSession(reader, reader.begin()) };
    case 2:
      return { case: "error", value: readStatus(reader.bytes()) };
    default:
      throw UNUSUAL;
  }
}

function readStatus(bytes: Uint8Array): Status {
  try {
    return fromBinary(StatusSchema, bytes);
  } catch {
    throw UNUSUAL;
  }
}

function readSession(reader: ProtobufReader, end: number): Session {
  const session: Session = {
    $typeName: "sessiond.v1.Session",
    id: "",
    userId: "",
    displayName: "",
    roles: [],
    state: 0,
    etag: "",
    revokeReason: "",
  };
  while (reader.isBefore(end)) readField(reader, session);
  return session;
}

function readField(reader: ProtobufReader, session: Session): void {
  switch (reader.field()) {
    case 1:
      session.id = reader.text();
      break;
    case 2:
      session.userId = reader.text();
      break;
    case 3:
      session.displayName = reader.text();
      break;
    case 4:
      session.roles.push(reader.text());
      break;
    case 5:
      session.client = readClient(reader, reader.begin(session.client));
      break;
    case 6:
      session.data = reader.struct(session.data);
      break;
    case 7:
      session.createTime = reader.timestamp(session.createTime);
      break;
    case 8:
      session.authenticateTime = reader.timestamp(session.authenticateTime);
      break;
    case 9:
      session.lastAccessTime = reader.timestamp(session.lastAccessTime);
      break;
    case 10:
      session.expireTime = reader.timestamp(session.expireTime);
      break;
    case 11:
      session.absoluteExpireTime = reader.timestamp(session.absoluteExpireTime);
      break;
    case 12:
      session.idleTimeout = reader.duration(session.idleTimeout);
      break;
    case 13:
      session.state = reader.int32();
      break;
    case 14:
      session.etag = reader.text();
      break;
    case 15:
      session.revokeTime = reader.timestamp(session.revokeTime);
      break;
    case 16:
      session.revokeReason = reader.text();
      break;
    case 17:
      session.tokenCreateTime = reader.timestamp(session.tokenCreateTime);
      break;
    default:
      throw UNUSUAL;
  }
}

function readClient(reader: ProtobufReader, end: number): Client {
  const client: Client = { $typeName: "sessiond.v1.Client", ip: "", userAgent: "", device: "" };
  while (reader.isBefore(end)) {
    switch (reader.field()) {
      case 1:
        client.ip = reader.text();
        break;
      case 2:
        client.userAgent = reader.text();
        break;
      case 3:
        client.device = reader.text();
        break;
      default:
        throw UNUSUAL;
    }
  }
  return client;
}
