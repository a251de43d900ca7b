import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { FENCE_RETENTION_MS } from "../../locks/lock-store.js";
import { describeLockStore } from "../../testing/contract/locks/describe-lock-store.js";
import { NAME, take } from "../../testing/contract/locks/lock-fixtures.js";
import { freePort } from "../../testing/network/free-port.js";
import { connectTo } from "../../testing/redis/connect-to.js";
import { RedisProcess } from "../../testing/redis/redis-process.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { withRedis } from "../../testing/redis/with-redis.js";
import { openRedisStores } from "../open-redis-stores.js";

const TTL_MS = 60_000;
const LOCK_KEY = `lock:{${NAME}}`;
const FENCE_KEY = `lock_fence:{${NAME}}`;

let server: RedisServer;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

/** Opens a store; it is closed after the test. */
async function open(
  at: Parameters<typeof connectTo>[0] = server,
  options: { readonly keyPrefix?: string; readonly now?: () => number } = {},
) {
  const stores = openRedisStores({ redis: await connectTo(at), ...options });
  onTestFinished(() => stores.close());
  return stores.locks;
}

describeLockStore("Redis", async ({ now }) => {
  const options = { keyPrefix: `${randomUUID()}:`, now };
  const stores = openRedisStores({ redis: await connectTo(server), ...options });
  const peers = openRedisStores({ redis: await connectTo(server), ...options });
  const dispose = async () => {
    await Promise.all([stores.close(), peers.close()]);
  };
  return { store: stores.locks, peer: peers.locks, dispose };
});

test("a lock that was given back leaves its token for an hour, and a lost one does no harm", async () => {
  const keyPrefix = `${randomUUID()}:`;
  const locks = await open(server, { keyPrefix });
  const keys = () => withRedis(server.port, (redis) => redis.keys(`${keyPrefix}*`));
  const { fencingToken } = await take(locks, "ann");
  expect((await keys()).sort()).toEqual([keyPrefix + LOCK_KEY, keyPrefix + FENCE_KEY]);
  await locks.release(NAME, "ann");
  expect(await keys()).toEqual([keyPrefix + FENCE_KEY]);
  await withRedis(server.port, async (redis) => {
    const ttlMs = await redis.pttl(keyPrefix + FENCE_KEY);
    expect(ttlMs).toBeGreaterThan(FENCE_RETENTION_MS);
    expect(ttlMs).toBeLessThanOrEqual(FENCE_RETENTION_MS + TTL_MS);
    // As in a failover.
    await redis.del(keyPrefix + FENCE_KEY);
  });
  await sleep(5);
  expect((await take(locks, "bob")).fencingToken).toBeGreaterThan(fencingToken);
});

test("Redis restarted with its append-only file still has the lock, and its tokens go on", async () => {
  const redis = await RedisProcess.start({
    port: await freePort(),
    args: ["--appendonly", "yes", "--appendfsync", "always"],
  });
  // A clock that stands still, so that only the token that was kept makes the next one higher.
  const now = Date.now() + 60_000;
  const ann = await take(await open(redis, { now: () => now }), "ann");
  await redis.kill();
  await redis.restart();
  const locks = await open(redis, { now: () => now });
  expect(await locks.acquire(NAME, "bob", TTL_MS)).toMatchObject({ occupied: true });
  expect(await locks.release(NAME, "ann")).toBe(true);
  expect((await take(locks, "bob")).fencingToken).toBe(ann.fencingToken + 1);
  await redis.remove("SIGKILL");
});

test("a Redis that is out of memory still lets locks be renewed and given back", async () => {
  await using small = await startRedisServer({ args: ["--maxmemory-policy", "noeviction"] });
  const locks = await open(small);
  await take(locks, "ann");
  await withRedis(small.port, (redis) => redis.config("SET", "maxmemory", "1"));
  const refused = locks.acquire("another", "ann", TTL_MS);
  await expect(refused).rejects.toMatchObject({ reason: "OVERLOADED" });
  expect(await locks.renew(NAME, "ann", TTL_MS)).toBeDefined();
  expect(await locks.release(NAME, "ann")).toBe(true);
});

test("a user of Redis who may not publish can still give locks back", async () => {
  const username = randomUUID();
  const rules = ["on", ">secret", "~*", "+@all", "-publish"];
  await withRedis(server.port, (redis) => redis.call("ACL", "SETUSER", username, ...rules));
  const at = { port: server.port, username, password: "secret" };
  const locks = await open(at, { keyPrefix: `${username}:` });
  await take(locks, "ann");
  expect(await locks.release(NAME, "ann")).toBe(true);
  expect(await locks.get(NAME)).toBeUndefined();
});
