import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { invalidArgument } from "@sessiond/core";

// Protobuf's own limits, as duration.proto and timestamp.proto state them. JSON cannot express what
// is beyond them; in binary it comes through, and would mean another time than its sender thinks.
const MAX_NANOS = 999_999_999;
/** 0001-01-01T00:00:00Z */
const MIN_TIMESTAMP_S = -62_135_596_800n;
/** 9999-12-31T23:59:59Z */
const MAX_TIMESTAMP_S = 253_402_300_799n;

/**
 * Whole milliseconds; what is left of a positive duration below one is no duration. How long it may
 * be is for the domain to say. Throws INVALID_ARGUMENT, naming the field, for one that is malformed.
 */
export function fromDuration(field: string, { seconds, nanos }: Duration): number {
  if (Math.abs(nanos) > MAX_NANOS) {
    throw invalidArgument(field, `expected nanos from -${MAX_NANOS} to ${MAX_NANOS}`);
  }
  if ((seconds > 0n && nanos < 0) || (seconds < 0n && nanos > 0)) {
    throw invalidArgument(field, "expected nanos of the same sign as seconds");
  }
  return Number(seconds) * 1000 + Math.trunc(nanos / 1e6);
}

/**
 * Whole milliseconds, rounded up: sessions are created on whole ones, so no bound changes meaning.
 * Throws INVALID_ARGUMENT, naming the field, for a time that is malformed or beyond the calendar.
 */
export function fromTimestamp(field: string, { seconds, nanos }: Timestamp): number {
  if (nanos < 0 || nanos > MAX_NANOS) {
    throw invalidArgument(field, `expected nanos from 0 to ${MAX_NANOS}`);
  }
  if (seconds < MIN_TIMESTAMP_S || seconds > MAX_TIMESTAMP_S) {
    throw invalidArgument(field, "expected a time in the years 1 to 9999");
  }
  return Number(seconds) * 1000 + Math.ceil(nanos / 1e6);
}
