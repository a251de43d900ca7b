import type { DescMethodStreaming, Message } from "@bufbuild/protobuf";
import type { MethodImplSpec, StreamRequest, UnaryRequest } from "@connectrpc/connect";
import { MetadataHeaders } from "../metadata/metadata-headers.js";
import type { CallLifetime } from "./call-lifetime.js";
import { LAZY_SIGNAL, lazyProperty, SOURCE } from "./lazy-property.js";
import { parseMessage } from "./messages.js";
import type { IncomingCall, Route } from "./route.js";

const LAZY_MESSAGE = lazyProperty("message");

/** Makes the costly parts of a unary request, and the parts that may fail, at the first read. */
class UnarySource {
  readonly #route: Route;
  readonly #bytes: Buffer;
  readonly #lifetime: CallLifetime;
  #message: Message | undefined;

  constructor(route: Route, bytes: Buffer, lifetime: CallLifetime) {
    this.#route = route;
    this.#bytes = bytes;
    this.#lifetime = lifetime;
  }

  get signal(): AbortSignal {
    return this.#lifetime.signal;
  }

  get message(): Message {
    this.#message ??= parseMessage(this.#route.spec.method.input, this.#bytes, this.#route);
    return this.#message;
  }
}

/**
 * The request of a unary call for the interceptors.
 *
 * The first read parses the message, usually in the innermost function. So a call that an
 * interceptor refuses costs no parsing, and the interceptors, one of which writes the log, see a
 * malformed message as an error of the call. (connect-node parses before the interceptors run.)
 */
export function createUnaryRequest(
  route: Route<Extract<MethodImplSpec, { kind: "unary" }>>,
  call: IncomingCall & { readonly request: Buffer },
  lifetime: CallLifetime,
): UnaryRequest {
  const request = {
    ...requestProperties(route, call),
    stream: false,
    method: route.spec.method,
    [SOURCE]: new UnarySource(route, call.request, lifetime),
  };
  Object.defineProperty(request, "signal", LAZY_SIGNAL);
  return Object.defineProperty(request, "message", LAZY_MESSAGE) as unknown as UnaryRequest;
}

/** The request of a streaming call for the interceptors. */
export function createStreamRequest(
  route: Route,
  method: DescMethodStreaming,
  call: IncomingCall,
  message: AsyncIterable<Message>,
  signal: AbortSignal,
): StreamRequest {
  return { ...requestProperties(route, call), stream: true, method, message, signal };
}

function requestProperties(route: Route, call: IncomingCall) {
  return {
    service: route.spec.method.parent,
    requestMethod: "POST",
    // grpc-js does not tell whether the connection is encrypted.
    url: `http://${call.getHost()}${call.getPath()}`,
    header: new MetadataHeaders(call.metadata),
    contextValues: route.contextValues(call),
  };
}
