import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { partitionOfUser } from "../../sessions/session-id.js";
import type { NewSession } from "../../sessions/session-store.js";
import { FakeClock } from "../../testing/contract/fake-clock.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { SessionWatches } from "../../watch/session-watch.js";
import { connectRedis } from "../connection/connect-redis.js";
import { RedisSessionStore } from "./redis-session-store.js";

const RETENTION_MS = 600_000;
const LIMIT = { maxSessionsPerUser: 100, policy: "reject" } as const;

let server: RedisServer;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

async function openStore(
  options: {
    readonly now?: () => number;
    readonly keyPrefix?: string;
    readonly port?: number;
    readonly db?: number;
  } = {},
) {
  const { port = server.port, db = 0 } = options;
  const address = { host: "127.0.0.1", port };
  const redis = connectRedis({ kind: "redis", address, db, tls: false }, () => {});
  await once(redis, "ready");
  return new RedisSessionStore({
    redis,
    retentionMs: RETENTION_MS,
    keyPrefix: `${randomUUID()}:`,
    ...options,
  });
}

function newSession(userId: string, id: string = randomUUID()): NewSession {
  return {
    key: { partition: partitionOfUser(userId), id },
    userId,
    record: Buffer.from("record"),
    tokenHash: Buffer.alloc(32, 1),
    idleTimeoutMs: 10_000,
    lifetimeMs: 10_000,
  };
}

test("a lane that was empty for so long that it began anew still shows a steady reader everything", async () => {
  const clock = new FakeClock();
  const store = await openStore({ now: clock.now });
  await store.create(newSession("ada"), LIMIT);
  const before = await store.events.end("ada");
  clock.advance(RETENTION_MS - 1);
  const steady = await store.events.read(before, 100);
  if (steady === "lost") throw new Error("lost");
  expect(steady.events).toEqual([]);
  clock.advance(RETENTION_MS - 1);
  await store.sweep(1000);
  await store.create(newSession("ada", "again"), LIMIT);

  const page = await store.events.read(steady.cursor, 100);

  expect(page).toMatchObject({ events: [{ type: "created", sessionId: "again" }] });
  expect(await store.events.read(before, 100)).toBe("lost");
  await store.close();
});

test("a reader is told that events are lost once a busy lane has dropped them", async () => {
  const store = await openStore();
  const { session } = await store.create(newSession("ada"), LIMIT);
  const key = { partition: partitionOfUser("ada"), id: session.id };
  const start = await store.events.end("ada");
  let { version } = session;
  for (let i = 0; i < 1_300; i++) {
    const replaced = await store.replaceRecord(key, version, Buffer.from(`${i}`));
    if (typeof replaced !== "object") throw new Error("not replaced");
    version = replaced.version;
  }
  expect(await store.events.read(start, 100)).toBe("lost");
  await store.close();
});

test("a restart of Redis, even with all its data, makes readers start anew", async () => {
  const dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  const args = ["--dir", dir, "--appendonly", "yes", "--appendfsync", "always"];
  const first = await startRedisServer({ args });
  const store = await openStore({ port: first.port, keyPrefix: "" });
  await store.create(newSession("ada", "one"), LIMIT);
  const cursor = await store.events.end();
  expect(await store.events.read(cursor, 10)).toMatchObject({ events: [], isComplete: true });
  await first.kill();

  const second = await startRedisServer({ args, port: first.port });
  await expect.poll(() => store.events.read(cursor, 10), { timeout: 5_000 }).toBe("lost");
  expect(await store.partitionOf("one")).toBe(partitionOfUser("ada"));
  await store.close();
  await second.stop();
  await rm(dir, { recursive: true });
});

test("listeners hear of a change through another server within moments", async () => {
  const keyPrefix = `${randomUUID()}:`;
  const listening = await openStore({ keyPrefix });
  const changing = await openStore({ keyPrefix });
  const heard: number[] = [];
  const stop = listening.events.subscribe((lane) => heard.push(lane));
  // Whatever changed before it listened may be news, in any lane.
  await expect.poll(() => heard).toHaveLength(256);
  heard.length = 0;
  await changing.create(newSession("ada"), LIMIT);
  await expect.poll(() => heard).toEqual([Number.parseInt(partitionOfUser("ada"), 16)]);
  stop();
  await listening.close();
  await changing.close();
});

