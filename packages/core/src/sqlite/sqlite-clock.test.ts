import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { addSession, keyOf } from "../testing/contract/sessions/fixtures.js";
import { openSqliteStores, type SqliteStores } from "./open-sqlite-stores.js";

const HOURS_MS = 3_600_000;
const realNow = Date.now;

let dir: string;
/** How far the wall clock is ahead of the right time. */
let aheadMs: number;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  aheadMs = 0;
  vi.spyOn(Date, "now").mockImplementation(() => realNow() + aheadMs);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(dir, { recursive: true });
});

async function open(): Promise<SqliteStores> {
  const stores = await openSqliteStores({ path: join(dir, "sessions.db") });
  onTestFinished(() => stores.close());
  return stores;
}

/** Expects an answer only once a lease or a window of a second is over, and soon after. */
async function expectInASecond(answer: () => Promise<object>, expected: object): Promise<void> {
  expect(await answer()).not.toMatchObject(expected);
  const check = async () => expect(await answer()).toMatchObject(expected);
  await vi.waitFor(check, { timeout: 5_000 });
}

test("a wall clock that is set back does not hold a lock beyond its lease", async () => {
  const { locks } = await open();
  await locks.acquire("job", "first", 1_000);
  aheadMs = -2 * HOURS_MS;
  await expectInASecond(() => locks.acquire("job", "second", 1_000), { name: "job" });
});

test("a wall clock that is set back does not hold a rate limit beyond its window", async () => {
  const { rateLimits } = await open();
  const windows = [{ limit: 1, windowMs: 1_000 }];
  const check = () => rateLimits.check("ann", windows, { cost: 1, countRefused: false });
  await check();
  aheadMs = -2 * HOURS_MS;
  await expectInASecond(check, { isAllowed: true });
});

test("a wall clock that is set back brings no expired session back, also after a restart", async () => {
  const first = await open();
  const short = await addSession(first.sessions, { idleTimeoutMs: 1_000 });
  aheadMs = 1_000;
  const late = await addSession(first.sessions);
  expect(await first.sessions.get(keyOf(short))).toBeUndefined();
  aheadMs = -2 * HOURS_MS;
  expect(await first.sessions.get(keyOf(short))).toBeUndefined();
  expect(await first.sessions.count()).toBe(1);
  await first.close();

  const second = await open();
  expect(await second.sessions.get(keyOf(short))).toBeUndefined();
  const later = await addSession(second.sessions);
  expect(later.createTimeMs).toBeGreaterThanOrEqual(late.createTimeMs);
});

test("a server whose clock was wrong takes the others along, so that a lease is as long for all", async () => {
  const right = await open();
  const wrong = await open();
  aheadMs = 2 * HOURS_MS;
  await wrong.locks.acquire("job", "first", 1_000);
  aheadMs = 0;
  await expectInASecond(() => right.locks.acquire("job", "second", 1_000), { name: "job" });
});

test("a wall clock that was wrong in the future is caught up with", async () => {
  const { sessions } = await open();
  aheadMs = 60;
  const ahead = await addSession(sessions);
  aheadMs = 0;
  const before = await addSession(sessions);
  expect(before.createTimeMs).toBeGreaterThanOrEqual(ahead.createTimeMs);
  await sleep(1_500);
  const startMs = Date.now();
  const after = await addSession(sessions);
  expect(after.createTimeMs - startMs).toBeLessThan(30);
});
