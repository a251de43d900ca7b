import { once } from "node:events";
import { Redis } from "ioredis";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Keyring } from "../../sessions/keyring.js";
import { partitionOfUser } from "../../sessions/session-id.js";
import type { SessionKey, SessionStore } from "../../sessions/session-store.js";
import { Sessions } from "../../sessions/sessions.js";
import { newSession } from "../../testing/contract/promised-load.js";
import { freePort } from "../../testing/network/free-port.js";
import { RedisProcess } from "../../testing/redis/redis-process.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { withRedis } from "../../testing/redis/with-redis.js";
import { connectRedis } from "../connection/connect-redis.js";
import { type Durability, RedisSessionStore } from "./redis-session-store.js";

const LIMIT = { maxSessionsPerUser: 10, policy: "evict_oldest" } as const;
const MANY = { maxSessionsPerUser: 1_000, policy: "reject" } as const;
const KEY = { partition: partitionOfUser("ada"), id: "one" };

const SESSION = {
  key: KEY,
  userId: "ada",
  record: Buffer.of(1),
  tokenHash: Buffer.of(2),
  idleTimeoutMs: 60_000,
  lifetimeMs: 60_000,
};

const NOWHERE = { source: 0, epoch: 0, sequence: 0, timeMs: 0 };

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

async function openStore(
  durability: Durability = "auto",
  { port = primary.port, ...options }: { port?: number; retentionMs?: number } = {},
): Promise<RedisSessionStore> {
  const address = { host: "127.0.0.1", port };
  const redis = connectRedis({ kind: "redis", address, db: 0, tls: false }, () => {});
  await once(redis, "ready");
  const store = new RedisSessionStore({ redis, durability, ...options });
  stores.push(store);
  return store;
}

/** Creates so many sessions, and has the store know of its replica. */
async function createMany(store: RedisSessionStore, count: number): Promise<SessionKey[]> {
  const sessions = Array.from({ length: count }, () => newSession("many"));
  await Promise.all(sessions.map((session) => store.create(session, MANY)));
  await store.revoke({ ...KEY, id: "none" }, "");
  return sessions.map(({ key }) => key);
}

async function countActive(store: RedisSessionStore, keys: readonly SessionKey[]): Promise<number> {
  return (await store.getMany(keys)).filter((session) => session !== undefined).length;
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
  // A revocation, after the seven numbers of every session.
  expect(await redis.hget(`session:{${KEY.partition}}:one`, "facts")).toMatch(/^(\d+ ){7}\d+ $/);
  redis.disconnect();
});

// Scripts queued up behind the WAIT of the one before: the calls failed in time, and
// the last of the sessions they were to end lived on for 25 seconds.
test("many revocations at once wait for a silent replica together, and none is made late", async () => {
  await using replica = await startReplica();
  const store = await openStore();
  const keys = await createMany(store, 30);
  replica.pause();

  const startMs = performance.now();
  const revoking = Promise.allSettled(keys.map((key) => store.revoke(key, "")));
  await expect.poll(() => countActive(store, keys), { timeout: 2_000 }).toBe(0);
  const answers = await revoking;
  expect(performance.now() - startMs).toBeLessThan(2_000);
  for (const answer of answers) {
    expect(answer).toMatchObject({ status: "rejected", reason: UNCONFIRMED });
  }
});

test("more revocations than can wait for a silent replica together are refused, and not made", async () => {
  await using replica = await startReplica();
  const store = await openStore();
  const keys = await createMany(store, 500);
  replica.pause();

  const startMs = performance.now();
  const answers = await Promise.allSettled(keys.map((key) => store.revoke(key, "")));
  expect(performance.now() - startMs).toBeLessThan(2_500);
  const refused = answers.filter(
    (answer) => answer.status === "rejected" && /was not made/.test(answer.reason.message),
  );
  expect(refused.length).toBeGreaterThan(0);
  expect(refused.length).toBeLessThan(keys.length);
  expect(await countActive(store, keys)).toBe(refused.length);
  replica.resume();
  await expect.poll(() => store.revokeUser("many", "").catch(() => "failed")).toBe(refused.length);
});

