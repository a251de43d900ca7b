import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Metadata, StatusObject } from "@grpc/grpc-js";
import { type Status, StatusSchema } from "@sessiond/proto/google/rpc/status";
import { MetadataHeaders } from "../metadata/metadata-headers.js";

/**
 * The cause of an error of a call that the server certainly did not process: there was no
 * connection, or the server refused the stream. To make such a call again is safe.
 */
export class NotProcessedError extends Error {
  override readonly name = "NotProcessedError";
}

/** What grpc-js says if the last attempt to connect failed. It adds the time to some errors. */
const CONNECT_FAILURE =
  /Last error: (?:Error: )?(.*?)(?: \(\d{4}-[-\d:.TZ]+\))?(?:\. Resolution note: .*)?$/s;

/**
 * The error for the status of a call, as connect-node's gRPC transport has it.
 *
 * @param wasSent whether the request may have reached the server
 * @param header the headers of the response, if they came
 */
export function errorOf(
  received: StatusObject,
  wasSent: boolean,
  header: Metadata | undefined,
): ConnectError {
  const { details: message, metadata: trailer } = received;
  if (!wasSent) return notProcessed(CONNECT_FAILURE.exec(message)?.[1] ?? message);
  if (isLocal(received, header)) {
    if (message === "Stream refused by server") return notProcessed(message);
    if (message.startsWith("Deadline exceeded after")) return timedOut();
  }
  return errorFrom(received, headersOf(header, trailer));
}

/** The error of a call that took longer than its timeout. */
function timedOut(): ConnectError {
  return new ConnectError("the operation timed out", Code.DeadlineExceeded);
}

function notProcessed(message: string): ConnectError {
  const cause = new NotProcessedError(message);
  return new ConnectError(message, Code.Unavailable, undefined, undefined, cause);
}

/** Whether grpc-js made the status, because nothing came from the server. */
function isLocal({ metadata }: StatusObject, header: Metadata | undefined): boolean {
  return header === undefined && Object.keys(metadata.getMap()).length === 0;
}

/**
 * As in Connect, the details' copy of code and message wins: grpc-js does not decode all that a
 * server may have encoded in the header.
 */
function errorFrom(received: StatusObject, headers: Headers): ConnectError {
  const described = statusFrom(received.metadata.get("grpc-status-details-bin")[0]);
  const code = described?.code || Number(received.code);
  const message = described?.message ?? received.details;
  // Connect's codes have gRPC's numbers.
  const error = new ConnectError(message, code in Code ? code : Code.Internal, headers);
  error.details = (described?.details ?? []).map(({ typeUrl, value }) => ({
    type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1),
    value,
  }));
  // Connect's servers do not pass the metadata of such an error on to their own clients.
  return Object.assign(error, { isWireError: true });
}

function statusFrom(bytes: Buffer | string | undefined): Status | undefined {
  if (!(bytes instanceof Buffer)) return undefined;
  try {
    const { buffer, byteOffset, length } = bytes;
    return fromBinary(StatusSchema, new Uint8Array(buffer, byteOffset, length));
  } catch {
    // The code and the message are worth more than details that nobody can read.
    return undefined;
  }
}

function headersOf(header: Metadata | undefined, trailer: Metadata): Headers {
  const headers = new MetadataHeaders(trailer);
  if (header === undefined) return headers;
  for (const [key, value] of new MetadataHeaders(header)) headers.append(key, value);
  return headers;
}
