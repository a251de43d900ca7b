import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Keyring } from "../../sessions/keyring.js";
import type { SessionKey } from "../../sessions/session-store.js";
import { Sessions } from "../../sessions/sessions.js";
import {
  addSession,
  addSessions,
  keyOf,
  NO_LIMIT,
  newSession,
} from "../../testing/contract/sessions/fixtures.js";
import { freePort } from "../../testing/network/free-port.js";
import { connectTo } from "../../testing/redis/connect-to.js";
import { RedisProcess } from "../../testing/redis/redis-process.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { withRedis } from "../../testing/redis/with-redis.js";
import type { SessionChange } from "../../watch/author.js";
import { RedisSessionStore } from "./redis-session-store.js";
import { toStoredSession } from "./stored-session.js";
import type { Durability } from "./whole-store.js";

const ADA = { userId: "ada", id: "one" };
const KEY = keyOf(ADA);
const HOUR_MS = 3_600_000;
const NONE = { ...KEY, id: "none" };

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
  const replication = () => withRedis(replica.port, (redis) => redis.info("replication"));
  await expect.poll(replication, { timeout: 10_000 }).toContain("master_link_status:up");
  return replica;
}

async function openStore(
  durability: Durability = "auto",
  {
    port = primary.port,
    ...options
  }: { port?: number; retentionMs?: number; now?: () => number } = {},
): Promise<RedisSessionStore> {
  const redis = await connectTo({ port });
  const store = new RedisSessionStore({ redis, durability, ...options });
  stores.push(store);
  return store;
}

/** Creates so many sessions, and has the store know of its replica. */
async function createMany(store: RedisSessionStore, count: number): Promise<SessionKey[]> {
  const sessions = await addSessions(store, count, { userId: "many" });
  await store.revoke(NONE, "");
  return sessions.map(keyOf);
}

async function countActive(store: RedisSessionStore, keys: readonly SessionKey[]): Promise<number> {
  return (await store.getMany(keys)).filter((session) => session !== undefined).length;
}

const UNCONFIRMED = {
  reason: "STORE_UNAVAILABLE",
  message: expect.stringContaining("it is safe to try again"),
};

test("without replicas, or told to wait for none, a revocation waits for none", async () => {
  const alone = await openStore();
  await addSession(alone, ADA);
  expect(await alone.revoke(KEY, "")).toBe(true);
  await using replica = await startReplica();
  const store = await openStore("local");
  const key = keyOf(await addSession(store, { userId: "bob" }));
  replica.pause();
  expect(await store.revoke(key, "")).toBe(true);
});

