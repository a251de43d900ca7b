/** Where a span is. */
export interface TraceIds {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits. */
  readonly spanId: string;
}

/** The caller's span, as a `traceparent` header names it. */
export interface TraceParent extends TraceIds {
  /** The flags as the caller sent them. Bit 0: the caller records its span. */
  readonly flags: number;
}

/** Version, trace id, span id, flags. Later versions may say more after these. */
const TRACEPARENT =
  /^(?!ff)([\da-f]{2})-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(-.*)?$/;

/**
 * Reads a `traceparent` header (W3C Trace Context, 3.2). Undefined if there is none, or if it is
 * malformed: then a call is the first of its trace.
 */
export function parseTraceparent(header: string | null): TraceParent | undefined {
  if (header === null) return undefined;
  const [, version, traceId, spanId, flags, more] = TRACEPARENT.exec(header) ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  if (version === "00" && more !== undefined) return undefined;
  return { traceId, spanId, flags: Number.parseInt(flags, 16) };
}
