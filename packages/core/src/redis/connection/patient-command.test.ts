import { setImmediate } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { addSession, keyOf } from "../../testing/contract/sessions/fixtures.js";
import { connectTo } from "../../testing/redis/connect-to.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { RedisSessionStore } from "../sessions/redis-session-store.js";
import { COMMAND_TIMEOUT_MS } from "./connect-redis.js";

let server: RedisServer;
let store: RedisSessionStore;
beforeAll(async () => {
  server = await startRedisServer();
  store = new RedisSessionStore({ redis: await connectTo(server) });
});
afterAll(async () => {
  await store.close();
  await server.stop();
});

/** Keeps this process from running anything else. */
function block(ms: number): void {
  const endMs = performance.now() + ms;
  while (performance.now() < endMs);
}

test("a Redis that answers at once is not blamed if the server itself is busy for a second", async () => {
  const session = await addSession(store, { userId: "ada" });
  const calls = [store.get(keyOf(session)), store.touch(keyOf(session)), store.check()];
  // The commands are sent now, and no answer is read yet.
  await setImmediate();
  block(COMMAND_TIMEOUT_MS + 100);
  const [read, touched] = await Promise.all(calls);
  expect([read, touched]).toMatchObject([{ userId: "ada" }, { userId: "ada" }]);
});