test("a revocation that the replica does not confirm is an error, and is confirmed by the next try", async () => {
  await using replica = await startReplica();
  const store = await openStore();
  await addSession(store, ADA);
  replica.pause();

  const startMs = performance.now();
  await expect(store.revoke(KEY, "")).rejects.toMatchObject(UNCONFIRMED);
  await expect(store.revoke(KEY, "")).rejects.toMatchObject(UNCONFIRMED);
  await expect(store.revokeUser("ada", "")).rejects.toMatchObject(UNCONFIRMED);
  expect(performance.now() - startMs).toBeLessThan(6_000);
  expect(await store.get(KEY)).toBeUndefined();

  replica.resume();
  await expect.poll(() => store.revoke(KEY, "").catch(() => "failed")).toBe(false);
  const bytes = await withRedis(replica.port, (redis) =>
    redis.getBuffer(`session:{${KEY.partition}}:one`),
  );
  expect(toStoredSession("one", bytes ?? Buffer.of(), 0)).toMatchObject({ revokeReason: "" });
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
test("a revocation made again after a restart spares a later session with the same id and times", async () => {
  const createTimeMs = Date.now() - HOUR_MS;
  const ada = { ...ADA, lifetimeMs: 2 * HOUR_MS, movedIn: { createTimeMs } };
  const args = ["--appendonly", "yes", "--appendfsync", "always"];
  const redis = await RedisProcess.start({ port: await freePort(), args });
  const store = await openStore("local", { port: redis.port, retentionMs: 1 });
  const undone = { ...ADA, id: "undone" };
  await addSession(store, ada);
  expect(await store.revoke(KEY, "")).toBe(true);
  await expect.poll(async () => (await store.sweep(10)).reclaimed).toBe(1);
  for (const spec of [ada, undone]) await addSession(store, spec);
  const key = `session:{${KEY.partition}}:undone`;
  const before = await withRedis(redis.port, (connection) => connection.getBuffer(key));
  expect(await store.revoke(keyOf(undone), "")).toBe(true);
  // As a failover does that loses the revocation, which must be made again.
  await withRedis(redis.port, async (connection) => {
    await connection.set(key, before ?? "");
    await connection.zadd(`sessions:{${KEY.partition}}`, Date.now() + HOUR_MS, "undone");
  });
  expect(await store.get(keyOf(undone))).toBeDefined();

  await redis.restart();
  await expect.poll(() => store.get(keyOf(undone)).catch(() => "failed")).toBeUndefined();
  expect(await store.get(KEY)).toMatchObject({ id: "one" });
  await redis.remove("SIGKILL");
});

// A store that was closed opened a connection for its next WAIT, and left it open.
type Ending = (store: RedisSessionStore, replacedHash: Uint8Array) => Promise<unknown>;

test.each<[what: string, end: Ending]>([
  ["a revocation", (store) => store.revoke(KEY, "")],
  ["a revocation of all a user's sessions", (store) => store.revokeUser("ada", "")],
  ["a revocation after a reuse", (store, hash) => store.reportReuse(KEY, hash, true)],
])(
  "%s that no replica confirmed is made again after a restart that lost it, in nobody's name",
  async (_, end) => {
    const args = ["--appendonly", "yes", "--appendfsync", "always"];
    const redis = await RedisProcess.start({ port: await freePort(), args });
    const early = await openStore("local", { port: redis.port, now: () => Date.now() - HOUR_MS });
    const { tokenHash } = await addSession(early, {
      ...ADA,
      idleTimeoutMs: 2 * HOUR_MS,
      lifetimeMs: 2 * HOUR_MS,
    });
    await early.rotateToken(KEY, tokenHash, randomBytes(32));
    const key = `session:{${KEY.partition}}:one`;
    const before = await withRedis(redis.port, (connection) => connection.getBuffer(key));

    const store = await openStore("replicated", { port: redis.port });
    const told: string[] = [];
    const support = { name: "support", changed: ({ type }: SessionChange) => void told.push(type) };
    const view = store.namespace("", support);
    await expect(end(view, tokenHash)).rejects.toMatchObject(UNCONFIRMED);
    expect(await store.get(KEY)).toBeUndefined();
    await withRedis(redis.port, async (connection) => {
      await connection.set(key, before ?? "");
      await connection.zadd(`sessions:{${KEY.partition}}`, Date.now() + HOUR_MS, "one");
    });
    expect(await store.get(KEY)).toBeDefined();
    await redis.restart();
    const read = () => store.get(KEY).catch(() => "failed");
    await expect.poll(read, { timeout: 10_000 }).toBeUndefined();
    const events = await withRedis(redis.port, (connection) =>
      connection.xrange(`session_events:{${KEY.partition}}`, "-", "+"),
    );
    const revocations = events.filter(([, fields]) => fields.includes("revoked"));
    expect(revocations.map(([, fields]) => fields.at(-1))).toEqual(["support", ""]);
    expect(told.filter((type) => type === "revoked")).toEqual(["revoked"]);
    await redis.remove("SIGKILL");
  },
);

test("a report of a token that ends no session waits for no replica", async () => {
  await using replica = await startReplica();
  const store = await openStore();
  const { tokenHash } = await addSession(store, ADA);
  await store.rotateToken(KEY, tokenHash, randomBytes(32));
  replica.pause();
  await store.reportReuse(KEY, tokenHash, true);
  await store.reportReuse(KEY, randomBytes(32), true);
  expect(await store.get(KEY)).toMatchObject({ version: 3 });
});

test("a closed store leaves no connection, whatever is asked of it", async () => {
  await using _replica = await startReplica();
  const store = await openStore("replicated");
  await addSession(store, ADA);
  store.events.subscribe(() => {});
  await expect.poll(() => countConnections()).toBe(3);
  const underWay = store.revoke(NONE, "").then(String, () => "failed");
  for (let times = 0; times < 2; times++) await store.close();
  await underWay;
  const unavailable = { reason: "STORE_UNAVAILABLE" };
  await expect(store.revoke(KEY, "")).rejects.toMatchObject(unavailable);
  await expect(addSession(store, ADA)).rejects.toMatchObject(unavailable);
  store.events.subscribe(() => {})();
  store.events.subscribe(() => {});
  await expect.poll(() => countConnections()).toBe(0);
});

/** How many connections the primary has, but for the one that asks and its replicas. */
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
  await addSession(store, ADA);
  await store.revoke(NONE, "");
  await replica.stop();
  await expect(store.revoke(KEY, "")).rejects.toMatchObject(UNCONFIRMED);
});

test("the other changes wait for a replica only when they are told to", async () => {
  await using replica = await startReplica();
  const [automatic, replicated] = [await openStore(), await openStore("replicated")];
  replica.pause();
  await addSession(automatic, ADA);
  expect(await automatic.replaceRecord(KEY, 1, Buffer.of(3))).toMatchObject({ version: 2 });
  await expect(replicated.replaceRecord(KEY, 2, Buffer.of(4))).rejects.toMatchObject(UNCONFIRMED);

  const request = { key: "request", record: Buffer.of(5), keptForMs: 60_000 };
  const other = newSession({ ...ADA, id: "two" });
  const createOnce = () => replicated.createOnce(request, other, NO_LIMIT);
  await expect(createOnce()).rejects.toMatchObject(UNCONFIRMED);
  replica.resume();
  await expect
    .poll(() => createOnce().catch(() => "failed"), { timeout: 10_000 })
    .toMatchObject({ repeated: Buffer.of(5), session: { id: "two" } });
});

test("reads do not wait behind a change that waits for a replica", async () => {
  await using replica = await startReplica();
  const store = await openStore();
  await addSession(store, ADA);
  await store.revoke(NONE, "");
  replica.pause();
  const revoking = store.revoke(NONE, "").catch(() => {});
  const startMs = performance.now();
  expect(await store.get(KEY)).toMatchObject({ id: "one" });
  expect(performance.now() - startMs).toBeLessThan(500);
  await revoking;
});
