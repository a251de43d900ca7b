import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { afterAll, beforeAll } from "vitest";
import { describeLockStore } from "../../testing/contract/locks/describe-lock-store.js";
import { type RedisCluster, startRedisCluster } from "../../testing/redis/redis-cluster.js";
import { connectRedis } from "../connection/connect-redis.js";
import { openRedisStores } from "../open-redis-stores.js";

let cluster: RedisCluster;
beforeAll(async () => {
  cluster = await startRedisCluster();
}, 60_000);
afterAll(() => cluster.stop());

async function open(options: { readonly keyPrefix: string; readonly now: () => number }) {
  const nodes = cluster.nodes.map(({ port }) => ({ host: "127.0.0.1", port }));
  const redis = connectRedis({ kind: "redis-cluster", nodes, tls: false }, () => {});
  await once(redis, "ready");
  return openRedisStores({ redis, ...options });
}

describeLockStore("a Redis Cluster of three primaries and three replicas", async ({ now }) => {
  const options = { keyPrefix: `${randomUUID()}:`, now };
  const stores = await open(options);
  const peers = await open(options);
  const dispose = async () => {
    await stores.close();
    await peers.close();
  };
  return { store: stores.locks, peer: peers.locks, dispose };
});
