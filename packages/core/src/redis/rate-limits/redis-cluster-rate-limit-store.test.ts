import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeRateLimitStore } from "../../testing/contract/rate-limits/describe-rate-limit-store.js";
import { connectToCluster } from "../../testing/redis/connect-to.js";
import { type RedisCluster, startRedisCluster } from "../../testing/redis/redis-cluster.js";
import { openRedisStores } from "../open-redis-stores.js";

let cluster: RedisCluster;
beforeAll(async () => {
  cluster = await startRedisCluster();
});
afterAll(() => cluster.stop());

/** What `ask` answers of each key of the primaries. */
async function ofEachKey(
  pattern: string,
  ask: (node: Redis, key: string) => Promise<number>,
): Promise<number[]> {
  const inspector = await connectToCluster(cluster);
  const answers = inspector.nodes("master").map(async (node) => {
    return Promise.all((await node.keys(pattern)).map((key) => ask(node, key)));
  });
  const all = (await Promise.all(answers)).flat();
  inspector.disconnect();
  return all;
}

describeRateLimitStore("a Redis Cluster of three primaries and three replicas", async ({ now }) => {
  const options = { keyPrefix: `${randomUUID()}:`, now };
  const stores = openRedisStores({ redis: await connectToCluster(cluster), ...options });
  const peers = openRedisStores({ redis: await connectToCluster(cluster), ...options });
  return {
    store: stores.rateLimits,
    peer: peers.rateLimits,
    async entries() {
      const counts = await ofEachKey(`${options.keyPrefix}*`, (node, key) => node.zcard(key));
      return counts.reduce((sum, count) => sum + count, 0);
    },
    async dispose() {
      await Promise.all([stores.close(), peers.close()]);
    },
  };
});

test("after all this, no key is without a TTL", async () => {
  const ttls = await ofEachKey("*", (node, key) => node.pttl(key));
  expect(ttls.length).toBeGreaterThan(0);
  expect(Math.min(...ttls)).toBeGreaterThanOrEqual(0);
});
