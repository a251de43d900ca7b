import type { Interceptor } from "@connectrpc/connect";
import { type CallSpan, callSpanKey, type Tracing } from "../observability/tracing.js";
import { toEnd } from "./log-calls.js";

type Next = Parameters<Interceptor>[0];

/** Records calls. On the HTTP port, the request gate has begun to do so, so what it left is gRPC. */
export function traceCalls(tracing: Tracing): Interceptor {
  return (next) => (request) => {
    const { contextValues, method, header } = request;
    const begun = contextValues.get(callSpanKey);
    const span =
      begun === undefined ? tracing.startCall({ method, header, system: "grpc" }) : begun;
    contextValues.set(callSpanKey, span);
    return span === null ? next(request) : record(span, next, request);
  };
}

async function record(span: CallSpan, next: Next, request: Parameters<Next>[0]) {
  try {
    const response = await span.run(() => next(request));
    if (response.stream) {
      const end = (error: unknown) => span.end(error);
      return { ...response, message: toEnd(response.message, request.signal, end) };
    }
    span.end();
    return response;
  } catch (error) {
    span.end(error);
    throw error;
  }
}
