import { createRequire } from "node:module";
import type { DescMethod } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type * as OpenTelemetry from "@opentelemetry/api";
import { SessiondError } from "../error.js";

/** The headers that carry the trace to the server. Empty if there is none. */
export type TraceHeader = Readonly<Record<string, string>>;

/** No trace: always the same object. */
export const NO_TRACE: TraceHeader = Object.freeze({});

/** Undefined if the application does not have OpenTelemetry's API. */
const otel = loadApi();

/**
 * Makes a call in a span of its own, below the span that is active in the application: one for all
 * attempts. Without OpenTelemetry it only makes the call.
 *
 * The span has the method and the outcome, and never a token, an id or a session's data.
 */
export function traced<T>(
  method: DescMethod,
  call: (header: TraceHeader) => Promise<T>,
): Promise<T> {
  if (otel === undefined) return call(NO_TRACE);
  const name = `${method.parent.typeName}/${method.name}`;
  const span = otel.trace.getTracer("@sessiond/client").startSpan(name, {
    kind: otel.SpanKind.CLIENT,
    attributes: { "rpc.method": name },
  });
  // The API alone makes no traces.
  if (!otel.isSpanContextValid(span.spanContext())) return call(traceHeader());
  return inSpan(otel, span, call);
}

async function inSpan<T>(
  otel: typeof OpenTelemetry,
  span: OpenTelemetry.Span,
  call: (header: TraceHeader) => Promise<T>,
): Promise<T> {
  try {
    const context = otel.trace.setSpan(otel.context.active(), span);
    // Spans of other libraries, such as those of HTTP requests, belong below this one.
    const answer = await otel.context.with(context, () => call(traceHeader()));
    span.setAttribute("rpc.status_code", "OK");
    return answer;
  } catch (error) {
    const isOurs = error instanceof SessiondError;
    if (isOurs) span.setAttribute("rpc.status_code", statusName(error.code));
    span.setAttribute("error.type", isOurs ? error.reason : "_OTHER");
    // That a session has ended is an answer.
    const isFault = !isOurs || error.reason !== "SESSION_NOT_FOUND";
    if (isFault) span.setStatus({ code: otel.SpanStatusCode.ERROR });
    throw error;
  } finally {
    span.end();
  }
}

/** The headers of the active span, as the application's propagator writes them. */
export function traceHeader(): TraceHeader {
  if (otel === undefined) return NO_TRACE;
  const header: Record<string, string> = {};
  otel.propagation.inject(otel.context.active(), header);
  return Object.keys(header).length === 0 ? NO_TRACE : header;
}

/** The API has one state for a process, so it does not matter who loads it, and how. */
function loadApi(): typeof OpenTelemetry | undefined {
  try {
    return createRequire(import.meta.url)("@opentelemetry/api");
  } catch {
    return undefined;
  }
}

/** As gRPC writes a code: `NOT_FOUND`. */
function statusName(code: Code): string {
  if (code === Code.Canceled) return "CANCELLED";
  return (Code[code] ?? "Unknown").replace(/(?<!^)[A-Z]/g, "_$&").toUpperCase();
}
