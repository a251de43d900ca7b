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

test("zero is refused, and what is longer than a century", () => {
  for (const text of ["0s", "0h0m"]) {
    expect(() => parseDuration(text)).toThrow("expected a duration longer than zero");
  }
  for (const text of ["36500d1ms", `${"9".repeat(400)}s`]) {
    expect(() => parseDuration(text)).toThrow("expected a duration of at most 36500d");
  }
});

test("a duration is written with the largest units first, and zero as 0s", () => {
  const written = [5_400_000, 86_400_000, 0].map((ms) => formatDuration(ms));
  expect(written).toEqual(["1h30m", "1d", "0s"]);
});
