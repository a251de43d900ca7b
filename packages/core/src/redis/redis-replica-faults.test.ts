import { once } from "node:events";
import { Redis } from "ioredis";
import { afterEach, beforeEach, expect, test } from "vitest";
import { partitionOfUser } from "../session-id.js";
import { type RedisServer, startRedisServer } from "../testing/redis-server.js";
import { connectRedis } from "./connect-redis.js";
import { type Durability, RedisSessionStore } from "./redis-session-store.js";

const LIMIT = { maxSessionsPerUser: 10, policy: "evict_oldest" } as const;
const KEY = { partition: partitionOfUser("ada"), id: "one" };

const SESSION = {
  key: KEY,
  userId: "ada",
  record: Buffer.of(1),
  tokenHash: Buffer.of(2),
  idleTimeoutMs: 60_000,
  lifetimeMs: 60_000,
};

let primary: RedisServer;
let stores: RedisSessionStore[];
beforeEach(async () => {
  primary = await startRedisServer({ args: ["--repl-diskless-sync-delay", "0"] });
  stores = [];
});
afterEach(async () => {
  await Promise.all(stores.map((store) => store.close()));
  await primary.stop();
});

async function startReplica(): Promise<RedisServer> {
  const replica = await startRedisServer({ args: ["--replicaof", "127.0.0.1", `${primary.port}`] });
  const redis = new Redis(replica.url);
  await expect
    .poll(() => redis.info("replication"), { timeout: 10_000 })
    .toContain("master_link_status:up");
  redis.disconnect();
  return replica;
}

async function openStore(durability?: Durability): Promise<RedisSessionStore> {
  const address = { host: "127.0.0.1", port: primary.port };
  const redis = connectRedis({ kind: "redis", address, db: 0, tls: false }, () => {});
  await once(redis, "ready");
  const store = new RedisSessionStore({ redis, ...(durability && { durability }) });
  stores.push(store);
  return store;
}

const UNCONFIRMED = {
  reason: "STORE_UNAVAILABLE",
  message: expect.stringContaining("it is safe to try again"),
};

test("without replicas, a revocation waits for none", async () => {
  const store = await openStore();
  await store.create(SESSION, LIMIT);
  expect(await store.revoke(KEY, "")).toBe(true);
});

test("a revocation that the replica does not confirm is an error, and is confirmed by the next try", async () => {
  await using replica = await startReplica();
  const store = await openStore();
  await store.create(SESSION, LIMIT);
  replica.pause();

  const startMs = performance.now();
  await expect(store.revoke(KEY, "")).rejects.toMatchObject(UNCONFIRMED);
  await expect(store.revoke(KEY, "")).rejects.toMatchObject(UNCONFIRMED);
  await expect(store.revokeUser("ada", "")).rejects.toMatchObject(UNCONFIRMED);
  expect(performance.now() - startMs).toBeLessThan(6_000);
  expect(await store.get(KEY)).toBeUndefined();

  replica.resume();
  await expect.poll(() => store.revoke(KEY, "").catch(() => "failed")).toBe(false);
  const redis = new Redis(replica.url);
  expect(await redis.hexists(`session:{${KEY.partition}}:one`, "revoke_time")).toBe(1);
  redis.disconnect();
});

test("a revocation goes on waiting for a replica when the last one is gone", async () => {
  const replica = await startReplica();
  const store = await openStore();
  await store.create(SESSION, LIMIT);
  await store.revoke({ ...KEY, id: "none" }, "");
  await replica.stop();
  await expect(store.revoke(KEY, "")).rejects.toMatchObject(UNCONFIRMED);
});

test("the other changes wait for a replica only when they are told to", async () => {
  await using replica = await startReplica();
  const [automatic, replicated] = [await openStore(), await openStore("replicated")];
  replica.pause();
  const { session } = await automatic.create(SESSION, LIMIT);
  expect(await automatic.replaceRecord(KEY, session.version, Buffer.of(3))).toMatchObject({
    version: 2,
  });
  await expect(replicated.replaceRecord(KEY, 2, Buffer.of(4))).rejects.toMatchObject(UNCONFIRMED);

  const request = { key: "request", record: Buffer.of(5), keptForMs: 60_000 };
  const other = { ...SESSION, key: { ...KEY, id: "two" } };
  await expect(replicated.createOnce(request, other, LIMIT)).rejects.toMatchObject(UNCONFIRMED);
  replica.resume();
  await expect
    .poll(() => replicated.createOnce(request, other, LIMIT).catch(() => "failed"))
    .toMatchObject({ repeated: Buffer.of(5), session: { id: "two" } });
});

test("told so, no change waits for a replica", async () => {
  await using replica = await startReplica();
  const store = await openStore("local");
  await store.create(SESSION, LIMIT);
  replica.pause();
  expect(await store.revoke(KEY, "")).toBe(true);
});

test("reads do not wait behind a change that waits for a replica", async () => {
  await using replica = await startReplica();
  const store = await openStore();
  await store.create(SESSION, LIMIT);
  await store.revoke({ ...KEY, id: "none" }, "");
  replica.pause();
  const revoking = store.revoke({ ...KEY, id: "none" }, "").catch(() => {});
  const startMs = performance.now();
  expect(await store.get(KEY)).toMatchObject({ id: "one" });
  expect(performance.now() - startMs).toBeLessThan(500);
  await revoking;
});
