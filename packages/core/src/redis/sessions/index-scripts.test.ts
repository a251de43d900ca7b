import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { generateSessionId, PARTITIONS, type Partition } from "../../sessions/session-id.js";
import type { ListQuery } from "../../sessions/session-store.js";
import {
  addSession,
  addSessions,
  byCreation,
  idsOf,
  listAll,
} from "../../testing/contract/sessions/fixtures.js";
import { connectTo } from "../../testing/redis/connect-to.js";
import { type RedisServer, startRedisServer } from "../../testing/redis/redis-server.js";
import { RedisSessionStore } from "./redis-session-store.js";

const NEWEST: ListQuery = { showExpired: false, showRevoked: false, order: "desc", limit: 1_000 };

let server: RedisServer;
let admin: Redis;
let store: RedisSessionStore;
let keyPrefix: string;

beforeAll(async () => {
  server = await startRedisServer();
  admin = new Redis(server.url);
});
afterAll(async () => {
  admin.disconnect();
  await server.stop();
});
beforeEach(async () => {
  keyPrefix = `${randomUUID()}:`;
  store = new RedisSessionStore({ redis: await connectTo(server), keyPrefix });
});
afterEach(() => store.close());

test("pages and counts are the same after Redis has forgotten its scripts", async () => {
  for (const userId of ["ann", "bob", "carol"]) await addSession(store, { userId });
  const all = await store.list(NEWEST);
  const { sessions, next: after } = await store.list({ ...NEWEST, limit: 2 });
  await admin.script("FLUSH");
  const rest = await store.list({ ...NEWEST, ...(after && { after }), limit: 2 });
  expect(idsOf([...sessions, ...rest.sessions])).toEqual(idsOf(all.sessions));
  expect(rest.next).toBeUndefined();
  await admin.script("FLUSH");
  expect(await store.count()).toBe(3);
});

// A script keeps everybody else waiting, so how much it reads must not grow with the number of sessions.
test("a page reads few of the indexes again, however sessions are spread", async () => {
  const countReads = () => countCalls("zrevrange", { ...NEWEST, limit: 250 });
  // One that has everything is read again for every doubling of what is known of it.
  const most = PARTITIONS.length + Math.log2(256);
  await fillIndex("00", 20_000, () => 1);
  expect(await countReads()).toBeLessThanOrEqual(most);
  await fillIndex("00", 20_000, anyTime);
  expect(await countReads()).toBeLessThanOrEqual(most);
  for (const partition of PARTITIONS.slice(1)) await fillIndex(partition, 80, anyTime);
  expect(await countReads()).toBeLessThan(3 * PARTITIONS.length);
});

// A migration by day gives thousands of sessions one time.
test("of thousands of sessions with one time each is on exactly one page, and in order", async () => {
  let timeMs = Date.now();
  const frozen = new RedisSessionStore({
    redis: await connectTo(server),
    keyPrefix,
    now: () => timeMs,
  });
  const sessions = await addSessions(frozen, 50, { userId: "ann" });
  for (let user = 0; user < 1_500; user += 100) {
    const added = Array.from({ length: 100 }, (_, i) =>
      addSession(frozen, { userId: `user-${user + i}`, id: `Id_${(user + i) * 7919}` }),
    );
    sessions.push(...(await Promise.all(added)));
  }
  timeMs++;
  sessions.push(...(await addSessions(frozen, 50, { userId: "bob" })));
  const ids = idsOf(sessions.toSorted(byCreation));
  for (const order of ["asc", "desc"] as const) {
    const expected = order === "asc" ? ids : ids.toReversed();
    for (const limit of [1_000, 170]) {
      const query = { showExpired: true, showRevoked: false, order, limit } as const;
      expect(idsOf(await listAll(frozen, query))).toEqual(expected);
    }
  }
  await frozen.close();
});

test("a page of a thousand lets others in between", async () => {
  for (const partition of PARTITIONS) await fillIndex(partition, 20, anyTime);
  expect(await countCalls("evalsha_ro", NEWEST)).toBe(4);
});

/** How often a page has Redis run a command, also in scripts. */
async function countCalls(command: string, query: ListQuery): Promise<number> {
  // By now Redis knows the script.
  await store.list(query);
  await admin.config("RESETSTAT");
  expect((await store.list(query)).next).toBeDefined();
  const stats = await admin.info("commandstats");
  return Number(new RegExp(`^cmdstat_${command}:calls=(\\d+)`, "m").exec(stats)?.[1]);
}

function anyTime(): number {
  return Math.floor(Math.random() * Date.now());
}

/** Enters sessions that do not exist. */
async function fillIndex(
  partition: Partition,
  count: number,
  createTimeMs: () => number,
): Promise<void> {
  const entries = Array.from({ length: count }, () => {
    return [createTimeMs(), generateSessionId(partition)];
  });
  await admin.zadd(`${keyPrefix}sessions_by_create_time:{${partition}}`, ...entries.flat());
}
