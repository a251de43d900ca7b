import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { describeRateLimitStore } from "../../testing/contract/rate-limits/describe-rate-limit-store.js";
import { connectTo } from "../../testing/redis/connect-to.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { withRedis } from "../../testing/redis/with-redis.js";
import { openRedisStores } from "../open-redis-stores.js";

const ONE = { cost: 1, countRefused: false };
const HOUR_MS = 3_600_000;
const TWO_AN_HOUR = [{ limit: 2, windowMs: HOUR_MS }];

let server: RedisServer;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

/** A store by the time of Redis; it is closed after the test. */
async function open(at: RedisServer = server) {
  const stores = openRedisStores({ redis: await connectTo(at) });
  onTestFinished(() => stores.close());
  return stores.rateLimits;
}

describeRateLimitStore("Redis", async ({ now }) => {
  const options = { keyPrefix: `${randomUUID()}:`, now };
  const stores = openRedisStores({ redis: await connectTo(server), ...options });
  const peers = openRedisStores({ redis: await connectTo(server), ...options });
  return {
    store: stores.rateLimits,
    peer: peers.rateLimits,
    entries: () =>
      withRedis(server.port, async (redis) => {
        const keys = await redis.keys(`${options.keyPrefix}*`);
        const counts = await Promise.all(keys.map((key) => redis.zcard(key)));
        return counts.reduce((sum, count) => sum + count, 0);
      }),
    async dispose() {
      await Promise.all([stores.close(), peers.close()]);
    },
  };
});

test("of any number of clients of two stores, by the time of Redis, as many are allowed as the limit says", async () => {
  const stores = [await open(), await open()];
  const windows = [
    { limit: 100, windowMs: HOUR_MS },
    { limit: 7, windowMs: 150 },
  ];
  const startMs = performance.now();
  let allowed = 0;
  await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      while (performance.now() - startMs < 1_000) {
        if ((await stores[i % 2]?.check("k", windows, ONE))?.isAllowed) allowed++;
      }
    }),
  );
  const members = await withRedis(server.port, (redis) =>
    redis.zrange("rate_limit:k", "0", "-1", "WITHSCORES"),
  );
  const times = members.filter((_, i) => i % 2 === 1).map(Number);
  expect(times).toHaveLength(allowed);
  expect(allowed).toBeGreaterThan(7);
  for (const [i, time] of times.entries()) {
    expect((times[i + 7] ?? Infinity) - time).toBeGreaterThanOrEqual(150_000);
  }
});

test("by the time of Redis, an attempt is allowed once it has waited as long as it was told", async () => {
  const store = await open();
  const windows = [{ limit: 1, windowMs: 120 }];
  await store.check("waits", windows, ONE);
  for (let i = 0; i < 10; i++) {
    const { retryAfterMs } = await store.check("waits", windows, ONE);
    // A timer of Node's may be up to a millisecond early.
    await sleep(retryAfterMs + 1);
    expect(await store.get("waits", windows, 1)).toMatchObject({ isAllowed: true, remaining: 1 });
    expect((await store.check("waits", windows, ONE)).isAllowed).toBe(true);
  }
});

test("a key lives as long as what it counts, also where windows have become longer", async () => {
  const store = await open();
  const ttlAfter = async (windowMs: number, countRefused = false) => {
    await store.check("ttl", [{ limit: 1, windowMs }], { cost: 1, countRefused });
    return withRedis(server.port, (redis) => redis.pttl("rate_limit:ttl"));
  };
  expect(await ttlAfter(1)).toBeGreaterThan(0);
  await store.reset("ttl");
  const minuteMs = await ttlAfter(60_000);
  expect(minuteMs).toBeGreaterThan(59_000);
  expect(minuteMs).toBeLessThan(62_000);
  expect(await ttlAfter(HOUR_MS)).toBeGreaterThan(HOUR_MS - 1_000);
  expect(await ttlAfter(60_000, true)).toBeGreaterThan(59_000);
});

test("the greatest limit holds exactly, and answers at once also when it is reached", async () => {
  const store = await open();
  const windows = [{ limit: 10_000, windowMs: HOUR_MS }];
  let allowed = 0;
  // Some at a time: a slow machine takes longer for all of them than one may wait.
  for (let tried = 0; tried < 12_000; tried += 1_000) {
    const answers = await Promise.all(
      Array.from({ length: 1_000 }, () =>
        store.check("many", windows, { cost: 1, countRefused: true }),
      ),
    );
    allowed += answers.filter(({ isAllowed }) => isAllowed).length;
  }
  expect(allowed).toBe(10_000);
  expect(await withRedis(server.port, (redis) => redis.zcard("rate_limit:many"))).toBe(10_000);
  await store.reset("many");
  expect(await store.get("many", windows, 10_000)).toMatchObject({ isAllowed: true });
});

test("a Redis that is out of memory allows nothing, and still says where keys stand and resets them", async () => {
  await using small = await startRedisServer();
  const store = await open(small);
  const limitMemory = (bytes: string) =>
    withRedis(small.port, (redis) => redis.config("SET", "maxmemory", bytes));
  await store.check("ann", TWO_AN_HOUR, ONE);
  await limitMemory("1");
  for (const countRefused of [false, true, false, true]) {
    const attempt = store.check("ann", TWO_AN_HOUR, { cost: 1, countRefused });
    await expect(attempt).rejects.toMatchObject({ reason: "OVERLOADED" });
  }
  expect(await store.get("ann", TWO_AN_HOUR, 1)).toMatchObject({ isAllowed: true, remaining: 1 });
  await store.reset("ann");
  expect(await store.get("ann", TWO_AN_HOUR, 1)).toMatchObject({ remaining: 2 });
  await limitMemory("0");
  expect(await store.check("ann", TWO_AN_HOUR, ONE)).toMatchObject({ isAllowed: true });
});

test("a Redis that is gone is never an answer", async () => {
  const gone = await startRedisServer();
  const store = await open(gone);
  await gone.kill();
  const unavailable = { reason: "STORE_UNAVAILABLE" };
  await expect(store.check("ann", TWO_AN_HOUR, ONE)).rejects.toMatchObject(unavailable);
  await expect(store.get("ann", TWO_AN_HOUR, 1)).rejects.toMatchObject(unavailable);
  await expect(store.reset("ann")).rejects.toMatchObject(unavailable);
});

test("after all this, no key is without a TTL", async () => {
  await withRedis(server.port, async (redis) => {
    const keys = await redis.keys("*");
    expect(keys.length).toBeGreaterThan(0);
    for (const key of keys) expect(await redis.pttl(key), key).toBeGreaterThanOrEqual(0);
  });
});
