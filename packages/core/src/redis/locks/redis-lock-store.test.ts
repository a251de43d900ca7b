import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FENCE_RETENTION_MS } from "../../locks/lock-store.js";
import { describeLockStore } from "../../testing/contract/locks/describe-lock-store.js";
import { freePort } from "../../testing/network/free-port.js";
import { RedisProcess } from "../../testing/redis/redis-process.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { connectRedis } from "../connection/connect-redis.js";
import { openRedisStores } from "../open-redis-stores.js";

let server: RedisServer;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

async function open(options: { port?: number; keyPrefix?: string; now?: () => number } = {}) {
  const { port = server.port, ...rest } = options;
  const redis = connectRedis(
    { kind: "redis", address: { host: "127.0.0.1", port }, db: 0, tls: false },
    () => {},
  );
  await once(redis, "ready");
  return openRedisStores({ redis, ...rest });
}

describeLockStore("Redis", async ({ now }) => {
  const keyPrefix = `${randomUUID()}:`;
  const stores = await open({ keyPrefix, now });
  const peers = await open({ keyPrefix, now });
  const dispose = async () => {
    await stores.close();
    await peers.close();
  };
  return { store: stores.locks, peer: peers.locks, dispose };
});

async function acquired(stores: Awaited<ReturnType<typeof open>>, lockId: string) {
  const answer = await stores.locks.acquire("invoices", lockId, 60_000);
  if ("occupied" in answer) throw new Error("it is held");
  return answer;
}

test("a lock that was given back leaves its token, which Redis forgets 30 days later", async () => {
  const keyPrefix = `${randomUUID()}:`;
  const stores = await open({ keyPrefix });
  const redis = new Redis(server.port);
  await acquired(stores, "ann");
  const keys = [`${keyPrefix}lock:{invoices}`, `${keyPrefix}lock_fence:{invoices}`];
  expect((await redis.keys(`${keyPrefix}*`)).sort()).toEqual(keys);
  await stores.locks.release("invoices", "ann");
  expect(await redis.keys(`${keyPrefix}*`)).toEqual(keys.slice(1));
  const ttlMs = await redis.pttl(keys[1] ?? "");
  expect(ttlMs).toBeGreaterThan(FENCE_RETENTION_MS);
  expect(ttlMs).toBeLessThanOrEqual(FENCE_RETENTION_MS + 60_000);
  redis.disconnect();
  await stores.close();
});

test("tokens grow when the last one is lost, as in a failover", async () => {
  const keyPrefix = `${randomUUID()}:`;
  const stores = await open({ keyPrefix });
  const redis = new Redis(server.port);
  const before = await acquired(stores, "ann");
  await stores.locks.release("invoices", "ann");
  await redis.del(`${keyPrefix}lock_fence:{invoices}`);
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect((await acquired(stores, "bob")).fencingToken).toBeGreaterThan(before.fencingToken);
  redis.disconnect();
  await stores.close();
});

test("Redis restarted with its append-only file still has the lock, and its tokens go on", async () => {
  const redis = await RedisProcess.start({
    port: await freePort(),
    args: ["--appendonly", "yes", "--appendfsync", "always"],
  });
  // A clock that stands still, so that only the token that was kept makes the next one higher.
  const now = Date.now() + 60_000;
  const before = await open({ port: redis.port, now: () => now });
  const ann = await acquired(before, "ann");
  await before.close();
  await redis.kill();
  await redis.restart();
  const after = await open({ port: redis.port, now: () => now });
  await expect(acquired(after, "bob")).rejects.toThrow("it is held");
  expect(await after.locks.release("invoices", "ann")).toBe(true);
  expect((await acquired(after, "bob")).fencingToken).toBe(ann.fencingToken + 1);
  await after.close();
  await redis.remove("SIGKILL");
});

test("a Redis that is out of memory still lets locks be renewed and given back", async () => {
  await using small = await startRedisServer({ args: ["--maxmemory-policy", "noeviction"] });
  const stores = await open({ port: small.port });
  await acquired(stores, "ann");
  const redis = new Redis(small.port);
  await redis.config("SET", "maxmemory", "1");
  const refused = stores.locks.acquire("another", "ann", 60_000);
  await expect(refused).rejects.toMatchObject({ reason: "OVERLOADED" });
  expect(await stores.locks.renew("invoices", "ann", 60_000)).toBeDefined();
  expect(await stores.locks.release("invoices", "ann")).toBe(true);
  redis.disconnect();
  await stores.close();
});

test("a user of Redis who may not publish can still give locks back", async () => {
  const redis = new Redis(server.port);
  const name = randomUUID();
  await redis.call("ACL", "SETUSER", name, "on", ">secret", "~*", "+@all", "-publish");
  const connection = connectRedis(
    {
      kind: "redis",
      address: { host: "127.0.0.1", port: server.port },
      ...{ db: 0, tls: false, username: name, password: "secret" },
    },
    () => {},
  );
  await once(connection, "ready");
  const stores = openRedisStores({ redis: connection, keyPrefix: `${name}:` });
  await acquired(stores, "ann");
  expect(await stores.locks.release("invoices", "ann")).toBe(true);
  expect(await stores.locks.get("invoices")).toBeUndefined();
  redis.disconnect();
  await stores.close();
});
