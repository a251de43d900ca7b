import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Metadata, StatusObject } from "@grpc/grpc-js";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
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

const DETAILS = "grpc-status-details-bin";

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
export function timedOut(): ConnectError {
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

/** Connect's codes have gRPC's numbers. The details of a status repeat its code and message. */
function errorFrom({ code, details, metadata }: StatusObject, headers: Headers): ConnectError {
  const bytes = metadata.get(DETAILS)[0];
  const error = new ConnectError(details, code in Code ? (code as number) : Code.Internal, headers);
  if (bytes instanceof Buffer) {
    const described = statusFrom(bytes);
    error.details = described.map(({ typeUrl, value }) => ({
      type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1),
      value,
    }));
  }
  // Connect's servers do not pass the metadata of such an error on to their own clients.
  return Object.assign(error, { isWireError: true });
}

function statusFrom(bytes: Buffer) {
  try {
    const { buffer, byteOffset, length } = bytes;
    return fromBinary(StatusSchema, new Uint8Array(buffer, byteOffset, length)).details;
  } catch {
    // The code and the message are worth more than details that nobody can read.
    return [];
  }
}

function headersOf(header: Metadata | undefined, trailer: Metadata): Headers {
  const headers = new MetadataHeaders(trailer);
  if (header === undefined) return headers;
  for (const [key, value] of new MetadataHeaders(header)) headers.append(key, value);
  return headers;
}
