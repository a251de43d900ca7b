import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, expect, test } from "vitest";
import { RedisSessionStore } from "../redis/sessions/redis-session-store.js";
import { SqliteSessionStore } from "../sqlite/sqlite-session-store.js";
import { FakeClock } from "../testing/contract/fake-clock.js";
import { addSession, IDLE_TIMEOUT_MS } from "../testing/contract/sessions/fixtures.js";
import { connectTo } from "../testing/redis/connect-to.js";
import { startRedisServer } from "../testing/redis/redis-server.js";
import { withRedis } from "../testing/redis/with-redis.js";

const USERS = 4_000;
const SESSIONS = 20_000;
const RETENTION_MS = 600_000;
const AT_A_TIME = 500;
/** Every so many sessions one has an id that its creator chose. */
const CHOSEN_EVERY = 50;

async function openRedis(now: () => number) {
  const server = await startRedisServer();
  const redis = await connectTo(server);
  return {
    store: new RedisSessionStore({ redis, now, retentionMs: RETENTION_MS }),
    countLeftovers: () => withRedis(server.port, (connection) => connection.dbsize()),
    dispose: () => server.stop(),
  };
}

async function openSqlite(now: () => number) {
  const dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  const path = join(dir, "sessions.db");
  return {
    store: await SqliteSessionStore.open({ path, now, retentionMs: RETENTION_MS }),
    async countLeftovers() {
      using db = new DatabaseSync(path, { readOnly: true });
      const tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all();
      const names = tables
        .map(({ name }) => `${name}`)
        .filter((name) => !/^(sqlite_|event_|clock$)/.test(name));
      const rows = names.map((name) => db.prepare(`SELECT count(*) AS n FROM ${name}`).get());
      return rows.reduce((sum, row) => sum + Number(row?.["n"]), 0);
    },
    dispose: () => rm(dir, { recursive: true }),
  };
}

describe.each([
  { name: "Redis", open: openRedis },
  { name: "SQLite", open: openSqlite },
])("$name", ({ open }) => {
  test("20,000 sessions of 4,000 users expire, and one sweep leaves nothing of them", {
    timeout: 60_000,
  }, async () => {
    const clock = new FakeClock();
    const { store, countLeftovers, dispose } = await open(clock.now);
    for (let n = 0; n < SESSIONS; n += AT_A_TIME) {
      const batch = Array.from({ length: AT_A_TIME }, (_, i) => {
        const id = (n + i) % CHOSEN_EVERY === 0 ? { id: `chosen-${n + i}` } : {};
        return addSession(store, { userId: `user-${(n + i) % USERS}`, ...id });
      });
      await Promise.all(batch);
    }
    expect(await countLeftovers()).toBeGreaterThan(SESSIONS);
    clock.advance(IDLE_TIMEOUT_MS);

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

    clock.advance(RETENTION_MS);
    expect(await store.sweep(2 * SESSIONS)).toMatchObject({ reclaimed: SESSIONS, more: false });
    expect(await countLeftovers()).toBe(0);
    await store.close();
    await dispose();
  });
});