// The token of a session that is revoked already was answered without a question to the
// store, and so "not found", which says that it is over for good.
test("revoking by token, tried again, waits for the replica again", async () => {
  await using replica = await startReplica();
  const store = await openStore();
  const sessions = new Sessions({ store, keyring: Keyring.parse(Keyring.generateKey("k1")) });
  const { token } = await sessions.create({ userId: "ada" });
  replica.pause();
  await expect(sessions.revoke({ token })).rejects.toMatchObject(UNCONFIRMED);
  await expect(sessions.revoke({ token })).rejects.toMatchObject(UNCONFIRMED);
  replica.resume();
  await expect.poll(() => sessions.revoke({ token }).catch(() => "failed")).toBe(false);
});

// It was remembered by its id alone, and ended whatever session had that id.
test("a revocation made again after a restart spares a later session with the same chosen id", async () => {
  const args = ["--appendonly", "yes", "--appendfsync", "always"];
  const redis = await RedisProcess.start({ port: await freePort(), args });
  const store = await openStore("local", { port: redis.port, retentionMs: 1 });
  const undone = { ...SESSION, key: { ...KEY, id: "undone" } };
  await store.create(SESSION, LIMIT);
  expect(await store.revoke(KEY, "")).toBe(true);
  await expect.poll(async () => (await store.sweep(10)).reclaimed).toBe(1);
  await store.create(SESSION, LIMIT);
  await store.create(undone, LIMIT);
  expect(await store.revoke(undone.key, "")).toBe(true);
  // As a failover does that loses the revocation, which must be made again.
  await withRedis(redis.port, async (connection) => {
    const key = `session:{${KEY.partition}}:undone`;
    const facts = await connection.hget(key, "facts");
    await connection.hset(key, "facts", facts?.split(" ").slice(0, 7).join(" ") ?? "");
  });
  expect(await store.get(undone.key)).toBeDefined();

  await redis.restart();
  await expect.poll(() => store.get(undone.key).catch(() => "failed")).toBeUndefined();
  expect(await store.get(KEY)).toMatchObject({ id: "one" });
  await redis.remove("SIGKILL");
});

// A store that was closed opened a connection for its next WAIT, and left it open.
test("a closed store answers unavailable to everything, and leaves no connection", async () => {
  await using _replica = await startReplica();
  const store = await openStore("replicated");
  await store.create(SESSION, LIMIT);
  store.events.subscribe(() => {});
  await expect.poll(() => countConnections()).toBe(3);
  const underWay = store.revoke({ ...KEY, id: "none" }, "").then(String, () => "failed");
  await store.close();
  await store.close();
  await underWay;

  const { tokenHash, record } = SESSION;
  const query = { showExpired: true, showRevoked: true, order: "asc", limit: 10 } as const;
  const request = { key: "request", record, keptForMs: 60_000 };
  const calls: Record<Exclude<keyof SessionStore, "events" | "close">, () => Promise<unknown>> = {
    create: () => store.create(SESSION, LIMIT),
    createOnce: () => store.createOnce(request, SESSION, LIMIT),
    partitionOf: () => store.partitionOf("one"),
    get: () => store.get(KEY),
    getMany: () => store.getMany([KEY]),
    touch: () => store.touch(KEY),
    replaceRecord: () => store.replaceRecord(KEY, 1, record),
    reseal: () => store.reseal(KEY, record, record),
    rotateToken: () => store.rotateToken(KEY, tokenHash, tokenHash),
    revoke: () => store.revoke(KEY, ""),
    revokeUser: () => store.revokeUser("ada", ""),
    list: () => store.list(query),
    count: () => store.count(),
    sweep: () => store.sweep(10),
    check: () => store.check(),
  };
  const events = {
    end: () => store.events.end(),
    read: () => store.events.read(new Map([[0, NOWHERE]]), 10),
  };
  for (const [name, call] of Object.entries({ ...calls, ...events })) {
    await expect(call(), name).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
  }
  store.events.subscribe(() => {})();
  store.events.subscribe(() => {});
  await expect.poll(() => countConnections()).toBe(0);
});

/** How many there are to the primary, but for the one that asks and its replicas. */
function countConnections(): Promise<number> {
  return withRedis(primary.port, async (redis) => {
    const list = String(await redis.client("LIST", "TYPE", "NORMAL"));
    const subscribers = String(await redis.client("LIST", "TYPE", "PUBSUB"));
    return list.trim().split("\n").length - 1 + subscribers.split("\n").filter(Boolean).length;
  });
}

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
