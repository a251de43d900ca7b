import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { DurationSchema, TimestampSchema, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { fromDuration, fromTimestamp } from "./protobuf-time.js";

const INT64_MAX = 2n ** 63n - 1n;
const INT32_MAX = 2 ** 31 - 1;

describe("a duration", () => {
  const read = (init: MessageInitShape<typeof DurationSchema>) =>
    fromDuration("ttl", create(DurationSchema, init));

  test.each([
    ["nothing", {}, 0],
    ["a second and a half", { seconds: 1n, nanos: 500_000_000 }, 1500],
    ["less than a millisecond", { nanos: 999_999 }, 0],
    ["nearly two seconds", { seconds: 1n, nanos: 999_999_999 }, 1999],
    ["nearly two negative seconds", { seconds: -1n, nanos: -999_999_999 }, -1999],
  ])("of %s is read in whole milliseconds", (_, init, ms) => {
    expect(read(init)).toBe(ms);
  });

  test.each([
    ["a second in nanoseconds", { nanos: 1_000_000_000 }],
    ["a negative second in nanoseconds", { nanos: -1_000_000_000 }],
    ["the most nanoseconds that fit", { nanos: INT32_MAX }],
    ["a second less a nanosecond", { seconds: 1n, nanos: -1 }],
    ["a negative second and a nanosecond", { seconds: -1n, nanos: 1 }],
  ])("of %s is refused", (_, init) => {
    expect(() => read(init)).toThrow(/^ttl: expected nanos /);
  });
});

describe("a time", () => {
  const read = (init: MessageInitShape<typeof TimestampSchema>) =>
    fromTimestamp("filter.create_time_to", create(TimestampSchema, init));
  const first = timestampFromDate(new Date("0001-01-01T00:00:00Z"));
  const last = { ...timestampFromDate(new Date("9999-12-31T23:59:59Z")), nanos: 999_999_999 };

  test("is rounded up to whole milliseconds", () => {
    expect(read({ seconds: 1n, nanos: 1 })).toBe(1001);
    expect(read({ seconds: -1n, nanos: 999_000_000 })).toBe(-1);
  });

  test("may be the first and the last of the calendar", () => {
    expect(read(first)).toBe(Date.parse("0001-01-01T00:00:00Z"));
    expect(read(last)).toBe(Date.parse("9999-12-31T23:59:59Z") + 1000);
  });

  test.each([
    ["negative nanoseconds", { nanos: -1 }],
    ["a second in nanoseconds", { nanos: 1_000_000_000 }],
    ["the second before the calendar", { seconds: first.seconds - 1n }],
    ["the second after it", { seconds: last.seconds + 1n }],
    ["the last that fits", { seconds: INT64_MAX }],
    ["the first that fits", { seconds: -INT64_MAX - 1n }],
  ])("of %s is refused", (_, init) => {
    expect(() => read(init)).toThrow(/^filter\.create_time_to: expected /);
  });
});
