import { ConnectError, type Interceptor } from "@connectrpc/connect";
import type { PortMetrics } from "../observability/rpc-metrics.js";
import { toEnd } from "./log-calls.js";

/** Counts and times every call when it has ended, with the code that the caller gets. */
export function measureCalls(metrics: PortMetrics): Interceptor {
  return (next) => (request) => {
    const startMs = performance.now();
    const rpc = metrics.of(request.method);
    const end = (error: unknown) => {
      const { code, cause } = ConnectError.from(error);
      rpc.ended(code, startMs);
      metrics.refused(cause);
    };
    const answer = next(request);
    // Beside the call and not around it: to await the answer here would delay every call.
    if (!request.stream) {
      answer.then(() => rpc.ended(0, startMs), end);
      return answer;
    }
    return answer.then(
      (response) => {
        if (!response.stream) return response;
        const onEnd = (error: unknown) =>
          error === undefined ? rpc.ended(0, startMs) : end(error);
        return { ...response, message: toEnd(response.message, request.signal, onEnd) };
      },
      (error) => {
        end(error);
        throw error;
      },
    );
  };
}
