import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { partitionOfUser } from "../../sessions/session-id.js";
import { addSession, EVERYTHING, idsOf, keyOf } from "../../testing/contract/sessions/fixtures.js";
import { connectTo } from "../../testing/redis/connect-to.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { RedisSessionStore } from "./redis-session-store.js";

const TAG = `{${partitionOfUser("ada")}}`;
const ALL = `sessions:${TAG}`;
const OF_USER = `user_sessions:${TAG}:ada`;
const BY_CREATION = `sessions_by_create_time:${TAG}`;
const SOUND = { expired: 0, reclaimed: 0, healed: 0, more: false };
const ONE = keyOf({ userId: "ada", id: "one" });

let server: RedisServer;
let redis: Redis;
let store: RedisSessionStore;

beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

beforeEach(async () => {
  redis = await connectTo(server);
  await redis.flushall();
  store = await open();
  for (const id of ["one", "two"]) await create(id);
});

/** Opens a store of the same sessions, which may keep ended ones for a time of its own. */
async function open(options: { readonly retentionMs?: number } = {}): Promise<RedisSessionStore> {
  const opened = new RedisSessionStore({ redis: await connectTo(server), ...options });
  onTestFinished(() => opened.close());
  return opened;
}

function create(id: string, creator = store) {
  return addSession(creator, { userId: "ada", id, lifetimeMs: 60_000 });
}

function entriesOf(index: string): Promise<string[]> {
  return redis.zrange(index, "0", "-1");
}

async function idsListed(from = store): Promise<string[]> {
  return idsOf((await from.list({ ...EVERYTHING, limit: 10 })).sessions);
}

test.each([ALL, OF_USER, BY_CREATION])("a session missing from %s is put back", async (index) => {
  expect(await store.sweep(10), "a sound index is left as it is").toEqual(SOUND);
  const before = await redis.zrange(index, "0", "-1", "WITHSCORES");
  await redis.zrem(index, "one");
  expect(await store.sweep(10)).toMatchObject({ healed: 1 });
  expect(await redis.zrange(index, "0", "-1", "WITHSCORES")).toEqual(before);
});

test("an index that is gone as a whole is made anew, with its expiry", async () => {
  await redis.del(OF_USER);
  expect(await store.count("ada")).toBe(0);
  expect(await store.sweep(10)).toMatchObject({ healed: 2 });
  expect(await store.count("ada")).toBe(2);
  expect(await redis.pttl(OF_USER)).toBeGreaterThan(60_000);
});

test("entries of a session that somebody deleted go from every index", async () => {
  await redis.del(`session:${TAG}:one`);
  expect([await store.count("ada"), await store.count()]).toEqual([2, 2]);
  expect(await store.sweep(10)).toMatchObject({ healed: 3 });
  expect([await store.count("ada"), await store.count()]).toEqual([1, 1]);
  expect(await entriesOf(BY_CREATION)).toEqual(["two"]);
});

test("a deadline that disagrees with the session is put right", async () => {
  await redis.zadd(ALL, 1e15, "one");
  expect(await store.sweep(10)).toMatchObject({ healed: 1 });
  const expireTimeMs = (await store.get(ONE))?.expireTimeMs;
  expect(await redis.zscore(ALL, "one")).toBe(`${expireTimeMs}`);
});

test("the lost reference of a chosen id is restored, unless the id is another user's by now", async () => {
  const ref = "session_ref:one";
  const [before, ttlMs] = [await redis.get(ref), await redis.pttl(ref)];
  await redis.del(ref, "session_ref:two");
  await addSession(store, { userId: "bob", id: "two" });
  expect(await store.partitionOf("one")).toBeUndefined();
  expect(await store.sweep(10)).toMatchObject({ healed: 1 });
  expect(await store.partitionOf("one")).toBe(before?.slice(0, 2));
  expect(await redis.pttl(ref)).toBeGreaterThan(ttlMs - 10_000);
  expect(await store.partitionOf("two")).toBe(partitionOfUser("bob"));
  expect(await store.sweep(10)).toEqual(SOUND);
});

// The score alone tells that a session was counted. With its deadline put back it would count twice.
test("an expired session that a sweep has counted is sound, and is not counted again", async () => {
  const brief = await addSession(store, { userId: "ada", id: "brief", idleTimeoutMs: 1 });
  await sleep(20);
  expect(await store.sweep(10)).toEqual({ ...SOUND, expired: 1 });
  expect(await redis.zscore(ALL, "brief")).toBe(`-${brief.expireTimeMs}`);
  expect(await redis.zscore(OF_USER, "brief")).toBe(`-${brief.expireTimeMs}`);
  expect(await store.sweep(10)).toEqual(SOUND);
  await redis.zadd(OF_USER, brief.expireTimeMs, "brief");
  expect(await store.sweep(10)).toEqual({ ...SOUND, healed: 1 });
  expect(await store.sweep(10)).toEqual(SOUND);
});

