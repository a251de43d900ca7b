import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RateLimitState } from "../../rate-limits/rate-limit-store.js";
import { describeRateLimitStore } from "../../testing/contract/rate-limits/describe-rate-limit-store.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { connectRedis } from "../connection/connect-redis.js";
import { RedisCommands } from "../connection/redis-commands.js";
import { RedisRateLimitStore } from "./redis-rate-limit-store.js";

const ONE = { cost: 1, countRefused: false };
const HOUR_MS = 3_600_000;

let server: RedisServer;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

async function connect({ port }: RedisServer = server, now?: () => number) {
  const address = { host: "127.0.0.1", port };
  const redis = connectRedis({ kind: "redis", address, db: 0, tls: false }, () => {});
  await once(redis, "ready");
  return new RedisCommands(redis, now);
}

/** A client that shares nothing with the stores. */
async function inspect<T>(use: (redis: Redis) => Promise<T>, { port } = server): Promise<T> {
  const redis = new Redis(port);
  try {
    return await use(redis);
  } finally {
    redis.disconnect();
  }
}

async function countEntries(keyPrefix: string): Promise<number> {
  return inspect(async (redis) => {
    const keys = await redis.keys(`${keyPrefix}*`);
    const counts = await Promise.all(keys.map((key) => redis.zcard(key)));
    return counts.reduce((sum, count) => sum + count, 0);
  });
}

describeRateLimitStore("Redis", async ({ now }) => {
  const keyPrefix = `${randomUUID()}:`;
  const connections = [await connect(server, now), await connect(server, now)] as const;
  const [store, peer] = connections.map((commands) => {
    return new RedisRateLimitStore({ commands, keyPrefix });
  });
  return {
    store: store as RedisRateLimitStore,
    peer: peer as RedisRateLimitStore,
    entries: () => countEntries(keyPrefix),
    async dispose() {
      for (const commands of connections) commands.close();
    },
  };
});

test("of any number of clients of two stores, by the time of Redis, as many are allowed as the limit says", async () => {
  const connections = [await connect(), await connect()];
  const stores = connections.map((commands) => new RedisRateLimitStore({ commands }));
  const windows = [
    { limit: 100, windowMs: HOUR_MS },
    { limit: 7, windowMs: 150 },
  ];
  const startMs = performance.now();
  let allowed = 0;
  await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      while (performance.now() - startMs < 1_000) {
        const { isAllowed } = await (stores[i % 2] as RedisRateLimitStore).check("k", windows, ONE);
        if (isAllowed) allowed++;
      }
    }),
  );
  const members = await inspect((redis) => redis.zrange("rate_limit:k", "0", "-1", "WITHSCORES"));
  const times = members.filter((_, i) => i % 2 === 1).map(Number);
  expect(times).toHaveLength(allowed);
  expect(allowed).toBeGreaterThan(7);
  for (const [i, time] of times.entries()) {
    const seventhAfter = times[i + 7];
    if (seventhAfter !== undefined) expect(seventhAfter - time).toBeGreaterThanOrEqual(150_000);
  }
  for (const commands of connections) commands.close();
});

test("by the time of Redis, an attempt is allowed once it has waited as long as it was told", async () => {
  const commands = await connect();
  const store = new RedisRateLimitStore({ commands });
  const windows = [{ limit: 1, windowMs: 120 }];
  await store.check("waits", windows, ONE);
  for (let i = 0; i < 10; i++) {
    const { retryAfterMs } = await store.check("waits", windows, ONE);
    const { promise, resolve } = Promise.withResolvers<void>();
    // A timer of Node's may be up to a millisecond early.
    setTimeout(resolve, retryAfterMs + 1);
    await promise;
    expect(await store.get("waits", windows, 1)).toMatchObject({ isAllowed: true, remaining: 1 });
    expect((await store.check("waits", windows, ONE)).isAllowed).toBe(true);
  }
  commands.close();
});

