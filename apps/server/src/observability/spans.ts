import { AsyncLocalStorage } from "node:async_hooks";
import { Code, ConnectError } from "@connectrpc/connect";
import { status } from "@grpc/grpc-js";
import {
  type Attributes,
  type Context,
  createTraceState,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  type SpanOptions,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { type ErrorReason, SessiondError } from "@sessiond/core";
import { parseTraceparent, type TraceIds } from "./trace-context.js";
import type { CallSpan, CallStart } from "./tracing.js";

/**
 * The codes that are a fault of this server in OpenTelemetry's conventions for gRPC. With the others
 * it has answered as it should.
 */
const FAULTS: ReadonlySet<Code> = new Set([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

const OF_SERVER: SpanOptions = { kind: SpanKind.SERVER };

/** The store could not do its work. With other reasons, such as SESSION_LIMIT_REACHED, it did. */
const STORE_FAULTS: ReadonlySet<ErrorReason> = new Set(["STORE_UNAVAILABLE", "OVERLOADED"]);

/**
 * Makes spans by OpenTelemetry's semantic conventions. No attribute has a token, data, or the id of
 * a session or a user: spans often go to another company. The log has the ids, by `trace_id`.
 */
export class Spans {
  readonly #tracer: Tracer;
  /** The span that the work in hand belongs to. Set in calls that are recorded, and only there. */
  readonly #current = new AsyncLocalStorage<Span>();

  constructor(tracer: Tracer) {
    this.#tracer = tracer;
  }

  /** Starts the span of a call below the caller's span. Null if the sampler does not want it. */
  startCall({ method, header, system }: CallStart): CallSpan | null {
    const name = `${method.parent.typeName}/${method.name}`;
    const span = this.#tracer.startSpan(name, OF_SERVER, contextOfCaller(header));
    if (!span.isRecording()) return null;
    // No sampler of ours asks for attributes, and most calls are not recorded.
    span.setAttributes({ "rpc.system.name": system, "rpc.method": name });
    return new RecordedCall(span, this.#current);
  }

  /** Makes a span around `work`, if a call is being recorded. */
  around<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T> {
    const parent = this.#current.getStore();
    // What a call has started may go on when the call has ended, such as a wait for releases.
    if (!parent?.isRecording()) return work();
    const options = { kind: SpanKind.CLIENT, attributes };
    const span = this.#tracer.startSpan(name, options, trace.setSpan(ROOT_CONTEXT, parent));
    return this.#current.run(span, () => untilSettled(span, work));
  }
}

class RecordedCall implements CallSpan {
  readonly ids: TraceIds;
  readonly #span: Span;
  readonly #current: AsyncLocalStorage<Span>;

  constructor(span: Span, current: AsyncLocalStorage<Span>) {
    this.ids = span.spanContext();
    this.#span = span;
    this.#current = current;
  }

  run<T>(work: () => T): T {
    return this.#current.run(this.#span, work);
  }

  end(error?: unknown): void {
    if (error === undefined) {
      this.#span.setAttribute("rpc.status_code", status[status.OK]);
    } else {
      const { code, cause } = ConnectError.from(error);
      const codeName = status[code] ?? String(code);
      this.#span.setAttribute("rpc.status_code", codeName);
      this.#span.setAttribute("error.type", reasonOf(cause) ?? codeName);
      if (FAULTS.has(code)) this.#span.setStatus({ code: SpanStatusCode.ERROR });
    }
    this.#span.end();
  }
}

/** A context whose span is the caller's, if its headers name one. */
function contextOfCaller(header: Pick<Headers, "get">): Context {
  const parent = parseTraceparent(header.get("traceparent"));
  if (parent === undefined) return ROOT_CONTEXT;
  const { traceId, spanId, flags: traceFlags } = parent;
  const state = header.get("tracestate");
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId,
    spanId,
    traceFlags,
    isRemote: true,
    ...(state && { traceState: createTraceState(state) }),
  });
}

async function untilSettled<T>(span: Span, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const reason = reasonOf(error);
    // Messages stay out of spans: they may quote a request.
    span.setAttribute("error.type", reason ?? (error instanceof Error ? error.name : "_OTHER"));
    if (reason === undefined || STORE_FAULTS.has(reason)) {
      span.setStatus({ code: SpanStatusCode.ERROR });
    }
    throw error;
  } finally {
    span.end();
  }
}

function reasonOf(error: unknown): ErrorReason | undefined {
  return error instanceof SessiondError ? error.reason : undefined;
}
