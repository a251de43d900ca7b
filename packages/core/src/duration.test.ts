import { expect, test } from "vitest";
import { formatDuration, parseDuration } from "./duration.js";

test.each([
  ["1ms", 1],
  ["500ms", 500],
  ["30s", 30_000],
  ["30m", 1_800_000],
  ["24h", 86_400_000],
  ["7d", 604_800_000],
  ["1h30m", 5_400_000],
  ["1m1ms", 60_001],
  ["1d2h3m4s5ms", 93_784_005],
  ["36500d", 3_153_600_000_000],
])("%s is %d milliseconds, and is written the same way", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
  expect(parseDuration(formatDuration(ms))).toBe(ms);
});

test.each(["", "abc", "30", "-5m", "1.5h", "30m1h", "1h1h", "1h 30m", " 30m", "30M", "1e3s"])(
  '"%s" is not a duration',
  (text) => {
    expect(() => parseDuration(text)).toThrow("expected a duration such as 30m or 24h");
  },
);

test.each(["0s", "0ms", "0h0m"])("%s is refused, as it is zero", (text) => {
  expect(() => parseDuration(text)).toThrow("expected a duration longer than zero");
});

test.each(["36500d1ms", "36501d", `${"9".repeat(400)}s`])(
  "%s is refused, as it is too long",
  (text) => {
    expect(() => parseDuration(text)).toThrow("expected a duration of at most 36500d");
  },
);

test("a duration is written with the largest units first, and zero as 0s", () => {
  expect(formatDuration(5_400_000)).toBe("1h30m");
  expect(formatDuration(86_400_000)).toBe("1d");
  expect(formatDuration(0)).toBe("0s");
});
