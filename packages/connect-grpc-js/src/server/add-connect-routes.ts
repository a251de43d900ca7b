import { type Server, type sendUnaryData, status } from "@grpc/grpc-js";
import { messageLimits } from "./http2-servers.js";
import { type CallGate, takeStreams } from "./incoming-headers.js";
import type { Route } from "./route.js";
import { type RouteOptions, routesOf } from "./routes.js";
import { streamingHandler } from "./streaming.js";
import { type ServeStream, serveUnary } from "./unary.js";
import type { UnaryBounds } from "./unary-request.js";

/** Options of {@link addConnectRoutes}. */
export interface ConnectRoutesOptions extends RouteOptions {
  /**
   * Told of each call when its headers have arrived, before anything is read of it. Calls `serve` to
   * let it in. Otherwise it answers the stream itself. Default: all calls come in.
   */
  readonly gate?: CallGate;

  /** Bounds what unary calls hold, besides the server's limits of messages. Default: none. */
  readonly unaryBounds?: UnaryBounds;
}

/**
 * Serves Connect routes, with Connect interceptors, on a grpc-js server.
 *
 * Handlers and interceptors work as under connect-node; the README lists the few differences. Call
 * it before `server.bindAsync`.
 * Limits of messages, keepalive and compression are channel options of the server, such as
 * `grpc.max_receive_message_length` (default: 4 MiB).
 *
 * @throws Error if the server already serves one of the methods, or if a service has an option
 * that has no effect here (`requestGate`, `readMaxBytes`, `writeMaxBytes`).
 */
export function addConnectRoutes(server: Server, options: ConnectRoutesOptions): void {
  const unary = new Map<string, ServeStream>();
  takeStreams(server, { unary, gate: options.gate });
  const limits = { ...messageLimits(server), bounds: options.unaryBounds };
  for (const route of routesOf(options)) {
    const { spec, path } = route;
    if (!register(server, route)) {
      throw new Error(`cannot serve ${path}: the server has a handler for it already`);
    }
    if (spec.kind === "unary") unary.set(path, serveUnary({ ...route, spec }, limits));
  }
}

/**
 * grpc-js passes messages as bytes; parseMessage has the reason. Unary calls never reach it, but so it
 * knows which methods are taken.
 */
function register(server: Server, route: Route): boolean {
  const { spec, path } = route;
  return spec.kind === "unary"
    ? server.register(path, refuseUnary, bytes, bytes, "unary")
    : server.register(path, streamingHandler({ ...route, spec }), bytes, bytes, "bidi");
}

function refuseUnary(_call: unknown, respond: sendUnaryData<Buffer>): void {
  respond({ code: status.INTERNAL, details: "addConnectRoutes serves this method itself" });
}

function bytes(message: Buffer): Buffer {
  return message;
}
