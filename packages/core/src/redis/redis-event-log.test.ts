import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { partitionOfUser } from "../session-id.js";
import type { NewSession } from "../session-store.js";
import { FakeClock } from "../testing/fake-clock.js";
import { type RedisServer, startRedisServer } from "../testing/redis-server.js";
import { connectRedis } from "./connect-redis.js";
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
  } = {},
) {
  const address = { host: "127.0.0.1", port: options.port ?? server.port };
  const redis = connectRedis({ kind: "redis", address, db: 0, tls: false }, () => {});
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
    if (replaced === undefined || replaced === "version_mismatch") throw new Error("not replaced");
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
