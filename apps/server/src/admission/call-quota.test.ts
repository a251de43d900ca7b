import { expect, test } from "vitest";
import { CallQuota } from "./call-quota.js";

test("so many calls come at once, then one at a time, and each window counts", () => {
  const windows = [
    { limit: 2, windowMs: 1_000 },
    { limit: 3, windowMs: 60_000 },
  ];
  const quota = new CallQuota(windows, 0);
  expect([quota.take(0), quota.take(0), quota.take(0)]).toEqual([0, 0, 500]);
  expect([quota.take(499), quota.take(500)]).toEqual([expect.closeTo(1), 0]);
  expect(quota.take(1_000)).toBeGreaterThan(15_000);
});
