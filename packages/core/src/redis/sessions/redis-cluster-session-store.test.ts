import { randomUUID } from "node:crypto";
import type { Cluster } from "ioredis";
import { afterAll, beforeAll } from "vitest";
import { describeSessionStore } from "../../testing/contract/sessions/describe-session-store.js";
import { connectToCluster } from "../../testing/redis/connect-to.js";
import { type RedisCluster, startRedisCluster } from "../../testing/redis/redis-cluster.js";
import { RedisSessionStore } from "./redis-session-store.js";

let cluster: RedisCluster;
let inspector: Cluster;
beforeAll(async () => {
  // Nothing fails here, and a busy machine is not to be taken for it.
  cluster = await startRedisCluster({ nodeTimeoutMs: 15_000 });
  inspector = await connectToCluster(cluster);
});
afterAll(async () => {
  inspector.disconnect();
  await cluster.stop();
});

describeSessionStore("a Redis Cluster of three primaries and three replicas", async (given) => {
  const keyPrefix = `${randomUUID()}:`;
  const open = async () => {
    return new RedisSessionStore({ ...given, keyPrefix, redis: await connectToCluster(cluster) });
  };
  return {
    store: await open(),
    peer: await open(),
    async leftovers() {
      const primaries = inspector.nodes("master").map((node) => node.keys(`${keyPrefix}*`));
      return (await Promise.all(primaries)).flat().length;
    },
  };
});
