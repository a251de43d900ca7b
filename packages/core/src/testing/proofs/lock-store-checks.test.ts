import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll } from "vitest";
import { openRedisStores } from "../../redis/index.js";
import { commonLockStoreChecks, tellingLockStoreChecks } from "../contract/locks/lock-checks.js";
import { runLockStoreCheck } from "../contract/locks/lock-store-check.js";
import { connectTo } from "../redis/connect-to.js";
import { type RedisServer, startRedisServer } from "../redis/redis-server.js";
import { brokenLockStores } from "./broken-lock-stores.js";
import { describeProofs } from "./broken-store.js";

// The seed is always the same: a fault that only some of all sequences show is seen every time.
fc.configureGlobal({ endOnFailure: true, seed: 1 });

let server: RedisServer;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

describeProofs({
  checks: [...commonLockStoreChecks, ...tellingLockStoreChecks],
  run: runLockStoreCheck,
  // On Redis, which keeps all of the contract.
  openCorrect: async ({ now }) => {
    const options = { keyPrefix: `${randomUUID()}:`, now };
    const stores = openRedisStores({ redis: await connectTo(server), ...options });
    const peers = openRedisStores({ redis: await connectTo(server), ...options });
    const dispose = async () => {
      await Promise.all([stores.close(), peers.close()]);
    };
    return { store: stores.locks, peer: peers.locks, dispose };
  },
  brokenStores: brokenLockStores,
});
