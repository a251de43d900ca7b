import { performance } from "node:perf_hooks";
import { afterEach, expect, test, vi } from "vitest";
import { RedisClock } from "./redis-clock.js";

afterEach(() => {
  vi.restoreAllMocks();
});

/** A clock over a Redis whose time and round trips are made up; the local clock is `local.ms`. */
function clockOver(redis: { offsetMs: number; thereMs: number; backMs: number }) {
  const local = { ms: 1_000 };
  vi.spyOn(performance, "now").mockImplementation(() => local.ms);
  const clock = new RedisClock(async () => {
    local.ms += redis.thereMs;
    const time = local.ms + redis.offsetMs;
    local.ms += redis.backMs;
    return time;
  });
  return { clock, local };
}

test("the time of Redis is known once it was asked for, and goes on between samples", async () => {
  for (const [thereMs, backMs] of [
    [0, 10],
    [10, 0],
    [5, 5],
  ] as const) {
    const { clock, local } = clockOver({ offsetMs: 1e12, thereMs, backMs });
    expect(clock.now()).toBeUndefined();
    await clock.sample();
    // Off by no more than half a round trip, however lopsided that was.
    expect(Math.abs((clock.now() ?? 0) - (local.ms + 1e12))).toBeLessThanOrEqual(5);
    const before = clock.now() ?? 0;
    local.ms += 1_234;
    expect(clock.now()).toBe(before + 1_234);
  }
});

test("a slow answer that says nothing new shakes no good estimate, and a jump is followed", async () => {
  const redis = { offsetMs: 5_000, thereMs: 0, backMs: 0 };
  const { clock, local } = clockOver(redis);
  await clock.sample();
  Object.assign(redis, { thereMs: 900, backMs: 10 });
  await clock.sample();
  expect(clock.now()).toBe(local.ms + 5_000);
  for (const offsetMs of [3_600_000, -3_600_000]) {
    Object.assign(redis, { offsetMs, thereMs: 1, backMs: 1 });
    await clock.sample();
    expect(clock.now()).toBe(local.ms + offsetMs);
  }
});

test("concurrent samples ask Redis once", async () => {
  const readTime = vi.fn(async () => 0);
  const clock = new RedisClock(readTime);
  await Promise.all([clock.sample(), clock.sample()]);
  expect(readTime).toHaveBeenCalledOnce();
});
