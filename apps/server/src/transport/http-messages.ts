import { type IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

/** A request in either version of HTTP. */
export type Request = IncomingMessage | Http2ServerRequest;
/** Its response. */
export type Response = ServerResponse | Http2ServerResponse;

/** Whether nobody waits for a response any more. In HTTP/2, Node's responses have no `destroyed`. */
export function hasGone(response: Response): boolean {
  if (response instanceof ServerResponse) return response.destroyed;
  return response.stream.destroyed || response.stream.closed;
}
