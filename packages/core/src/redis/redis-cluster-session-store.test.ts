import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, vi } from "vitest";
import { describeSessionStore } from "../testing/describe-session-store.js";
import { type RedisServer, startRedisServer } from "../testing/redis-server.js";
import { connectRedis } from "./connect-redis.js";
import { RedisSessionStore } from "./redis-session-store.js";

// One node that has all slots refuses keys of different slots in one command or
// script just as a larger cluster does.
let server: RedisServer;
beforeAll(async () => {
  const args = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"];
  server = await startRedisServer({ args });
  const node = new Redis(server.url);
  await node.cluster("ADDSLOTSRANGE", 0, 16383);
  await vi.waitFor(async () => expect(await node.cluster("INFO")).toContain("cluster_state:ok"), {
    timeout: 10_000,
  });
  node.disconnect();
});
afterAll(() => server.stop());

async function connect() {
  const nodes = [{ host: "127.0.0.1", port: server.port }];
  const cluster = connectRedis({ kind: "redis-cluster", nodes, tls: false }, () => {});
  await once(cluster, "ready");
  return cluster;
}

describeSessionStore("Redis Cluster", async ({ now, retentionMs }) => {
  const options = { now, retentionMs, keyPrefix: `${randomUUID()}:` };
  const inspector = new Redis(server.url);
  return {
    store: new RedisSessionStore({ ...options, redis: await connect() }),
    peer: new RedisSessionStore({ ...options, redis: await connect() }),
    leftovers: async () => (await inspector.keys(`${options.keyPrefix}*`)).length,
    dispose: async () => inspector.disconnect(),
  };
});
