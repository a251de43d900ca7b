import type {
  HandlerContext,
  StreamRequest,
  UnaryRequest,
  UnaryResponse,
} from "@connectrpc/connect";
import type { CallLifetime } from "./call-lifetime.js";
import { LAZY_SIGNAL, SOURCE } from "./lazy-property.js";
import type { Route } from "./route.js";

/** The context of a handler. `request` is what the interceptors passed on. */
export function createContext(
  route: Route,
  lifetime: CallLifetime,
  request: UnaryRequest | StreamRequest,
  response: Pick<UnaryResponse, "header" | "trailer">,
  protocolName: "grpc" | "connect" = "grpc",
): HandlerContext {
  const context = {
    method: route.spec.method,
    service: request.service,
    requestMethod: request.requestMethod,
    protocolName,
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
