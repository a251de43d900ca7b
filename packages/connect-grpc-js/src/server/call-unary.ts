import { create, type Message } from "@bufbuild/protobuf";
import type {
  ContextValues,
  MethodImplSpec,
  UnaryRequest,
  UnaryResponse,
} from "@connectrpc/connect";
import { CallLifetime, type EndingCall } from "./call-lifetime.js";
import { createContext } from "./handler-context.js";
import { LAZY_SIGNAL, lazyProperty, SOURCE } from "./lazy-property.js";
import { intercept, type Next, type Route } from "./route.js";

export type UnaryRoute = Route<Extract<MethodImplSpec, { kind: "unary" }>>;

/** A unary call as its protocol tells of it. Its properties are read once, when its request is there. */
export interface UnaryIncoming extends EndingCall {
  readonly protocolName: "grpc" | "connect";
  readonly url: string;
  readonly header: Headers;
  readonly contextValues: ContextValues;
  /** Throws a ConnectError for malformed bytes. */
  parse(): Message;
}

/** What a handler adds to its answer, also if it fails. */
export interface UnaryHeaders {
  readonly header: Headers;
  readonly trailer: Headers;
}

const LAZY_MESSAGE = lazyProperty("message");

/** Makes the costly parts of a request, and the parts that may fail, at the first read. */
class UnarySource {
  readonly #call: UnaryIncoming;
  readonly #lifetime: CallLifetime;
  #message: Message | undefined;

  constructor(call: UnaryIncoming, lifetime: CallLifetime) {
    this.#call = call;
    this.#lifetime = lifetime;
  }

  get signal(): AbortSignal {
    return this.#lifetime.signal;
  }

  get message(): Message {
    this.#message ??= this.#call.parse();
    return this.#message;
  }
}

/**
 * Calls a unary method through its interceptors, whatever the protocol is. Rejects with what they throw.
 *
 * The first read parses the message, usually in the innermost function. So a call that an interceptor
 * refuses costs no parsing, and the interceptors, one of which writes the log, see a malformed message
 * as an error of the call. (connect-node parses before the interceptors run.)
 */
export async function callUnary(
  route: UnaryRoute,
  call: UnaryIncoming,
  headers: UnaryHeaders,
): Promise<UnaryResponse> {
  const { method, impl } = route.spec;
  const lifetime = new CallLifetime(call, route.shutdown);
  const callHandler: Next = async (request) => {
    lifetime.limitTimeout(route.maxTimeoutMs);
    const context = createContext(route, lifetime, request, headers, call.protocolName);
    // Interceptors do not make a stream of a unary request.
    const output = await impl((request as UnaryRequest).message, context);
    const message = create(method.output, output);
    return { stream: false, method, service: method.parent, message, ...headers };
  };
  try {
    const request = requestOf(route, call, lifetime);
    return (await intercept(callHandler, route.interceptors)(request)) as UnaryResponse;
  } catch (error) {
    throw lifetime.explain(error);
  } finally {
    lifetime.complete();
  }
}

function requestOf(route: UnaryRoute, call: UnaryIncoming, lifetime: CallLifetime): UnaryRequest {
  const { method } = route.spec;
  const { url, header, contextValues } = call;
  const request = {
    ...{ stream: false, service: method.parent, method, requestMethod: "POST" },
    ...{ url, header, contextValues },
    [SOURCE]: new UnarySource(call, lifetime),
  };
  Object.defineProperty(request, "signal", LAZY_SIGNAL);
  return Object.defineProperty(request, "message", LAZY_MESSAGE) as unknown as UnaryRequest;
}
