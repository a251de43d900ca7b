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
import type { DescribeMalformed, IncomingCall, Route } from "./route.js";
import { streamingHandler } from "./streaming.js";
import { unaryHandler } from "./unary.js";

/** Options of {@link addConnectRoutes}. */
export interface ConnectRoutesOptions {
  /**
   * Registers services and methods, exactly as for connectNodeAdapter of
   * @connectrpc/connect-node.
   *
   * `router.handlers` stays empty: it holds handlers of Connect's own protocol
   * implementations, and none of those takes part.
   */
  readonly routes: (router: ConnectRouter) => void;

  /** Interceptors for all methods, the first one outermost. Default: none. */
  readonly interceptors?: readonly Interceptor[];

  /**
   * Makes the context values of a call, from the peer's address for example.
   * Default: empty ones.
   */
  readonly contextValues?: (call: IncomingCall) => ContextValues;

  /**
   * Aborts the signals of all calls in flight, and ends the streaming ones with
   * the signal's reason if that is a ConnectError, or else with UNAVAILABLE.
   * Unary calls may still respond. Abort it before `server.tryShutdown()`,
   * which waits for all calls. Default: none.
   */
  readonly shutdownSignal?: AbortSignal;

  /**
   * The longest timeout a client may ask for, in milliseconds. A call with a
   * longer one fails with INVALID_ARGUMENT; a call without one is served.
   * Default: no limit.
   */
  readonly maxTimeoutMs?: number;

  /**
   * Makes the error of a request that is no message of its type, out of the one that the call fails
   * with otherwise. Default: that one, as it is.
   */
  readonly describeMalformed?: DescribeMalformed;

  /** Options for parsing requests and serializing responses. Default: those of @bufbuild/protobuf. */
  readonly binaryOptions?: Partial<BinaryReadOptions & BinaryWriteOptions>;
}

type ServiceOptions = NonNullable<Parameters<ConnectRouter["service"]>[2]>;

/**
 * Options of `router.service` and `router.rpc` that would guard a service, and
 * that have no effect here. To ignore them would be to drop the guard.
 */
const UNSUPPORTED = [
  "readMaxBytes",
  "requestGate",
  "writeMaxBytes",
] as const satisfies readonly (keyof ServiceOptions)[];

/**
 * Serves Connect routes, with Connect interceptors, on a grpc-js server.
 *
 * Handlers and interceptors work as they do under connect-node; the README
 * lists the few differences. Limits on messages, keepalive and compression are
 * channel options of the server, such as `grpc.max_receive_message_length`
 * (4 MiB by default).
 *
 * @throws Error when the server already serves one of the methods, or when a
 * service is registered with an option that has no effect here (`requestGate`,
 * `readMaxBytes`, `writeMaxBytes`).
 */
export function addConnectRoutes(server: Server, options: ConnectRoutesOptions): void {
  const shutdown = new Shutdown(options.shutdownSignal);

  const add = (spec: MethodImplSpec, own: ServiceOptions = {}) => {
    const path = `/${spec.method.parent.typeName}/${spec.method.name}`;
    for (const name of UNSUPPORTED) {
      if (own[name] !== undefined) {
        throw new Error(`cannot serve ${path}: the option ${name} is not supported`);
      }
    }
    // As in Connect, an option of a service replaces that of the router.
    const route: Route = {
      spec,
      interceptors: own.interceptors ?? options.interceptors ?? [],
      contextValues: options.contextValues ?? createContextValues,
      maxTimeoutMs: own.maxTimeoutMs ?? options.maxTimeoutMs ?? Number.POSITIVE_INFINITY,
      binaryOptions: own.binaryOptions ?? options.binaryOptions,
      describeMalformed: options.describeMalformed,
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

/** Messages pass grpc-js as bytes; see parseMessage for the reason. */
function register(server: Server, path: string, route: Route): boolean {
  const { spec } = route;
  return spec.kind === "unary"
    ? server.register(path, unaryHandler({ ...route, spec }), bytes, bytes, "unary")
    : server.register(path, streamingHandler({ ...route, spec }), bytes, bytes, "bidi");
}

function bytes(message: Buffer): Buffer {
  return message;
}
