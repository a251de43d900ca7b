import { Code, ConnectError } from "@connectrpc/connect";
import { Metadata, type ServerUnaryCall } from "@grpc/grpc-js";

/**
 * Names that belong to HTTP/2 or to gRPC itself, apart from all that start with
 * "grpc-". An application that sets them would break the response, and HTTP/2
 * refuses some of them outright.
 */
const PROTOCOL_HEADERS = new Set([
  "accept-encoding",
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "date",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "user-agent",
]);

/**
 * Adds the headers of a response to metadata, except those of the protocol.
 *
 * @throws ConnectError (Internal) for a name or value that gRPC cannot carry:
 * names are limited to letters, digits, ".", "_" and "-", values to printable
 * ASCII.
 */
export function addHeadersToMetadata(headers: Headers, metadata: Metadata): void {
  for (const [key, value] of headers) {
    if (key.startsWith("grpc-") || PROTOCOL_HEADERS.has(key)) {
      continue;
    }
    try {
      addEntry(metadata, key, value);
    } catch (cause) {
      const message = `gRPC metadata cannot carry the response header ${key}`;
      throw new ConnectError(message, Code.Internal, undefined, undefined, cause);
    }
  }
}

function addEntry(metadata: Metadata, key: string, value: string): void {
  if (!key.endsWith("-bin")) {
    metadata.add(key, value);
    return;
  }
  // Headers has joined several values with commas, which base64 does not use.
  for (const encoded of value.split(",")) {
    metadata.add(key, Buffer.from(encoded.trim(), "base64"));
  }
}

/** Converts headers of a response; undefined when there are none. */
export function metadataFromHeaders(headers: Headers): Metadata | undefined {
  if (headers.keys().next().done) {
    return undefined;
  }
  const metadata = new Metadata();
  addHeadersToMetadata(headers, metadata);
  return metadata;
}

type HeaderSender = Pick<ServerUnaryCall<unknown, unknown>, "sendMetadata">;

/** Sends the headers of a response; without any, grpc-js sends its own with the first message. */
export function sendHeader(call: HeaderSender, header: Headers): void {
  const metadata = metadataFromHeaders(header);
  if (metadata !== undefined) {
    call.sendMetadata(metadata);
  }
}

/**
 * Sends the headers of a response that is to end with an error, which matters
 * more than headers that gRPC cannot carry.
 */
export function trySendHeader(call: HeaderSender, header: Headers): void {
  try {
    sendHeader(call, header);
  } catch (_error) {
    // The status follows all the same.
  }
}

/** Makes `target` equal to the headers that the interceptors returned. */
export function replaceHeaders(target: Headers, source: Headers): void {
  if (target === source) {
    return;
  }
  for (const key of [...target.keys()]) {
    target.delete(key);
  }
  for (const [key, value] of source) {
    target.append(key, value);
  }
}
