import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Redis } from "ioredis";
import { afterAll, beforeAll } from "vitest";
import { describeSessionStore } from "../../testing/contract/sessions/describe-session-store.js";
import { type RedisCluster, startRedisCluster } from "../../testing/redis/redis-cluster.js";
import { connectRedis } from "../connection/connect-redis.js";
import { RedisSessionStore } from "./redis-session-store.js";

let cluster: RedisCluster;
beforeAll(async () => {
  // Nothing fails here, and a busy machine is not to be taken for it.
  cluster = await startRedisCluster({ nodeTimeoutMs: 15_000 });
}, 60_000);
afterAll(() => cluster.stop());

async function connect() {
  const nodes = cluster.nodes.map(({ port }) => ({ host: "127.0.0.1", port }));
  const redis = connectRedis({ kind: "redis-cluster", nodes, tls: false }, () => {});
  await once(redis, "ready");
  return redis;
}

async function countKeys(prefix: string): Promise<number> {
  let count = 0;
  for (const { port } of cluster.nodes) {
    const node = new Redis(port);
    const isPrimary = (await node.info("replication")).includes("role:master");
    if (isPrimary) count += (await node.keys(`${prefix}*`)).length;
    node.disconnect();
  }
  return count;
}

describeSessionStore("a Redis Cluster of three primaries and three replicas", async (given) => {
  const keyPrefix = `${randomUUID()}:`;
  const open = async () => new RedisSessionStore({ ...given, keyPrefix, redis: await connect() });
  return { store: await open(), peer: await open(), leftovers: () => countKeys(keyPrefix) };
});