test("drift anywhere in a large index is found in a few sweeps", async () => {
  const lost = Array.from({ length: 2_000 }, (_, i) => `lost-${i}`);
  await redis.zadd(ALL, ...lost.flatMap((id) => [9e12, id]));
  for (let i = 0; i < 40; i++) await store.sweep(10);
  expect(await entriesOf(ALL)).toEqual(["one", "two"]);
});

// A login clears the user's own index of what is over, before the sweep has come to the
// session itself. The check took that for drift, put the entry back and said so.
test("a login after the retention and before the sweep leaves nothing to put right", async () => {
  const brief = await open({ retentionMs: 1 });
  await brief.revoke(ONE, "");
  await sleep(20);
  await create("three", brief);
  expect(await entriesOf(OF_USER)).toEqual(["two", "three"]);
  expect(await brief.sweep(10)).toEqual({ expired: 0, reclaimed: 1, healed: 0, more: false });
});

// The time before which things are over was then negative, and its negative "--1".
test("a retention that reaches back to before 1970 keeps everything, and breaks nothing", async () => {
  const patient = await open({ retentionMs: 60 * 366 * 86_400_000 });
  await create("three", patient);
  expect(await patient.revoke(ONE, "")).toBe(true);
  expect(await patient.sweep(10)).toEqual(SOUND);
  expect(await idsListed(patient)).toEqual(["one", "two", "three"]);
});

// One hash of an earlier version had every sweep fail at its partition.
test("what is no session is none, and leaves the indexes", async () => {
  await redis.hset(`session:${TAG}:hash`, { user_id: "ada", version: 1, expire_time: 1 });
  await redis.set(`session:${TAG}:text`, "x".repeat(200));
  await redis.set(`session:${TAG}:brief`, "\x01");
  await redis.set(`session:${TAG}:cut`, `\x01${"x".repeat(200)}`);
  for (const id of ["hash", "text", "brief", "cut"]) {
    for (const index of [ALL, BY_CREATION]) await redis.zadd(index, 1, id);
    expect(await store.get({ ...ONE, id })).toBeUndefined();
    expect(await store.revoke({ ...ONE, id }, "")).toBe(false);
  }
  expect(await idsListed()).toEqual(["one", "two"]);
  expect(await store.sweep(10)).toEqual({ expired: 0, reclaimed: 0, healed: 8, more: false });
  expect(await entriesOf(ALL)).toEqual(["one", "two"]);
});

test("the indexes of every namespace are checked", async () => {
  await create("three", store.namespace("shop"));
  await create("one", store.namespace("shop"));
  expect(await store.sweep(10)).toEqual(SOUND);
  await redis.zrem(`ns:shop:${OF_USER}`, "one");
  await redis.del(`ns:shop:session:${TAG}:three`);
  expect(await store.sweep(10)).toMatchObject({ healed: 4 });
  expect(await entriesOf(`ns:shop:${ALL}`)).toEqual(["one"]);
  expect(await entriesOf(`ns:shop:${OF_USER}`)).toEqual(["one"]);
  expect((await entriesOf(ALL)).toSorted()).toEqual(["one", "two"]);
});

// Sweepers would not find its sessions.
test("a namespace that is missing from the list of namespaces is put back", async () => {
  await create("one", store.namespace("shop"));
  await redis.del(`namespaces:${TAG}`);
  expect(await store.namespaces()).toEqual([""]);
  expect(await store.sweep(10)).toMatchObject({ healed: 1 });
  expect(await store.namespaces()).toEqual(["", "shop"]);
});

test("a store with another key prefix is neither seen nor swept, nor does it hear hints", async () => {
  const open = async (keyPrefix: string) => {
    const opened = new RedisSessionStore({ redis: await connectTo(server), keyPrefix });
    onTestFinished(() => opened.close());
    return opened;
  };
  const [staging, production] = [await open("staging:"), await open("production:")];
  let hints = 0;
  production.events.subscribe(() => hints++);
  await sleep(200);
  hints = 0;
  await create("one", staging);
  await create("one", staging.namespace("shop"));
  expect(await production.count()).toBe(0);
  expect(await production.namespaces()).toEqual([""]);
  await redis.zadd(`staging:${ALL}`, 1e15, "one");
  await redis.zadd(`staging:ns:shop:${ALL}`, 1e15, "one");
  expect(await production.sweep(10)).toEqual(SOUND);
  expect(await store.sweep(10)).toEqual(SOUND);
  expect(await staging.sweep(10)).toMatchObject({ healed: 2 });
  await sleep(200);
  expect(hints).toBe(0);
  expect(() => new RedisSessionStore({ redis, keyPrefix: "a{b}" })).toThrow("key prefix");
});
