import { Code, ConnectError } from "@connectrpc/connect";
import type { Metadata } from "@grpc/grpc-js";

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
