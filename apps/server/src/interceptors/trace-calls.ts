import type { Interceptor } from "@connectrpc/connect";
import { type CallSpan, callSpanKey } from "../observability/tracing.js";
import { toEnd } from "./log-calls.js";

type Next = Parameters<Interceptor>[0];

/** Records calls in the spans that the gates of the ports have started. */
export const traceCalls: Interceptor = (next) => (request) => {
  const span = request.contextValues.get(callSpanKey);
  return span ? record(span, next, request) : next(request);
};

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
