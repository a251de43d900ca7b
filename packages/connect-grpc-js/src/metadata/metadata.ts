import { Code, ConnectError } from "@connectrpc/connect";
import { Metadata, type ServerUnaryCall } from "@grpc/grpc-js";

/**
 * Names of HTTP/2 and of gRPC itself; names with the prefix "grpc-" belong to gRPC too. An
 * application that sets them would break the response, and HTTP/2 refuses some of them.
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
 * Adds the headers of a response, or of a request, to metadata, except the protocol's own headers.
 *
 * @throws ConnectError (Internal) for a name or value that gRPC cannot carry. Names may contain
 * letters, digits, ".", "_" and "-", values may contain printable ASCII. The error does not have the
 * value, which may be a secret.
 */
export function addHeadersToMetadata(
  headers: Iterable<readonly [string, string]>,
  metadata: Metadata,
  kind: "request" | "response" = "response",
): void {
  for (const [name, value] of headers) {
    const key = name.toLowerCase();
    if (key.startsWith("grpc-") || PROTOCOL_HEADERS.has(key)) continue;
    try {
      addEntry(metadata, key, value);
    } catch (_error) {
      // The error of grpc-js quotes the value.
      const message = `gRPC metadata cannot carry the ${kind} header ${key}`;
      throw new ConnectError(message, Code.Internal);
    }
  }
}

function addEntry(metadata: Metadata, key: string, value: string): void {
  if (!key.endsWith("-bin")) {
    metadata.add(key, value);
    return;
  }
  // Headers joins several values with commas. base64 has no commas.
  for (const encoded of value.split(",")) {
    metadata.add(key, Buffer.from(encoded.trim(), "base64"));
  }
}

/** Converts the headers of a response. Undefined if there are none. */
export function metadataFromHeaders(headers: Headers): Metadata | undefined {
  if (headers.keys().next().done) return undefined;
  const metadata = new Metadata();
  addHeadersToMetadata(headers, metadata);
  return metadata;
}

type HeaderSender = Pick<ServerUnaryCall<unknown, unknown>, "sendMetadata">;

/** Sends the headers of a response. If there are none, grpc-js sends its own later. */
export function sendHeader(call: HeaderSender, header: Headers): void {
  const metadata = metadataFromHeaders(header);
  if (metadata !== undefined) {
    call.sendMetadata(metadata);
  }
}

/** Sends the headers of a response that ends with an error, if gRPC can carry them. */
export function trySendHeader(call: HeaderSender, header: Headers): void {
  try {
    sendHeader(call, header);
  } catch (_error) {
    // The status matters more, and it follows.
  }
}

/** Makes `target` equal to the headers that the interceptors returned. */
export function replaceHeaders(target: Headers, source: Headers): void {
  if (target === source) return;
  for (const key of [...target.keys()]) {
    target.delete(key);
  }
  for (const [key, value] of source) {
    target.append(key, value);
  }
}
