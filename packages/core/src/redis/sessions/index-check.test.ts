import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { partitionOfUser } from "../../sessions/session-id.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { connectRedis } from "../connection/connect-redis.js";
import { RedisSessionStore } from "./redis-session-store.js";

const LIMIT = { maxSessionsPerUser: 10, policy: "reject" } as const;
const PARTITION = partitionOfUser("ada");

let server: RedisServer;
let redis: Redis;
let store: RedisSessionStore;
let others: RedisSessionStore[];

beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

beforeEach(async () => {
  redis = await connect();
  await redis.flushall();
  store = new RedisSessionStore({ redis });
  others = [];
  for (const id of ["one", "two"]) await create(id);
});
afterEach(() => Promise.all([store, ...others].map((opened) => opened.close())));

async function connect(): Promise<Redis> {
  const address = { host: "127.0.0.1", port: server.port };
  const connection = connectRedis({ kind: "redis", address, db: 0, tls: false }, () => {});
  await once(connection, "ready");
  return connection as Redis;
}

/** Another store of the same sessions, which keeps ended ones for a time of its own. */
async function openWithRetention(retentionMs: number): Promise<RedisSessionStore> {
  const other = new RedisSessionStore({ redis: await connect(), retentionMs });
  others.push(other);
  return other;
}

function create(id: string, creator = store) {
  const times = { idleTimeoutMs: 60_000, lifetimeMs: 60_000 };
  const key = { partition: PARTITION, id };
  const session = { key, userId: "ada", record: Buffer.of(1), tokenHash: Buffer.of(2), ...times };
  return creator.create(session, LIMIT);
}

test("a sound index is left as it is", async () => {
  expect(await store.sweep(10)).toEqual({ reclaimed: 0, healed: 0, more: false });
});

test.each([
  ["of all sessions", `sessions:{${PARTITION}}`],
  ["of a user", `user_sessions:{${PARTITION}}:ada`],
  ["by creation time", `sessions_by_create_time:{${PARTITION}}`],
])("a session missing from the index %s is put back", async (_which, index) => {
  const before = await redis.zrange(index, "0", "-1", "WITHSCORES");
  await redis.zrem(index, "one");
  expect(await store.sweep(10)).toMatchObject({ healed: 1 });
  expect(await redis.zrange(index, "0", "-1", "WITHSCORES")).toEqual(before);
});

test("an index that is gone as a whole is made anew, with its expiry", async () => {
  await redis.del(`user_sessions:{${PARTITION}}:ada`);
  expect(await store.count("ada")).toBe(0);
  expect(await store.sweep(10)).toMatchObject({ healed: 2 });
  expect(await store.count("ada")).toBe(2);
  expect(await redis.pttl(`user_sessions:{${PARTITION}}:ada`)).toBeGreaterThan(60_000);
});

test("entries of a session that somebody deleted go from every index", async () => {
  await redis.del(`session:{${PARTITION}}:one`);
  expect([await store.count("ada"), await store.count()]).toEqual([2, 2]);
  expect(await store.sweep(10)).toMatchObject({ healed: 3 });
  expect([await store.count("ada"), await store.count()]).toEqual([1, 1]);
  expect(await redis.zrange(`sessions_by_create_time:{${PARTITION}}`, "0", "-1")).toEqual(["two"]);
});

test("a deadline that disagrees with the session is put right", async () => {
  await redis.zadd(`sessions:{${PARTITION}}`, 1e15, "one");
  expect(await store.sweep(10)).toMatchObject({ healed: 1 });
  const key = { partition: PARTITION, id: "one" };
  const expireTimeMs = (await store.get(key))?.expireTimeMs;
  expect(await redis.zscore(`sessions:{${PARTITION}}`, "one")).toBe(`${expireTimeMs}`);
});

test("drift anywhere in a large index is found in a few sweeps", async () => {
  const lost = Array.from({ length: 2_000 }, (_, i) => `lost-${i}`);
  await redis.zadd(`sessions:{${PARTITION}}`, ...lost.flatMap((id) => [9e12, id]));
  for (let i = 0; i < 40; i++) await store.sweep(10);
  expect(await redis.zrange(`sessions:{${PARTITION}}`, "0", "-1")).toEqual(["one", "two"]);
});

// A login clears the user's own index of what is over, before the sweep has come to the
// session itself. The check took that for drift, put the entry back and said so.
test("a login after the retention and before the sweep leaves nothing to put right", async () => {
  const brief = await openWithRetention(1);
  await brief.revoke({ partition: PARTITION, id: "one" }, "");
  await sleep(20);
  await create("three", brief);
  expect(await redis.zrange(`user_sessions:{${PARTITION}}:ada`, "0", "-1")).toEqual([
    "two",
    "three",
  ]);
  expect(await brief.sweep(10)).toEqual({ reclaimed: 1, healed: 0, more: false });
});

// The time before which things are over was then negative, and its negative "--1".
test("a retention that reaches back to before 1970 keeps everything, and breaks nothing", async () => {
  const patient = await openWithRetention(60 * 366 * 86_400_000);
  await create("three", patient);
  expect(await patient.revoke({ partition: PARTITION, id: "one" }, "")).toBe(true);
  expect(await patient.sweep(10)).toEqual({ reclaimed: 0, healed: 0, more: false });
  const query = { showExpired: true, showRevoked: true, order: "asc", limit: 10 } as const;
  const { sessions } = await patient.list({ ...query, userId: "ada" });
  expect(sessions.map(({ id }) => id)).toEqual(["one", "two", "three"]);
});

// One hash of an earlier version had every sweep fail at its partition.
test("a hash that is no session is none, and leaves the indexes", async () => {
  const key = { partition: PARTITION, id: "foreign" };
  await redis.hset(`session:{${PARTITION}}:foreign`, {
    user_id: "ada",
    version: 1,
    expire_time: 1,
  });
  for (const index of ["sessions", "sessions_by_create_time"]) {
    await redis.zadd(`${index}:{${PARTITION}}`, 1, "foreign");
  }
  expect(await store.get(key)).toBeUndefined();
  expect(await store.revoke(key, "")).toBe(false);
  const query = { showExpired: true, showRevoked: true, order: "asc", limit: 10 } as const;
  const { sessions } = await store.list(query);
  expect(sessions.map(({ id }) => id)).toEqual(["one", "two"]);
  expect(await store.sweep(10)).toEqual({ reclaimed: 0, healed: 2, more: false });
  expect(await redis.zrange(`sessions:{${PARTITION}}`, "0", "-1")).toEqual(["one", "two"]);
});
