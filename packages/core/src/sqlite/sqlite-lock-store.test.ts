import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { FENCE_RETENTION_MS } from "../locks/lock-store.js";
import { FakeClock } from "../testing/contract/fake-clock.js";
import { describeLockStore } from "../testing/contract/locks/describe-lock-store.js";
import { openSqliteStores } from "./open-sqlite-stores.js";

const tellsNobody = "processes that share a file find out by trying";

describeLockStore(
  "SQLite in memory",
  async ({ now }) => {
    const stores = await openSqliteStores({ path: ":memory:", now });
    return { store: stores.locks, dispose: () => stores.close() };
  },
  { tellsNobody },
);

async function makeFile() {
  const dir = await mkdtemp(join(tmpdir(), "sessiond-locks-"));
  return { path: join(dir, "sessions.db"), remove: () => rm(dir, { recursive: true }) };
}

describeLockStore(
  "SQLite on disk",
  async ({ now }) => {
    const { path, remove } = await makeFile();
    const [stores, peers] = [
      await openSqliteStores({ path, now }),
      await openSqliteStores({ path, now }),
    ];
    const dispose = async () => {
      await Promise.all([stores.close(), peers.close()]);
      await remove();
    };
    return { store: stores.locks, peer: peers.locks, dispose };
  },
  { tellsNobody },
);

test("a lock survives a restart, and names that nobody locked for 30 days are forgotten, a few at a time", async () => {
  const { path, remove } = await makeFile();
  const clock = new FakeClock();
  const before = await openSqliteStores({ path, now: clock.now });
  for (let i = 0; i < 25; i++) await before.locks.acquire(`order-${i}`, "ann", 1_000);
  await before.close();
  const { locks, close } = await openSqliteStores({ path, now: clock.now });
  expect(await locks.acquire("order-7", "bob", 1_000)).toMatchObject({ occupied: true });
  using db = new DatabaseSync(path, { readOnly: true });
  const count = () => db.prepare("SELECT count(*) AS count FROM locks").get()?.["count"];
  clock.advance(FENCE_RETENTION_MS + 999);
  await locks.acquire("another", "ann", 1_000);
  expect(count()).toBe(26);
  clock.advance(1);
  const counts: unknown[] = [];
  for (let i = 0; i < 4; i++) {
    await locks.acquire("another", `${i}`, 1_000);
    await locks.release("another", `${i}`);
    counts.push(count());
    clock.advance(1_000);
  }
  expect(counts).toEqual([26, 16, 6, 1]);
  await close();
  await remove();
});

test("a lock that is renewed for longer than that is not forgotten", async () => {
  const clock = new FakeClock();
  const { locks, close } = await openSqliteStores({ path: ":memory:", now: clock.now });
  await locks.acquire("leader", "ann", 3_600_000);
  for (let hours = 0; hours < 24 * 31; hours++) {
    clock.advance(3_599_000);
    expect(await locks.renew("leader", "ann", 3_600_000)).toBeDefined();
  }
  await locks.acquire("another", "bob", 1_000);
  expect(await locks.acquire("leader", "bob", 1_000)).toMatchObject({ occupied: true });
  await close();
});
