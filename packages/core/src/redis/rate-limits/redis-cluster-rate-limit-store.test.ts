import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeRateLimitStore } from "../../testing/contract/rate-limits/describe-rate-limit-store.js";
import { type RedisCluster, startRedisCluster } from "../../testing/redis/redis-cluster.js";
import { connectRedis } from "../connection/connect-redis.js";
import { RedisCommands } from "../connection/redis-commands.js";
import { RedisRateLimitStore } from "./redis-rate-limit-store.js";

let cluster: RedisCluster;
beforeAll(async () => {
  cluster = await startRedisCluster();
}, 60_000);
afterAll(() => cluster.stop());

async function connect(now?: () => number): Promise<RedisCommands> {
  const nodes = cluster.nodes.map(({ port }) => ({ host: "127.0.0.1", port }));
  const redis = connectRedis({ kind: "redis-cluster", nodes, tls: false }, () => {});
  await once(redis, "ready");
  return new RedisCommands(redis, now);
}

/** What `ask` answers of each key of the primaries. */
async function ofEachKey(
  pattern: string,
  ask: (node: Redis, key: string) => Promise<number>,
): Promise<number[]> {
  const answers: number[] = [];
  for (const { port } of cluster.nodes) {
    const node = new Redis(port);
    if ((await node.info("replication")).includes("role:master")) {
      for (const key of await node.keys(pattern)) answers.push(await ask(node, key));
    }
    node.disconnect();
  }
  return answers;
}

describeRateLimitStore("a Redis Cluster of three primaries and three replicas", async (given) => {
  const keyPrefix = `${randomUUID()}:`;
  const connections = [await connect(given.now), await connect(given.now)] as const;
  return {
    store: new RedisRateLimitStore({ keyPrefix, commands: connections[0] }),
    peer: new RedisRateLimitStore({ keyPrefix, commands: connections[1] }),
    async entries() {
      const counts = await ofEachKey(`${keyPrefix}*`, (node, key) => node.zcard(key));
      return counts.reduce((sum, count) => sum + count, 0);
    },
    async dispose() {
      for (const commands of connections) commands.close();
    },
  };
});

test("after all this, no key is without a TTL", async () => {
  const ttls = await ofEachKey("*", (node, key) => node.pttl(key));
  expect(ttls.length).toBeGreaterThan(0);
  expect(Math.min(...ttls)).toBeGreaterThanOrEqual(0);
});
