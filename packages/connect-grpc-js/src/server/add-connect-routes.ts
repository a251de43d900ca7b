import type { BinaryReadOptions, BinaryWriteOptions } from "@bufbuild/protobuf";
import {
  type ConnectRouter,
  type ContextValues,
  createContextValues,
  createMethodImplSpec,
  createServiceImplSpec,
  type Interceptor,
  type MethodImplSpec,
} from "@connectrpc/connect";
import type { Server } from "@grpc/grpc-js";
import { Shutdown } from "./call-lifetime.js";
import { type CallGate, correctIncomingHeaders } from "./incoming-headers.js";
import type { CheckRequest, DescribeMalformed, IncomingCall, Route } from "./route.js";
import { streamingHandler } from "./streaming.js";
import { unaryHandler } from "./unary.js";

/** Options of {@link addConnectRoutes}. */
export interface ConnectRoutesOptions {
  /**
   * Registers services and methods, as for connectNodeAdapter of @connectrpc/connect-node.
   *
   * `router.handlers` stays empty: it is for Connect's own protocol implementations, which take no
   * part here.
   */
  readonly routes: (router: ConnectRouter) => void;

  /** Interceptors of all methods. The first one is the outermost. Default: none. */
  readonly interceptors?: readonly Interceptor[];

  /** Makes the context values of a call, for example from the peer's address. Default: empty. */
  readonly contextValues?: (call: IncomingCall) => ContextValues;

  /**
   * Aborts the signals of all calls in flight. Streaming calls end with the signal's reason if it
   * is a ConnectError, otherwise with UNAVAILABLE. Unary calls may still respond. Abort it before
   * `server.tryShutdown()`, which waits for all calls. Default: none.
   */
  readonly shutdownSignal?: AbortSignal;

  /**
   * The longest timeout that a client may ask for, in milliseconds. A call with a longer timeout
   * fails with INVALID_ARGUMENT; a call without a timeout is served. Default: no limit.
   */
  readonly maxTimeoutMs?: number;

  /**
   * Replaces the error of a request that is no message of its type. Receives the default error
   * (InvalidArgument). Default: none, the call fails with that error.
   */
  readonly describeMalformed?: DescribeMalformed;

  /**
   * Looks at the bytes of each request before they are parsed. May throw a ConnectError, which the
   * client then gets, for example if there are too many elements in it. Default: none.
   */
  readonly checkRequest?: CheckRequest;

  /**
   * Told of each call when its headers have arrived, before anything is read of it. Calls `serve` to
   * let it in. Otherwise it answers the stream itself. Default: all calls come in.
   */
  readonly gate?: CallGate;

  /** Options to parse requests and serialize responses. Default: as in @bufbuild/protobuf. */
  readonly binaryOptions?: Partial<BinaryReadOptions & BinaryWriteOptions>;
}

type ServiceOptions = NonNullable<Parameters<ConnectRouter["service"]>[2]>;

/**
 * Options of `router.service` and `router.rpc` that have no effect here. They guard a service, so
 * we refuse them: to ignore them would drop the guard.
 */
const UNSUPPORTED = [
  "readMaxBytes",
  "requestGate",
  "writeMaxBytes",
] as const satisfies readonly (keyof ServiceOptions)[];

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
  correctIncomingHeaders(server, options.gate);
  const shutdown = new Shutdown(options.shutdownSignal);

  const add = (spec: MethodImplSpec, own: ServiceOptions = {}) => {
    const path = `/${spec.method.parent.typeName}/${spec.method.name}`;
    for (const name of UNSUPPORTED) {
      if (own[name] !== undefined) {
        throw new Error(`cannot serve ${path}: the option ${name} is not supported`);
      }
    }
    // As in Connect, an option of a service replaces the same option of the router.
    const route: Route = {
      spec,
      interceptors: own.interceptors ?? options.interceptors ?? [],
      contextValues: options.contextValues ?? createContextValues,
      maxTimeoutMs: own.maxTimeoutMs ?? options.maxTimeoutMs ?? Number.POSITIVE_INFINITY,
      binaryOptions: own.binaryOptions ?? options.binaryOptions,
      describeMalformed: options.describeMalformed,
      checkRequest: options.checkRequest,
      shutdown: own.shutdownSignal ? new Shutdown(own.shutdownSignal) : shutdown,
    };
    if (!register(server, path, route)) {
      throw new Error(`cannot serve ${path}: the server has a handler for it already`);
    }
  };

  const router: ConnectRouter = {
    handlers: [],
    service(service, implementation, own) {
      const { methods } = createServiceImplSpec(service, implementation);
      for (const spec of Object.values(methods)) {
        add(spec, own);
      }
      return router;
    },
    rpc(method, implementation, own) {
      add(createMethodImplSpec(method, implementation), own);
      return router;
    },
  };
  options.routes(router);
}

/** grpc-js passes messages as bytes; parseMessage has the reason. */
function register(server: Server, path: string, route: Route): boolean {
  const { spec } = route;
  return spec.kind === "unary"
    ? server.register(path, unaryHandler({ ...route, spec }), bytes, bytes, "unary")
    : server.register(path, streamingHandler({ ...route, spec }), bytes, bytes, "bidi");
}

function bytes(message: Buffer): Buffer {
  return message;
}
