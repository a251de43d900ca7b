import type { IncomingMessage, ServerResponse } from "node:http";
import type { ResponseHead } from "./response-head.js";
import type { WebRequest } from "./web-request.js";

/** A request of Node.js. Express keeps the whole path in `originalUrl`. */
export type NodeRequest = IncomingMessage & { originalUrl?: string };

export function webRequestOf(request: NodeRequest): WebRequest {
  const { headers, method = "GET", socket } = request;
  const field = (name: string) => {
    const value = headers[name.toLowerCase()];
    return Array.isArray(value) ? value.join(", ") : (value ?? null);
  };
  const scheme = "encrypted" in socket ? "https" : "http";
  const host = field("host") ?? field(":authority") ?? "localhost";
  return {
    method,
    url: `${scheme}://${host}${request.originalUrl ?? request.url ?? "/"}`,
    headers: { get: field },
  };
}

/** The address at the other end. A Unix socket has none, and ends on this machine. */
export function peerAddressOf({ socket }: IncomingMessage): string | undefined {
  return socket.remoteAddress ?? (socket.destroyed ? undefined : "127.0.0.1");
}

export function responseHeadOf(response: ServerResponse): ResponseHead {
  return {
    get isSent() {
      return response.headersSent;
    },
    get: (name) => response.getHeader(name)?.toString(),
    set: (name, value) => void response.setHeader(name, value),
    append: (name, value) => void response.appendHeader(name, value),
    cookies: () => [response.getHeader("Set-Cookie") ?? []].flat().map(String),
    setCookies: (lines) => void response.setHeader("Set-Cookie", lines),
  };
}
