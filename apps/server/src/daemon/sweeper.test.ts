import { Keyring, type SessionStore, Sessions } from "@sessiond/core";
import { SqliteSessionStore } from "@sessiond/core/sqlite";
import { afterEach, beforeEach, expect, type MockInstance, test, vi } from "vitest";
import { Metrics } from "../observability/metrics.js";
import { type LogLine, recordLog } from "../testing/test-server.js";
import { Sweeper } from "./sweeper.js";

const RETENTION_MS = 60_000;
const SLICE_SIZE = 500;
const REST_MS = 5_000;
/** The rest of a sweeper that is slow or fails. */
const MAX_REST_MS = 30_000;
const PAUSE_MS = 50;

let store: SessionStore;
let sweep: MockInstance<SessionStore["sweep"]>;
let logs: readonly LogLine[];
let sweeper: Sweeper;
let metrics: Metrics;

beforeEach(async () => {
  // Not setImmediate, by which the store reads and writes.
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
  const options = { path: ":memory:", retentionMs: RETENTION_MS, now: Date.now };
  store = await SqliteSessionStore.open(options);
  sweep = vi.spyOn(store, "sweep");
  const log = recordLog();
  logs = log.logs;
  metrics = new Metrics();
  sweeper = new Sweeper(store, log.logger, metrics);
  sweeper.start();
});
afterEach(async () => {
  await sweeper.stop();
  await store.close();
  vi.useRealTimers();
});

async function createSessions(count: number): Promise<void> {
  const sessions = new Sessions({ store, keyring: Keyring.parse(Keyring.generateKey()) });
  const create = (_: unknown, i: number) => sessions.create({ userId: `${i}`, lifetimeMs: 1_000 });
  await Promise.all(Array.from({ length: count }, create));
}

/** How many sessions there are, ended ones included. */
async function stored(): Promise<number> {
  const query = { showExpired: true, showRevoked: true, order: "asc", limit: 10_000 } as const;
  return (await store.list(query)).sessions.length;
}

/** Lets time pass, and then lets the store write what was begun. */
async function passTime(ms: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Lets time pass, with all sweeps that come with it. */
async function sweepFor(ms: number): Promise<void> {
  for (let passedMs = 0; passedMs < ms; passedMs += REST_MS) await passTime(REST_MS);
}

test("a sweep that takes long is followed by a longer rest, but by no more than half a minute", async () => {
  const { sweep: quick } = SqliteSessionStore.prototype;
  const slowly = async (limit: number) => {
    const endMs = performance.now() + 400;
    while (performance.now() < endMs);
    return quick.call(store as SqliteSessionStore, limit);
  };
  sweep.mockImplementationOnce(slowly);
  await passTime(REST_MS);
  await passTime(REST_MS);
  expect(sweep).toHaveBeenCalledTimes(1);
  await passTime(MAX_REST_MS);
  expect(sweep.mock.calls.length).toBeGreaterThan(1);
});

test("sessions are removed once they have ended and their retention is over", async () => {
  await createSessions(3);
  await sweepFor(RETENTION_MS);
  expect(await stored()).toBe(3);
  await sweepFor(2 * MAX_REST_MS);
  expect(await stored()).toBe(0);
  expect(logs).toMatchObject([{ msg: "removed ended sessions", reclaimed: 3 }]);
});

test("many are removed slice by slice, with room for calls in between", async () => {
  await createSessions(2 * SLICE_SIZE + 1);
  await sweepFor(RETENTION_MS + 2 * MAX_REST_MS);
  for (let i = 0; i < 10; i++) await passTime(PAUSE_MS);
  expect(await stored()).toBe(0);
  const slices = logs.map(({ reclaimed }) => Number(reclaimed));
  expect(slices.reduce((sum, slice) => sum + slice, 0)).toBe(2 * SLICE_SIZE + 1);
  expect(Math.max(...slices)).toBeLessThanOrEqual(SLICE_SIZE);
});

test("a sweep that fails is said, and tried again later", async () => {
  sweep.mockRejectedValueOnce(new Error("the disk is gone"));
  await createSessions(1);
  await passTime(REST_MS);
  expect(logs.at(-1)).toMatchObject({ level: 40, err: { message: "the disk is gone" } });
  await passTime(MAX_REST_MS);
  await sweepFor(RETENTION_MS + MAX_REST_MS);
  expect(await stored()).toBe(0);
});

test("stopping waits for the slice under way, and there is none after it", async () => {
  const slice = Promise.withResolvers<Awaited<ReturnType<SessionStore["sweep"]>>>();
  sweep.mockReturnValueOnce(slice.promise);
  await passTime(REST_MS);
  expect(sweep).toHaveBeenCalledTimes(1);
  const onStopped = vi.fn();
  const stopped = sweeper.stop().then(onStopped);
  await passTime(REST_MS);
  expect(onStopped).not.toHaveBeenCalled();
  slice.resolve({ expired: 0, reclaimed: 0, healed: 0, more: true });
  await stopped;
  await passTime(10 * MAX_REST_MS);
  expect(sweep).toHaveBeenCalledTimes(1);
});
