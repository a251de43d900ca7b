import type { DescMethod } from "@bufbuild/protobuf";
import { type ContextValues, createContextKey } from "@connectrpc/connect";
import type { Around } from "@sessiond/core";
import type { AroundKeyLoad } from "../auth/issuer-keys.js";
import { parseTraceparent, type TraceIds } from "./trace-context.js";

/** Which new traces are recorded, by the names of `OTEL_TRACES_SAMPLER`. */
export const TRACE_SAMPLERS = [
  "parentbased_always_on",
  "parentbased_always_off",
  "parentbased_traceidratio",
  "always_on",
  "always_off",
  "traceidratio",
] as const;

/** What the configuration says about traces. OpenTelemetry reads the rest by itself. */
export interface TracesConfig {
  /** With `parentbased`, a caller that sends its trace decides for it. */
  readonly sampler: (typeof TRACE_SAMPLERS)[number];
  /** The share of traces that the samplers with `traceidratio` record, from 0 to 1. */
  readonly ratio: number;
}

/** What starts a call, as far as its span is concerned. */
export interface CallStart {
  readonly method: DescMethod;
  readonly header: Pick<Headers, "get">;
  /** As OpenTelemetry names the protocol in `rpc.system.name`. gRPC-Web is gRPC. */
  readonly system: "grpc" | "connectrpc";
}

/** The span of a call, which is recorded. */
export interface CallSpan {
  readonly ids: TraceIds;
  /** Runs `work` so that what it does is recorded below this span. */
  run<T>(work: () => T): T;
  /** Ends the span, with the error that the caller gets. */
  end(error?: unknown): void;
}

/**
 * Runs a call of a store and does something around it. Answers what `call` answers, and throws what
 * it throws. `operation` is one of about thirty, such as `get_session`.
 */
export type AroundStoreCall = <T>(operation: string, call: () => Promise<T>) => Promise<T>;

/** Records spans and sends them. Exists only if the configuration has an endpoint for traces. */
export interface Tracing {
  /** Starts the span of a call. Null if its trace is not recorded. */
  startCall(call: CallStart): CallSpan | null;
  /** Records a call of a store below the span of its RPC. Without a span it only makes the call. */
  readonly aroundStoreCall: AroundStoreCall;
  /** Records a change in Redis that waits for a replica, likewise. */
  readonly aroundReplicaWait: Around;
  /** Records a load of an issuer's keys, likewise. */
  readonly aroundKeyLoad: AroundKeyLoad;
  /** Sends what is left, for a limited time. Never rejects. */
  close(): Promise<void>;
}

/** The span of a call; null if it is not recorded; undefined until that is decided. */
export const callSpanKey = createContextKey<CallSpan | null | undefined>(undefined, {
  description: "the span of the call",
});

/**
 * The trace ids for the log: of the call's span, or if it is not recorded, of the caller's span.
 * Undefined if neither is known.
 */
export function traceFields(
  values: ContextValues,
  header: Pick<Headers, "get">,
): object | undefined {
  const ids = values.get(callSpanKey)?.ids ?? parseTraceparent(header.get("traceparent"));
  return ids && { trace_id: ids.traceId, span_id: ids.spanId };
}
