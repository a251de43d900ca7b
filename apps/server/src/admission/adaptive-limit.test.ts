import { expect, test } from "vitest";
import { AdaptiveLimit } from "./adaptive-limit.js";

const LEAST = 100;
const MOST = 1_000;

/** Has the event loop be so late, each 10 ms, with so many calls under way. */
function observe(
  limit: AdaptiveLimit,
  delaysMs: readonly number[],
  inFlight: number,
  fromMs: number,
) {
  for (const [i, delayMs] of delaysMs.entries()) limit.observe(delayMs, inFlight, fromMs + i * 10);
}

test("the limit falls while calls wait for each other, and is back within two seconds after", () => {
  const limit = new AdaptiveLimit(LEAST, MOST);
  observe(limit, Array(300).fill(60), 900, 0);
  expect(limit.value).toBe(LEAST);
  observe(limit, Array(220).fill(5), 900, 3_000);
  expect(limit.value).toBe(MOST);
});

test("neither bursts nor the delays of a server with little to do lower the limit", () => {
  const limit = new AdaptiveLimit(LEAST, MOST);
  observe(limit, Array(300).fill([200, 200, 5]).flat(), 900, 0);
  observe(limit, Array(300).fill(500), LEAST, 9_000);
  expect(limit.value).toBe(MOST);
});
