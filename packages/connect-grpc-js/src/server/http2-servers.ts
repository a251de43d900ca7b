import type { Http2SecureServer, Http2Server } from "node:http2";
import type { Server } from "@grpc/grpc-js";

/** How grpc-js begins to listen to an HTTP/2 server. Private, so a test guards it. */
interface ServerInternals {
  _setupHandlers(http2: Http2Server | Http2SecureServer | null, ...rest: readonly unknown[]): void;
}

/**
 * Calls `prepare` with each HTTP/2 server that a grpc-js server opens from the next `bindAsync` on,
 * before it listens. By then grpc-js has its own listeners on it.
 */
export function onHttp2Server(
  server: Server,
  prepare: (http2: Http2Server | Http2SecureServer) => void,
): void {
  const internals = server as unknown as ServerInternals;
  const setUp = internals._setupHandlers;
  internals._setupHandlers = (http2, ...rest) => {
    setUp.call(server, http2, ...rest);
    if (http2 !== null) prepare(http2);
  };
}
