import type { ServerHttp2Stream } from "node:http2";
import type { ConnectError } from "@connectrpc/connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";

/** The headers that carry an error where gRPC's answer has no message, which it calls Trailers-Only. */
export function trailersOnly(error: ConnectError): Readonly<Record<string, string>> {
  const headers = new Headers();
  setTrailerStatus(headers, error);
  return Object.fromEntries(headers);
}

/**
 * Answers a gRPC call of which nothing has been read with headers alone. Node then tells a client that
 * still sends to stop (RFC 9113, 8.1).
 */
export function refuseStream(
  stream: ServerHttp2Stream,
  trailers: Readonly<Record<string, string>>,
): void {
  if (stream.destroyed || stream.closed || stream.headersSent) return;
  const type = { ":status": 200, "content-type": "application/grpc" };
  stream.respond({ ...type, ...trailers }, { endStream: true });
}
