import { expect, test } from "vitest";
import { parseTraceparent } from "./trace-context.js";

const TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN_ID = "00f067aa0ba902b7";

test.each([
  ["of this version", `00-${TRACE_ID}-${SPAN_ID}-01`, 1],
  ["that does not record", `00-${TRACE_ID}-${SPAN_ID}-00`, 0],
  ["with a flag of a later version", `cc-${TRACE_ID}-${SPAN_ID}-03`, 3],
  ["with more of a later version", `cc-${TRACE_ID}-${SPAN_ID}-01-what-the-future-brings`, 1],
])("a caller's span %s is read", (_, header, flags) => {
  expect(parseTraceparent(header)).toEqual({ traceId: TRACE_ID, spanId: SPAN_ID, flags });
});

test.each([
  ["no header", null],
  ["an empty header", ""],
  ["two headers, joined", `00-${TRACE_ID}-${SPAN_ID}-01, 00-${TRACE_ID}-${SPAN_ID}-01`],
  ["more than version 00 has", `00-${TRACE_ID}-${SPAN_ID}-01-more`],
  ["the forbidden version", `ff-${TRACE_ID}-${SPAN_ID}-01`],
  ["a trace id of zeros", `00-${"0".repeat(32)}-${SPAN_ID}-01`],
  ["a span id of zeros", `00-${TRACE_ID}-${"0".repeat(16)}-01`],
  ["capitals", `00-${TRACE_ID.toUpperCase()}-${SPAN_ID}-01`],
  ["a short trace id", `00-${TRACE_ID.slice(1)}-${SPAN_ID}-01`],
])("%s names no span", (_, header) => {
  expect(parseTraceparent(header)).toBeUndefined();
});
