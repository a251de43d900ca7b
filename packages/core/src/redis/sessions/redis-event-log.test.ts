import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { partitionOfUser } from "../../sessions/session-id.js";
import { FakeClock } from "../../testing/contract/fake-clock.js";
import { addSession, addSessions, keyOf } from "../../testing/contract/sessions/fixtures.js";
import { freePort } from "../../testing/network/free-port.js";
import { connectTo } from "../../testing/redis/connect-to.js";
import { RedisProcess } from "../../testing/redis/redis-process.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { withRedis } from "../../testing/redis/with-redis.js";
import { SessionWatches } from "../../watch/session-watch.js";
import { RedisSessionStore } from "./redis-session-store.js";

const RETENTION_MS = 600_000;
const ADA = { userId: "ada" };

let server: RedisServer;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());

interface StoreOptions {
  readonly now?: () => number;
  readonly keyPrefix?: string;
  readonly port?: number;
  readonly db?: number;
}

/** Opens a store; it is closed after the test. */
async function openStore({ port = server.port, db = 0, ...options }: StoreOptions = {}) {
  const store = new RedisSessionStore({
    redis: await connectTo({ port, db }),
    retentionMs: RETENTION_MS,
    keyPrefix: `${randomUUID()}:`,
    ...options,
  });
  onTestFinished(() => store.close());
  return store;
}

test("a lane that was empty for so long that it began anew still shows a steady reader everything", async () => {
  const clock = new FakeClock();
  const store = await openStore({ now: clock.now });
  await addSession(store, ADA);
  const before = await store.events.end("ada");
  clock.advance(RETENTION_MS - 1);
  const steady = await store.events.read(before, 100);
  if (steady === "lost") throw new Error("lost");
  expect(steady.events).toEqual([]);
  clock.advance(RETENTION_MS - 1);
  await store.sweep(1000);
  await addSession(store, { ...ADA, id: "again" });

  const page = await store.events.read(steady.cursor, 100);

  expect(page).toMatchObject({ events: [{ type: "created", sessionId: "again" }] });
  expect(await store.events.read(before, 100)).toBe("lost");
});

test("a reader is told that events are lost once a busy lane has dropped them", async () => {
  const store = await openStore();
  const key = keyOf(await addSession(store, ADA));
  const start = await store.events.end("ada");
  for (let version = 1; version <= 1_300; version++) {
    await store.replaceRecord(key, version, Buffer.from(`${version}`));
  }
  expect(await store.events.read(start, 100)).toBe("lost");
});

test("a restart of Redis, even with all its data, makes readers start over", async () => {
  const args = ["--appendonly", "yes", "--appendfsync", "always"];
  const redis = await RedisProcess.start({ port: await freePort(), args });
  const store = await openStore({ port: redis.port, keyPrefix: "" });
  await addSession(store, { ...ADA, id: "one" });
  const cursor = await store.events.end();
  expect(await store.events.read(cursor, 10)).toMatchObject({ events: [], isComplete: true });
  await redis.kill();
  await redis.restart();
  const read = () => store.events.read(cursor, 10).catch(() => "unavailable");
  await expect.poll(read, { timeout: 5_000 }).toBe("lost");
  expect(await store.partitionOf("one")).toBe(partitionOfUser("ada"));
  await redis.remove("SIGKILL");
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
  await addSession(changing, ADA);
  await expect.poll(() => heard).toEqual([Number.parseInt(partitionOfUser("ada"), 16)]);
  stop();
});

// The run id of the process is then the same as when the position was read, and the numbers
// go on: what the other one had meanwhile was missing from between them, and nobody knew.
test("a reader is told that events are lost when a server is back as primary after another", async () => {
  await using first = await startRedisServer({ args: ["--repl-diskless-sync-delay", "0"] });
  await using second = await startRedisServer({
    args: ["--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", `${first.port}`],
  });
  const [one, two] = [await connectTo(first), await connectTo(second)];
  const isLinked = (redis: typeof one) =>
    expect
      .poll(() => redis.info("replication"), { timeout: 10_000 })
      .toContain("master_link_status:up");
  await isLinked(two);
  const store = await openStore({ port: first.port, keyPrefix: "" });
  await addSession(store, ADA);
  await one.wait(1, 500);
  await two.replicaof("NO", "ONE");
  // The first one's last event, which the other never has.
  await addSession(store, ADA);
  const cursor = await store.events.end("ada");
  await addSessions(await openStore({ port: second.port, keyPrefix: "" }), 2, ADA);

  await one.replicaof("127.0.0.1", second.port);
  await isLinked(one);
  await one.replicaof("NO", "ONE");

  const read = () => store.events.read(cursor, 10).catch(() => "unavailable");
  await expect.poll(read, { timeout: 5_000 }).toBe("lost");
  one.disconnect();
  two.disconnect();
});

// Both databases are of one process, and their numbers alike.
test("a position in one database is lost in another", async () => {
  const keyPrefix = `${randomUUID()}:`;
  const [store, other] = [await openStore({ keyPrefix }), await openStore({ keyPrefix, db: 1 })];
  const cursor = await store.events.end("ada");
  expect(await store.events.read(cursor, 10)).toMatchObject({ events: [] });
  expect(await other.events.read(cursor, 10)).toBe("lost");
});

// The reader that all watches share took over the position of the slow one, found that
// what follows it was gone, and told everybody.
test("a watch that resumes too slowly to get everything does not reset the others", async () => {
  const keyPrefix = `${randomUUID()}:`;
  const store = await openStore({ keyPrefix });
  const watches = new SessionWatches(store.events);
  const key = keyOf(await addSession(store, ADA));
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
  await withRedis(server.port, (redis) =>
    redis.xtrim(`${keyPrefix}session_events:{${key.partition}}`, "MAXLEN", 1),
  );
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
});
