import type { HandlerContext, StreamRequest, UnaryRequest } from "@connectrpc/connect";
import type { CallLifetime } from "./call-lifetime.js";
import { LAZY_SIGNAL, SOURCE } from "./lazy-property.js";
import type { Route } from "./route.js";

/** The headers and trailers that a handler may add to. */
export interface ResponseHeaders {
  readonly header: Headers;
  readonly trailer: Headers;
}

/** The context of a handler, with what the interceptors made of the request. */
export function createContext(
  route: Route,
  lifetime: CallLifetime,
  request: UnaryRequest | StreamRequest,
  response: ResponseHeaders,
): HandlerContext {
  const context = {
    method: route.spec.method,
    service: request.service,
    requestMethod: request.requestMethod,
    protocolName: "grpc",
    url: request.url,
    requestHeader: request.header,
    responseHeader: response.header,
    responseTrailer: response.trailer,
    values: request.contextValues,
    timeoutMs: () => lifetime.timeoutMs(),
    [SOURCE]: request,
  };
  return Object.defineProperty(context, "signal", LAZY_SIGNAL) as typeof context & HandlerContext;
}
