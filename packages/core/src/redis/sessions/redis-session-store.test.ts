import { randomUUID } from "node:crypto";
import { afterAll, beforeAll } from "vitest";
import { describeSessionStore } from "../../testing/contract/sessions/describe-session-store.js";
import { connectTo } from "../../testing/redis/connect-to.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { RedisSessionStore } from "./redis-session-store.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

describeSessionStore("Redis", async (given) => {
  const keyPrefix = `${randomUUID()}:`;
  const open = async () => {
    return new RedisSessionStore({ ...given, keyPrefix, redis: await connectTo(server) });
  };
  const inspector = await connectTo(server);
  return {
    store: await open(),
    peer: await open(),
    leftovers: async () => (await inspector.keys(`${keyPrefix}*`)).length,
    dispose: async () => inspector.disconnect(),
  };
});
