import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { SessionStore, StoredSession } from "../sessions/session-store.js";
import {
  addSession,
  addSessions,
  keyOf,
  NO_LIMIT,
  newSession,
} from "../testing/contract/sessions/fixtures.js";
import { mountSmallDisk, type SmallDisk, smallDiskObstacle } from "../testing/disks/small-disk.js";
import { openSqliteStores, type SqliteStores } from "./open-sqlite-stores.js";

const OBSTACLE = smallDiskObstacle();
const MIB = 1024 * 1024;
const FULL = { reason: "OVERLOADED" };
const HOUR = [{ limit: 5, windowMs: 3_600_000 }];

/** Creates sessions until one is refused. */
async function createUntilFull(store: SessionStore): Promise<void> {
  const record = new Uint8Array(10_000);
  const adding = async () => {
    for (let i = 0; i < 10_000; i++) await addSession(store, { record, userId: `filler-${i}` });
  };
  await expect(adding()).rejects.toMatchObject(FULL);
}

describe.skipIf(OBSTACLE)(`on a full disk${OBSTACLE ? ` (${OBSTACLE})` : ""}`, () => {
  let disk: SmallDisk;
  let path: string;
  let stores: SqliteStores;
  let sessions: readonly StoredSession[];

  beforeEach(async () => {
    disk = await mountSmallDisk(40 * MIB);
    path = join(disk.path, "sessions.db");
    stores = await openSqliteStores({ path });
    sessions = await addSessions(stores.sessions, 3_000);
    const built = () => expect(statSync(`${path}-reserve`).size).toBe(16 * MIB);
    await vi.waitFor(built, { timeout: 20_000 });
  });
  afterEach(async () => {
    await stores.close();
    await disk[Symbol.asyncDispose]();
  });

  /** Fills the disk to the last byte, from outside and from inside. */
  async function fillDisk(): Promise<void> {
    disk.fill();
    await createUntilFull(stores.sessions);
    disk.fill();
  }

  test("every session can still be ended, one by one, however long that goes on", async () => {
    await fillDisk();
    for (const session of sessions) {
      expect(await stores.sessions.revoke(keyOf(session), "logout")).toBe(true);
      disk.fill();
    }
    expect(await stores.sessions.count("user")).toBe(0);
    expect(await stores.sessions.check()).toContain("reserve");
    await expect(addSession(stores.sessions)).rejects.toMatchObject(FULL);
  });

  test("endings come before creations of the same moment, and pass", async () => {
    await fillDisk();
    const creations = Array.from({ length: 300 }, () => addSession(stores.sessions));
    const endings = sessions.map((session) => stores.sessions.revoke(keyOf(session), "logout"));
    const created = Promise.allSettled(creations);
    expect(new Set(await Promise.all(endings))).toEqual(new Set([true]));
    for (const outcome of await created) expect(outcome).toMatchObject({ reason: FULL });
  });

  test("tokens rotate, locks are given back, all of a user's sessions end, and the sweep removes them", async () => {
    const held = Array.from({ length: 200 }, (_, i) => `lock-${i}`);
    for (const name of held) await stores.locks.acquire(name, "holder", 60_000);
    await fillDisk();
    for (const [i, session] of sessions.slice(0, 200).entries()) {
      const { id, tokenHash } = session;
      const once = { key: `caller:${i}`, record: new Uint8Array(100), keptForMs: 600_000 };
      const newHash = new Uint8Array(32).fill(i);
      const rotated = stores.sessions.rotateTokenOnce(once, keyOf(session), tokenHash, newHash);
      expect(await rotated).toMatchObject({ id });
    }
    for (const name of held) expect(await stores.locks.release(name, "holder")).toBe(true);
    expect(await stores.sessions.revokeUser("user", "logout")).toBe(3_000);
    expect(await stores.sessions.sweep(500)).toMatchObject({ reclaimed: 0 });
    await expect(stores.locks.acquire("new", "holder", 1_000)).rejects.toMatchObject(FULL);
    await expect(
      stores.rateLimits.check("ann", HOUR, { cost: 1, countRefused: false }),
    ).rejects.toMatchObject(FULL);
  });

  test("the reserve is for endings alone, and is rebuilt once there is room", async () => {
    await fillDisk();
    const [first, second, third] = sessions as [StoredSession, StoredSession, StoredSession];
    for (const session of sessions.slice(3)) await stores.sessions.revoke(keyOf(session), "");
    const left = statSync(`${path}-reserve`).size;
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThan(16 * MIB);
    for (let i = 0; i < 100; i++) {
      await expect(addSession(stores.sessions)).rejects.toMatchObject(FULL);
      const replaced = stores.sessions.replaceRecord(keyOf(first), 1, new Uint8Array(10_000));
      await expect(replaced).rejects.toMatchObject(FULL);
    }
    expect(statSync(`${path}-reserve`).size).toBeGreaterThanOrEqual(left);
    expect(await stores.sessions.get(keyOf(second))).toBeDefined();

    disk.free();
    const check = async () => expect(await stores.sessions.check()).toBeUndefined();
    await vi.waitFor(check, { timeout: 10_000 });
    expect(statSync(`${path}-reserve`).size).toBe(16 * MIB);
    await addSession(stores.sessions);
    expect(await stores.sessions.revoke(keyOf(third), "")).toBe(true);
  });

  test("a server that starts shares the reserve with those that run, and ends sessions", async () => {
    await fillDisk();
    const [first, second, third] = sessions as [StoredSession, StoredSession, StoredSession];
    const other = await openSqliteStores({ path });
    expect(await other.sessions.revoke(keyOf(first), "")).toBe(true);
    await other.close();

    await stores.close();
    disk.fill();
    expect(existsSync(`${path}-wal`)).toBe(false);
    stores = await openSqliteStores({ path });
    disk.fill();
    expect(await stores.sessions.get(keyOf(second))).toBeDefined();
    expect(await stores.sessions.revoke(keyOf(second), "")).toBe(true);
    expect(await stores.sessions.revoke(keyOf(third), "")).toBe(true);
    await expect(stores.sessions.create(newSession(), NO_LIMIT)).rejects.toMatchObject(FULL);
  });
});
