import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { invalidArgument } from "@sessiond/core";

// The limits of duration.proto and timestamp.proto. JSON cannot express a value beyond them. Binary
// can, and we would read another time than the sender meant.
const MAX_NANOS = 999_999_999;
/** 0001-01-01T00:00:00Z */
const MIN_TIMESTAMP_S = -62_135_596_800n;
/** 9999-12-31T23:59:59Z */
const MAX_TIMESTAMP_S = 253_402_300_799n;

/**
 * Whole milliseconds, rounded towards zero. The domain limits the length. Throws INVALID_ARGUMENT
 * that names the field if the duration is malformed.
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
 * Whole milliseconds, rounded up. Session times are whole milliseconds, so no bound changes its
 * meaning. Throws INVALID_ARGUMENT that names the field if the time is malformed or out of range.
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

/** From whole milliseconds. As `timestampFromMs` of the library, which looks at each field first. */
export function toTimestamp(timeMs: number): Timestamp {
  const seconds = Math.floor(timeMs / 1000);
  const nanos = (timeMs - seconds * 1000) * 1e6;
  return { $typeName: "google.protobuf.Timestamp", seconds: BigInt(seconds), nanos };
}

/** From whole milliseconds that are not negative. */
export function toDuration(durationMs: number): Duration {
  return { ...toTimestamp(durationMs), $typeName: "google.protobuf.Duration" };
}
