import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

/** Whole milliseconds; what is left of a positive duration below one is no duration. */
export function fromDuration({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1000 + Math.trunc(nanos / 1e6);
}

/** Whole milliseconds, rounded up: sessions are created on whole ones, so no bound changes meaning. */
export function fromTimestamp({ seconds, nanos }: Timestamp): number {
  return Number(seconds) * 1000 + Math.ceil(nanos / 1e6);
}