// The run id of the process is then the same as when the place was read, and the numbers
// go on: what the other one had meanwhile was missing from between them, and nobody knew.
test("a reader is told that events are lost when a server is back as primary after another", async () => {
  await using first = await startRedisServer({ args: ["--repl-diskless-sync-delay", "0"] });
  await using second = await startRedisServer({
    args: ["--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", `${first.port}`],
  });
  const [one, two] = [new Redis(first.url), new Redis(second.url)];
  const isLinked = (redis: Redis) =>
    expect
      .poll(() => redis.info("replication"), { timeout: 10_000 })
      .toContain("master_link_status:up");
  await isLinked(two);
  const store = await openStore({ port: first.port, keyPrefix: "" });
  await store.create(newSession("ada"), LIMIT);
  await one.wait(1, 5_000);
  await two.replicaof("NO", "ONE");
  // The first one's last event, which the other never has.
  await store.create(newSession("ada"), LIMIT);
  const cursor = await store.events.end("ada");
  const other = await openStore({ port: second.port, keyPrefix: "" });
  for (let i = 0; i < 2; i++) await other.create(newSession("ada"), LIMIT);

  await one.replicaof("127.0.0.1", second.port);
  await isLinked(one);
  await one.replicaof("NO", "ONE");

  await expect
    .poll(() => store.events.read(cursor, 10).catch(() => "unavailable"), { timeout: 5_000 })
    .toBe("lost");
  one.disconnect();
  two.disconnect();
  await Promise.all([store.close(), other.close()]);
});

// Both databases are of one process, and their numbers alike.
test("a place in one database is lost in another", async () => {
  const keyPrefix = `${randomUUID()}:`;
  const [store, other] = [await openStore({ keyPrefix }), await openStore({ keyPrefix, db: 1 })];
  const cursor = await store.events.end("ada");
  expect(await store.events.read(cursor, 10)).toMatchObject({ events: [] });
  expect(await other.events.read(cursor, 10)).toBe("lost");
  await Promise.all([store.close(), other.close()]);
});

// The reader that all watches share took over the place of the slow one, found that
// what follows it was gone, and told everybody.
test("a watch that resumes too slowly to get everything does not reset the others", async () => {
  const keyPrefix = `${randomUUID()}:`;
  const store = await openStore({ keyPrefix });
  const watches = new SessionWatches(store.events);
  const { session } = await store.create(newSession("ada"), LIMIT);
  const key = { partition: partitionOfUser("ada"), id: session.id };
  const before = watches.watch({ userId: "ada" });
  const start = await before.next();
  await before.return(undefined as never);
  await store.replaceRecord(key, 1, Buffer.from("2"));
  const stop = new AbortController();
  const told: string[] = [];
  const watching = (async () => {
    const { signal } = stop;
    for await (const { kind } of watches.watch({ userId: "bob", signal })) told.push(kind);
  })().catch(() => {});
  await expect.poll(() => told.length).toBeGreaterThan(0);

  const slow = watches.watch({ userId: "ada", resumeToken: start.value?.resumeToken });
  expect((await slow.next()).value).toMatchObject({ kind: "events" });
  for (let version = 2; version < 7; version++) {
    await store.replaceRecord(key, version, Buffer.from(`${version}`));
  }
  // As a busy lane does by itself.
  const redis = new Redis(server.url);
  await redis.xtrim(`${keyPrefix}session_events:{${key.partition}}`, "MAXLEN", 1);
  redis.disconnect();
  expect((await slow.next()).value).toMatchObject({ kind: "reset" });
  const rest = (async () => {
    for (let i = 0; i < 3; i++) await slow.next();
  })();
  const seen = told.length;
  await rest;
  await expect.poll(() => told.length, { timeout: 5_000 }).toBeGreaterThan(seen + 1);
  expect(new Set(told)).toEqual(new Set(["checkpoint"]));

  stop.abort();
  await watching;
  await slow.return(undefined as never);
  await store.close();
});
