import { ConnectError, type Interceptor } from "@connectrpc/connect";
import type { PortMetrics } from "../observability/rpc-metrics.js";
import { toEnd } from "./log-calls.js";

/** Counts and times every call when it has ended, with the code that the caller gets. */
export function measureCalls(metrics: PortMetrics): Interceptor {
  return (next) => async (request) => {
    const startMs = performance.now();
    const rpc = metrics.of(request.method);
    const fail = (error: unknown) => {
      const { code, cause } = ConnectError.from(error);
      rpc.ended(code, startMs);
      metrics.refused(cause);
    };
    try {
      const response = await next(request);
      if (!response.stream) {
        rpc.ended(0, startMs);
        return response;
      }
      const end = (error: unknown) => {
        if (error === undefined) rpc.ended(0, startMs);
        else fail(error);
      };
      return { ...response, message: toEnd(response.message, request.signal, end) };
    } catch (error) {
      fail(error);
      throw error;
    }
  };
}
