import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { afterAll, beforeAll } from "vitest";
import { describeSessionStore } from "../../testing/contract/sessions/describe-session-store.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { connectRedis } from "../connection/connect-redis.js";
import { RedisSessionStore } from "./redis-session-store.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

async function connect() {
  const redis = connectRedis(
    { kind: "redis", address: { host: "127.0.0.1", port: server.port }, db: 0, tls: false },
    () => {},
  );
  await once(redis, "ready");
  return redis;
}

describeSessionStore("Redis", async ({ now, retentionMs }) => {
  const keyPrefix = `${randomUUID()}:`;
  const options = { now, retentionMs, keyPrefix };
  const inspector = await connect();
  const keys = () => inspector.keys(`${keyPrefix}*`);
  return {
    store: new RedisSessionStore({ ...options, redis: await connect() }),
    peer: new RedisSessionStore({ ...options, redis: await connect() }),
    leftovers: async () => (await keys()).length,
    dispose: async () => inspector.disconnect(),
  };
});
