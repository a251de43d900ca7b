import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRedis } from "../redis/connection/connect-redis.js";
import { RedisSessionStore } from "../redis/sessions/redis-session-store.js";
import { SqliteSessionStore } from "../sqlite/sqlite-session-store.js";
import { type RedisServer, startRedisServer } from "../testing/redis/redis-server.js";
import { generateSessionId, partitionOfUser } from "./session-id.js";
import type { NewSession, SessionStore } from "./session-store.js";

const USERS = 20_000;
const SESSIONS = 100_000;
const TIMEOUT_MS = 2_000;
/** Also as long as a claim on a chosen id is left alone, whatever became of its session. */
const RETENTION_MS = 10_000;
const LIMIT = { maxSessionsPerUser: 10, policy: "reject" } as const;
const AT_A_TIME = 500;
/** Every so many sessions one has an id that its creator chose. */
const CHOSEN_EVERY = 50;

let server: RedisServer;
let dir: string;
beforeAll(async () => {
  server = await startRedisServer();
  dir = await mkdtemp(join(tmpdir(), "sessiond-"));
});
afterAll(async () => {
  await server.stop();
  await rm(dir, { recursive: true });
});

async function openRedis(): Promise<SessionStore> {
  const address = { host: "127.0.0.1", port: server.port };
  const redis = connectRedis({ kind: "redis", address, db: 0, tls: false }, () => {});
  await once(redis, "ready");
  return new RedisSessionStore({ redis, retentionMs: RETENTION_MS });
}

async function countKeys(): Promise<number> {
  const redis = new Redis(server.url);
  const count = await redis.dbsize();
  redis.disconnect();
  return count;
}

const FILE = "sessions.db";

function openSqlite(): Promise<SessionStore> {
  return SqliteSessionStore.open({ path: join(dir, FILE), retentionMs: RETENTION_MS });
}

async function countRows(): Promise<number> {
  const db = new DatabaseSync(join(dir, FILE), { readOnly: true });
  const tables = db
    .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    .all();
  const counts = tables.map(({ name }) => db.prepare(`SELECT count(*) AS n FROM ${name}`).get());
  db.close();
  return counts.reduce((sum, row) => sum + Number(row?.["n"]), 0);
}

function newSession(n: number): NewSession {
  const userId = `user-${n % USERS}`;
  const partition = partitionOfUser(userId);
  const id = n % CHOSEN_EVERY === 0 ? `chosen-${n}` : generateSessionId(partition);
  return {
    key: { partition, id },
    userId,
    record: Buffer.alloc(100, n % 256),
    tokenHash: Buffer.alloc(32, n % 256),
    idleTimeoutMs: TIMEOUT_MS,
    lifetimeMs: 10 * TIMEOUT_MS,
  };
}

describe.each([
  { name: "Redis", open: openRedis, countLeftovers: countKeys },
  { name: "SQLite", open: openSqlite, countLeftovers: countRows },
])("$name", ({ open, countLeftovers }) => {
  test("100,000 sessions of 20,000 users expire, and one sweep leaves nothing of them", {
    timeout: 180_000,
  }, async () => {
    const store = await open();
    for (let n = 0; n < SESSIONS; n += AT_A_TIME) {
      const batch = Array.from({ length: AT_A_TIME }, (_, i) => newSession(n + i));
      await Promise.all(batch.map((session) => store.create(session, LIMIT)));
    }
    expect(await countLeftovers()).toBeGreaterThan(SESSIONS);
    await sleep(TIMEOUT_MS);

    expect(await store.count()).toBe(0);
    expect(await store.count("user-7")).toBe(0);
    const query = { showExpired: false, showRevoked: false, order: "desc", limit: 1_000 } as const;
    expect((await store.list({ ...query, userId: "user-7" })).sessions).toEqual([]);
    let page = await store.list(query);
    while (page.next !== undefined) {
      expect(page.sessions).toEqual([]);
      page = await store.list({ ...query, after: page.next });
    }
    expect(page.sessions).toEqual([]);

    await sleep(RETENTION_MS);
    expect(await store.sweep(2 * SESSIONS)).toMatchObject({ reclaimed: SESSIONS, more: false });
    expect(await countLeftovers()).toBe(0);
    await store.close();
  });
});
