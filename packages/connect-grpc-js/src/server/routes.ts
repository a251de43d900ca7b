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
import { Shutdown } from "./call-lifetime.js";
import type { CheckRequest, DescribeMalformed, IncomingCall, Route, Serialize } from "./route.js";

/** What to serve, whatever the protocol is. */
export interface RouteOptions {
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
   * Serializes the responses of some types, in less time than @bufbuild/protobuf takes for any type.
   * Default: none.
   */
  readonly serialize?: Serialize;

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
 * The methods that `options.routes` registers, each with what serves it.
 *
 * @throws Error if a service has an option that has no effect here
 */
export function routesOf(options: RouteOptions): Route[] {
  const found: Route[] = [];
  const shutdown = new Shutdown(options.shutdownSignal);
  const add = (spec: MethodImplSpec, own: ServiceOptions = {}) => {
    const path = `/${spec.method.parent.typeName}/${spec.method.name}`;
    for (const name of UNSUPPORTED) {
      if (own[name] !== undefined) {
        throw new Error(`cannot serve ${path}: the option ${name} is not supported`);
      }
    }
    // As in Connect, an option of a service replaces the same option of the router.
    found.push({
      spec,
      path,
      interceptors: own.interceptors ?? options.interceptors ?? [],
      contextValues: options.contextValues ?? createContextValues,
      maxTimeoutMs: own.maxTimeoutMs ?? options.maxTimeoutMs ?? Number.POSITIVE_INFINITY,
      binaryOptions: own.binaryOptions ?? options.binaryOptions,
      describeMalformed: options.describeMalformed,
      checkRequest: options.checkRequest,
      serialize: options.serialize,
      shutdown: own.shutdownSignal ? new Shutdown(own.shutdownSignal) : shutdown,
    });
  };
  const router: ConnectRouter = {
    handlers: [],
    service(service, implementation, own) {
      const { methods } = createServiceImplSpec(service, implementation);
      for (const spec of Object.values(methods)) add(spec, own);
      return router;
    },
    rpc(method, implementation, own) {
      add(createMethodImplSpec(method, implementation), own);
      return router;
    },
  };
  options.routes(router);
  return found;
}
