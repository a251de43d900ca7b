import { expect, test } from "vitest";
import { SimulatedServer } from "../testing/simulated-server.js";
import { NearCache } from "./near-cache.js";

const LIMITS = { maxStaleMs: 5_000, maxSessions: 3 };

/** A cache whose stream has begun, and its clocks, which the test moves. */
function begun(limits = LIMITS) {
  const clock = { monotonicMs: 0, wallMs: 1e12 };
  const cache = new NearCache(limits, {
    monotonicMs: () => clock.monotonicMs,
    wallMs: () => clock.wallMs,
  });
  const server = new SimulatedServer();
  const checkpoint = () => {
    const time = new Date(server.timeMs(clock.monotonicMs));
    return cache.receive({ type: "checkpoint", time, resumeToken: "" });
  };
  cache.streamOpens();
  checkpoint();
  return { cache, clock, server, checkpoint };
}

/** Verifies the session of a number, with data of that many characters. */
function keep({ cache, clock, server }: ReturnType<typeof begun>, index: number, characters = 0) {
  server.moveIn(index, clock.monotonicMs);
  const session = server.verify(index, clock.monotonicMs);
  if (session === undefined) throw new Error("the session does not verify");
  const call = cache.begin();
  cache.keep(`key-${index}`, { ...session, data: { text: "x".repeat(characters) } }, call, true);
  cache.end();
}

const kept = ({ cache, clock }: ReturnType<typeof begun>, index: number) =>
  cache.get(`key-${index}`, clock.monotonicMs) !== undefined;

test("the session that was not used for the longest time goes first", () => {
  const world = begun();
  for (const index of [0, 1, 2]) keep(world, index);
  world.clock.monotonicMs = world.clock.wallMs = 1_500;
  expect(kept(world, 0)).toBe(true);
  keep(world, 3);
  expect([0, 1, 2, 3].map((index) => kept(world, index))).toEqual([true, false, true, true]);
  expect(world.cache.stats().entries).toBe(3);
});

test("large sessions take the room of several, and one that is too large is not kept", () => {
  const world = begun();
  for (const index of [0, 1]) keep(world, index, 4_000);
  expect([0, 1].map((index) => kept(world, index))).toEqual([false, true]);
  keep(world, 2, 16_000);
  expect(kept(world, 2)).toBe(false);
  expect(world.cache.stats().bytes).toBeLessThanOrEqual(9_000);
});

test("a checkpoint is as old as when it was made, and old ones are not served from", () => {
  const world = begun();
  keep(world, 0);
  world.clock.monotonicMs = world.clock.wallMs = LIMITS.maxStaleMs - 1;
  expect(kept(world, 0)).toBe(true);
  world.clock.monotonicMs = LIMITS.maxStaleMs;
  expect(kept(world, 0)).toBe(false);
  expect(world.cache.stats().ageMs).toBe(LIMITS.maxStaleMs);
});

test("a machine that slept asks the server, although its monotonic clock did not notice", () => {
  const world = begun();
  keep(world, 0);
  world.clock.monotonicMs = 200;
  world.clock.wallMs += 600_000;
  expect(kept(world, 0)).toBe(false);
  world.checkpoint();
  expect(kept(world, 0)).toBe(true);
});

test("a session is not served at its deadline by the server's clock, nor noticeably before that", () => {
  const world = begun();
  keep(world, 0);
  const at = (ms: number) => {
    world.clock.wallMs += ms - world.clock.monotonicMs;
    world.clock.monotonicMs = ms;
    world.checkpoint();
    return kept(world, 0);
  };
  expect(at(59_900)).toBe(true);
  expect(at(60_000)).toBe(false);
});
