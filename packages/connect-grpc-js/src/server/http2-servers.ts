import type { Http2SecureServer, Http2Server } from "node:http2";
import type { Server, ServerOptions } from "@grpc/grpc-js";

/** Private, so tests guard it. */
interface ServerInternals {
  readonly options: ServerOptions;
  /** How grpc-js begins to listen to an HTTP/2 server. */
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

const DEFAULT_MAX_RECEIVE_BYTES = 4 * 1024 * 1024;

/** The limits of messages that a grpc-js server was made with, in bytes. */
export function messageLimits(server: Server) {
  const { options } = server as unknown as ServerInternals;
  const limit = (bytes: number) => (bytes < 0 ? Number.POSITIVE_INFINITY : bytes);
  return {
    maxReceiveBytes: limit(options["grpc.max_receive_message_length"] ?? DEFAULT_MAX_RECEIVE_BYTES),
    maxSendBytes: limit(options["grpc.max_send_message_length"] ?? -1),
  };
}
