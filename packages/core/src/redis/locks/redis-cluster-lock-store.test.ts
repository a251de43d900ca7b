import { randomUUID } from "node:crypto";
import { afterAll, beforeAll } from "vitest";
import { describeLockStore } from "../../testing/contract/locks/describe-lock-store.js";
import { connectToCluster } from "../../testing/redis/connect-to.js";
import { type RedisCluster, startRedisCluster } from "../../testing/redis/redis-cluster.js";
import { openRedisStores } from "../open-redis-stores.js";

let cluster: RedisCluster;
beforeAll(async () => {
  cluster = await startRedisCluster();
});
afterAll(() => cluster.stop());

describeLockStore("a Redis Cluster of three primaries and three replicas", async ({ now }) => {
  const options = { keyPrefix: `${randomUUID()}:`, now };
  const stores = openRedisStores({ redis: await connectToCluster(cluster), ...options });
  const peers = openRedisStores({ redis: await connectToCluster(cluster), ...options });
  const dispose = async () => {
    await Promise.all([stores.close(), peers.close()]);
  };
  return { store: stores.locks, peer: peers.locks, dispose };
});
