import fc from "fast-check";
import { expect, test } from "vitest";
import { StoreClock } from "./store-clock.js";

const HOUR_MS = 3_600_000;

/** A clock whose wall clock is `aheadMs` ahead of the time that has passed, until it is set again. */
function startClock() {
  const time = { passedMs: 0, aheadMs: 0 };
  const clock = new StoreClock(
    () => Math.floor(1_000 * HOUR_MS + time.passedMs + time.aheadMs),
    () => time.passedMs,
  );
  return { time, clock };
}

test("whatever the wall clock does, time neither stands still nor runs back, and never falls behind it", () => {
  const step = fc.record({
    passMs: fc.double({ min: 1, max: HOUR_MS, noNaN: true }),
    aheadMs: fc.integer({ min: -500 * HOUR_MS, max: 500 * HOUR_MS }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const { time, clock } = startClock();
      let lastMs = clock.now();
      for (const { passMs, aheadMs } of steps) {
        const beforeMs = lastMs;
        time.passedMs += passMs;
        lastMs = clock.now();
        // What a lease of this time would have seen: a twentieth more at the most.
        expect(lastMs - beforeMs).toBeGreaterThanOrEqual(Math.floor(passMs * 0.95) - 1);
        expect(lastMs - beforeMs).toBeLessThanOrEqual(Math.ceil(passMs) + 1);
        time.aheadMs = aheadMs;
        lastMs = Math.max(lastMs, clock.now());
        expect(clock.now()).toBe(lastMs);
        expect(lastMs).toBeGreaterThanOrEqual(
          Math.floor(1_000 * HOUR_MS + time.passedMs + aheadMs),
        );
      }
    }),
  );
});

test("two hours in the future are caught up with in forty", () => {
  const { time, clock } = startClock();
  time.aheadMs = 2 * HOUR_MS;
  clock.now();
  time.aheadMs = 0;
  const aheadAfter = (hours: number) => {
    time.passedMs = hours * HOUR_MS;
    return clock.now() - (1_000 * HOUR_MS + time.passedMs);
  };
  expect(aheadAfter(0)).toBe(2 * HOUR_MS);
  expect(aheadAfter(20)).toBe(HOUR_MS);
  expect(aheadAfter(39)).toBeGreaterThan(0);
  expect(aheadAfter(41)).toBe(0);
});
