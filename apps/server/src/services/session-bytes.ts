import { type DescMessage, type Message, toBinary } from "@bufbuild/protobuf";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import type * as pb from "@sessiond/proto/sessiond/v1/session";
import * as rpc from "@sessiond/proto/sessiond/v1/session_service";
import { ProtobufWriter } from "./protobuf-writer.js";

// Services ask for these answers once per request of each user, so they are written by hand. For the same
// bytes, @bufbuild/protobuf takes three times as long, because it writes any message.

const WRITERS: ReadonlyMap<DescMessage, (message: never) => void> = new Map<
  DescMessage,
  (message: never) => void
>([
  [rpc.VerifySessionResponseSchema, writeSessionAnswer],
  [rpc.GetSessionResponseSchema, writeSessionAnswer],
  [rpc.BatchVerifySessionsResponseSchema, writeResults],
  [rpc.BatchGetSessionsResponseSchema, writeResults],
]);

/** A message is written in one go, so one writer serves all. */
const writer = new ProtobufWriter();

/** The bytes of an answer with sessions. Undefined for all others. */
export function serializeSessions(
  desc: DescMessage,
  message: Message,
): Uint8Array<ArrayBuffer> | undefined {
  const write = WRITERS.get(desc);
  if (write === undefined) return undefined;
  try {
    write(message as never);
    return writer.take();
  } catch (error) {
    writer.clear();
    throw error;
  }
}

function writeSessionAnswer({ session }: rpc.VerifySessionResponse | rpc.GetSessionResponse): void {
  if (session !== undefined) writeSession(1, session);
}

function writeResults({
  results,
}: rpc.BatchVerifySessionsResponse | rpc.BatchGetSessionsResponse): void {
  for (const { result } of results) {
    const start = writer.begin(1);
    if (result.case === "session") writeSession(1, result.value);
    else if (result.case === "error") writer.bytes(2, toBinary(StatusSchema, result.value));
    writer.end(start);
  }
}

function writeSession(field: number, session: pb.Session): void {
  const start = writer.begin(field);
  writeText(1, session.id);
  writeText(2, session.userId);
  writeText(3, session.displayName);
  for (const role of session.roles) writer.text(4, role);
  if (session.client !== undefined) writeClient(5, session.client);
  if (session.data !== undefined) writer.struct(6, session.data);
  if (session.createTime !== undefined) writer.time(7, session.createTime);
  if (session.authenticateTime !== undefined) writer.time(8, session.authenticateTime);
  if (session.lastAccessTime !== undefined) writer.time(9, session.lastAccessTime);
  if (session.expireTime !== undefined) writer.time(10, session.expireTime);
  if (session.absoluteExpireTime !== undefined) writer.time(11, session.absoluteExpireTime);
  if (session.idleTimeout !== undefined) writer.time(12, session.idleTimeout);
  if (session.state !== 0) writer.int32(13, session.state);
  writeText(14, session.etag);
  if (session.revokeTime !== undefined) writer.time(15, session.revokeTime);
  writeText(16, session.revokeReason);
  if (session.tokenCreateTime !== undefined) writer.time(17, session.tokenCreateTime);
  writer.end(start);
}

function writeClient(field: number, client: pb.Client): void {
  const start = writer.begin(field);
  writeText(1, client.ip);
  writeText(2, client.userAgent);
  writeText(3, client.device);
  writer.end(start);
}

/** A field without presence, so an empty text is none. */
function writeText(field: number, text: string): void {
  if (text !== "") writer.text(field, text);
}