test("a key lives as long as what it counts, also where windows have become longer", async () => {
  const commands = await connect();
  const store = new RedisRateLimitStore({ commands });
  const ttl = () => inspect((redis) => redis.pttl("rate_limit:ttl"));
  await store.check("ttl", [{ limit: 1, windowMs: 1 }], ONE);
  expect(await ttl()).toBeGreaterThan(0);
  await store.reset("ttl");
  await store.check("ttl", [{ limit: 1, windowMs: 60_000 }], ONE);
  expect(await ttl()).toBeGreaterThan(59_000);
  expect(await ttl()).toBeLessThan(62_000);
  await store.check("ttl", [{ limit: 1, windowMs: HOUR_MS }], ONE);
  expect(await ttl()).toBeGreaterThan(HOUR_MS - 1_000);
  await store.check("ttl", [{ limit: 1, windowMs: 60_000 }], { cost: 1, countRefused: true });
  expect(await ttl()).toBeGreaterThan(59_000);
  commands.close();
});

test("the greatest limit holds exactly, and answers at once also when it is reached", async () => {
  const commands = await connect();
  const store = new RedisRateLimitStore({ commands });
  const windows = [{ limit: 10_000, windowMs: HOUR_MS }];
  const attempt = { cost: 1, countRefused: true };
  const answers: RateLimitState[] = [];
  // Some at a time: a slow machine takes longer for all of them than one may wait.
  while (answers.length < 12_000) {
    const some = Array.from({ length: 1_000 }, () => store.check("many", windows, attempt));
    answers.push(...(await Promise.all(some)));
  }
  expect(answers.filter(({ isAllowed }) => isAllowed)).toHaveLength(10_000);
  expect(await inspect((redis) => redis.zcard("rate_limit:many"))).toBe(10_000);
  await store.reset("many");
  expect(await store.get("many", windows, 10_000)).toMatchObject({ isAllowed: true });
  commands.close();
});

test("a Redis that is out of memory allows nothing, and still says where keys stand and resets them", async () => {
  await using small = await startRedisServer();
  const commands = await connect(small);
  const store = new RedisRateLimitStore({ commands });
  const windows = [{ limit: 2, windowMs: HOUR_MS }];
  await store.check("ann", windows, ONE);
  await inspect((redis) => redis.call("CONFIG", "SET", "maxmemory", "1"), small);
  for (const countRefused of [false, true]) {
    for (let i = 0; i < 3; i++) {
      await expect(store.check("ann", windows, { cost: 1, countRefused })).rejects.toMatchObject({
        reason: "OVERLOADED",
      });
    }
  }
  expect(await store.get("ann", windows, 1)).toMatchObject({ isAllowed: true, remaining: 1 });
  await store.reset("ann");
  expect(await store.get("ann", windows, 1)).toMatchObject({ remaining: 2 });
  await inspect((redis) => redis.call("CONFIG", "SET", "maxmemory", "0"), small);
  expect(await store.check("ann", windows, ONE)).toMatchObject({ isAllowed: true, remaining: 1 });
  commands.close();
});

test("a Redis that is gone is never an answer", async () => {
  const gone = await startRedisServer();
  const commands = await connect(gone);
  const store = new RedisRateLimitStore({ commands });
  const windows = [{ limit: 2, windowMs: HOUR_MS }];
  await gone.kill();
  const unavailable = { reason: "STORE_UNAVAILABLE" };
  await expect(store.check("ann", windows, ONE)).rejects.toMatchObject(unavailable);
  await expect(store.get("ann", windows, 1)).rejects.toMatchObject(unavailable);
  await expect(store.reset("ann")).rejects.toMatchObject(unavailable);
  commands.close();
});

test("after all this, no key is without a TTL", async () => {
  await inspect(async (redis) => {
    for await (const keys of redis.scanStream() as AsyncIterable<string[]>) {
      for (const key of keys) expect(await redis.pttl(key), key).toBeGreaterThanOrEqual(0);
    }
    expect(await redis.dbsize()).toBeGreaterThan(0);
  });
});
