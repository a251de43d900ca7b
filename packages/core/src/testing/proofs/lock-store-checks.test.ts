import { randomUUID } from "node:crypto";
import { once } from "node:events";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRedis, openRedisStores } from "../../redis/index.js";
import { lockStoreChecks } from "../contract/locks/lock-checks.js";
import { type OpenLockStore, runLockStoreCheck } from "../contract/locks/lock-store-check.js";
import { type RedisServer, startRedisServer } from "../redis/redis-server.js";
import { brokenLockStores } from "./broken-lock-stores.js";

// That a property fails is all that is asked here. The seed is always the same: a fault that
// only some of all sequences show is then seen every time.
fc.configureGlobal({ endOnFailure: true, seed: 1 });

let server: RedisServer;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

/** On Redis, which keeps all of the contract. */
const openCorrect: OpenLockStore = async ({ now }) => {
  const options = { keyPrefix: `${randomUUID()}:`, now };
  const open = async () => {
    const address = { host: "127.0.0.1", port: server.port };
    const redis = connectRedis({ kind: "redis", address, db: 0, tls: false }, () => {});
    await once(redis, "ready");
    return openRedisStores({ redis, ...options });
  };
  const stores = await open();
  const peers = await open();
  const dispose = async () => {
    await stores.close();
    await peers.close();
  };
  return { store: stores.locks, peer: peers.locks, dispose };
};

test("each promise of the contract is checked under a title of its own", () => {
  const titles = lockStoreChecks.map(({ title }) => title);
  expect(titles).toEqual([...new Set(titles)]);
});

test("for each check there is a broken store that it must see", () => {
  const proven = new Set(brokenLockStores.flatMap(({ caughtBy }) => caughtBy));
  expect(proven).toEqual(new Set(lockStoreChecks.map(({ title }) => title)));
});

describe("the suite sees a store that", () => {
  for (const { fault, caughtBy, open } of brokenLockStores) {
    // At once, because some of them keep a check waiting for what never comes.
    test.concurrent(fault, { timeout: 30_000 }, async () => {
      for (const title of caughtBy) {
        const check = lockStoreChecks.find((one) => one.title === title);
        if (check === undefined) throw new Error(`there is no check that "${title}"`);
        await expect(runLockStoreCheck(check, open(openCorrect)), title).rejects.toThrow();
      }
    });
  }
});
