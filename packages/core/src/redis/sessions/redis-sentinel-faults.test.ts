import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { addSession, keyOf } from "../../testing/contract/sessions/fixtures.js";
import { orUnavailable, PromisedLoad } from "../../testing/history/promised-load.js";
import { type RedisSentinels, startRedisSentinels } from "../../testing/redis/redis-sentinel.js";
import { withRedis } from "../../testing/redis/with-redis.js";
import { connectRedis } from "../connection/connect-redis.js";
import { RedisSessionStore } from "./redis-session-store.js";
import type { Durability } from "./whole-store.js";

const DOWN_AFTER_MS = 1_000;

let redis: RedisSentinels;
const stores: RedisSessionStore[] = [];
/** How each store's connection is, and what befell it last. */
const states: (() => string)[] = [];
beforeAll(async () => {
  redis = await startRedisSentinels({ downAfterMs: DOWN_AFTER_MS });
});
afterAll(() => redis.stop());
afterEach(async () => {
  states.length = 0;
  await Promise.all(stores.splice(0).map((store) => store.close()));
});

async function openStore(durability: Durability): Promise<RedisSessionStore> {
  const sentinels = redis.sentinels.map(({ port }) => ({ host: "127.0.0.1", port }));
  const location = { kind: "redis-sentinel", sentinels, masterName: "mymaster", db: 0, tls: false };
  let lastError = "no error";
  const connection = connectRedis({ ...location, kind: "redis-sentinel" }, ({ message }) => {
    lastError = message;
  });
  states.push(() => `${connection.status} after ${lastError}`);
  await once(connection, "ready");
  const store = new RedisSessionStore({ redis: connection, durability });
  stores.push(store);
  return store;
}

/** Sentinels that found no replica fit at first wait a while before they look again. */
async function untilWritable(store: RedisSessionStore): Promise<void> {
  const isWritten = async () => (await orUnavailable(addSession(store))) !== undefined;
  await expect.poll(isWritten, { timeout: 30_000, interval: 20 }).toBe(true);
}

test.each([["killed", "restart"] as const, ["frozen", "resume"] as const])(
  "a primary %s under load is replaced in time, and no promise is broken when it is back",
  { timeout: 120_000 },
  async (_, back) => {
    const [local, replicated] = [await openStore("local"), await openStore("replicated")];
    const load = new PromisedLoad(replicated, 6);
    await sleep(1_000);
    const victim = await redis.primary();
    if (back === "restart") await victim.kill();
    else victim.pause();
    await untilWritable(local).catch(async (cause: unknown) => {
      await redis.waitUntilHealthy(0);
      const found = `their connections are ${states.map((state) => state()).join(", ")}`;
      throw new Error(`a new primary is there, but the stores do not find it: ${found}`, { cause });
    });
    await victim[back]();
    await redis.waitUntilHealthy(30_000);
    await sleep(500);
    await load.stop();
    expect(load.revoked.size).toBeGreaterThan(50);
    expect(await load.broken(local)).toEqual([]);
  },
);

test("a new primary that is announced while a silent sentinel is being asked for it is found", {
  timeout: 120_000,
}, async () => {
  const opened = await Promise.all(Array.from({ length: 8 }, () => openStore("local")));
  const [silent] = redis.sentinels;
  const victim = await redis.primary();
  silent?.pause();
  await victim.kill();
  await Promise.all(opened.map(untilWritable)).finally(() => silent?.resume());
  await victim.restart();
  await redis.waitUntilHealthy(30_000);
});

test("a replica promoted without the last revocation is told of it again", {
  timeout: 120_000,
}, async () => {
  const store = await openStore("local");
  const key = keyOf(await addSession(store));
  const primary = await redis.primary();
  const replicas = redis.nodes.filter((node) => node !== primary);
  await sleep(200);
  // What was sent to a stopped replica would wait in its socket; to one that was cut off it is not sent.
  for (const replica of replicas) replica.pause();
  await withRedis(primary.port, (node) => node.call("client", "kill", "type", "replica"));
  expect(await store.revoke(key, "")).toBe(true);
  await primary.kill();
  for (const replica of replicas) replica.resume();

  const seen: boolean[] = [];
  const look = async () => {
    const isActive = await store.get(key).then(Boolean, () => undefined);
    if (isActive !== undefined) seen.push(isActive);
    return seen.at(-1);
  };
  await expect.poll(look, { timeout: 60_000, interval: 5 }).toBe(false);
  await primary.restart();
  await redis.waitUntilHealthy(30_000);
  expect(await look()).toBe(false);
});
