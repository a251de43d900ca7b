import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { EVICTION_REASON } from "../sessions/session-store.js";
import { FakeClock } from "../testing/contract/fake-clock.js";
import {
  addSession,
  addSessions,
  evictBeyond,
  keyOf,
  NO_LIMIT,
  newSession,
  sweepAll,
} from "../testing/contract/sessions/fixtures.js";
import type { EventCursor } from "../watch/session-event.js";
import { GroupCommit } from "./group-commit.js";
import { migrate } from "./migrations.js";
import { MAX_EVENTS, SqliteEventLog } from "./sqlite-event-log.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";
import { prepareStatements } from "./statements.js";

const RETENTION_MS = 60_000;
const LONG = { idleTimeoutMs: 10 * RETENTION_MS, lifetimeMs: 10 * RETENTION_MS };

let dir: string;
let path: string;
let clock: FakeClock;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "sessiond-"));
  path = join(dir, "sessions.db");
  clock = new FakeClock();
});
afterEach(() => rm(dir, { recursive: true }));

/** Opens a file, the one of the test unless said otherwise; closed at the latest after the test. */
async function open(file = path): Promise<SqliteSessionStore> {
  const options = { path: file, now: clock.now, retentionMs: RETENTION_MS };
  const store = await SqliteSessionStore.open(options);
  onTestFinished(() => store.close());
  return store;
}

/** The events after a cursor: which session, its new version, and the event's number. */
async function eventsAfter({ events: log }: SqliteSessionStore, cursor: EventCursor) {
  const page = await log.read(cursor, 10_000);
  if (page === "lost") throw new Error("the events are lost");
  expect(page.isComplete).toBe(true);
  return page.events.map(({ position: { sequence }, ...event }) => ({ sequence, ...event }));
}

function sequenceOf(cursor: EventCursor): number {
  const sequence = cursor.get(0)?.sequence;
  if (sequence === undefined) throw new Error("expected a position in lane 0");
  return sequence;
}

function at(sequence: number): EventCursor {
  return new Map([[0, { source: 0, epoch: 0, sequence, timeMs: clock.now() }]]);
}

/** How many rows a table has. */
function rowsOf(table: "session_events" | "requests"): number {
  using db = new DatabaseSync(path);
  return Number(db.prepare(`SELECT count(*) AS count FROM ${table}`).get()?.["count"]);
}

describe("the numbers of events", () => {
  test("have no gaps, though transactions were rolled back", async () => {
    using db = new DatabaseSync(path);
    migrate(db);
    const log = new SqliteEventLog(db, prepareStatements(db), (query) => query(clock.now()));
    const writes = new GroupCommit(db);
    const start = await log.end();
    const append = (id: string, fails = false) =>
      writes.run(() => {
        log.append("created", { id, userId: "ann", version: 1 }, clock.now());
        if (fails) throw new TypeError("a fault of ours");
      });
    // The first batch is undone as a whole, then each of it is made again on its own.
    const outcomes = await Promise.allSettled([append("a"), append("b", true), append("c")]);
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    await expect(append("d", true)).rejects.toThrow("a fault of ours");
    await append("e");

    const page = await log.read(start, 10);
    if (page === "lost") throw new Error("a gap");
    const first = sequenceOf(start) + 1;
    const told = page.events.map(({ sessionId, position }) => [sessionId, position.sequence]);
    expect(told).toEqual(["a", "c", "e"].map((id, i) => [id, first + i]));
    expect(page.cursor).toEqual(await log.end());
  });

  test("go on where they were after all events were trimmed and the file was opened again", async () => {
    const first = await open();
    await addSessions(first, 3);
    const end = await first.events.end();
    clock.advance(RETENTION_MS);
    await sweepAll(first);
    expect(rowsOf("session_events")).toBe(0);
    expect(sequenceOf(await first.events.end())).toBe(sequenceOf(end));
    await first.close();

    const second = await open();
    expect(await eventsAfter(second, end)).toEqual([]);
    const { id } = await addSession(second);
    const next = { sessionId: id, sequence: sequenceOf(end) + 1 };
    expect(await eventsAfter(second, end)).toMatchObject([next]);
  });

  test("begin somewhere else in every file, and leave room for as many again", async () => {
    const starts = new Set<number>();
    for (let i = 0; i < 20; i++) {
      const start = sequenceOf(await (await open(":memory:")).events.end());
      expect(start % 2 ** 20).toBe(0);
      expect(start).toBeLessThan(2 ** 52);
      starts.add(start);
    }
    expect(starts.size).toBe(20);
    expect(Math.max(...starts)).toBeGreaterThan(2 ** 48);
  });
});

test("after the file was opened again, readers go on and requests are recognised", async () => {
  const first = await open();
  const start = await first.events.end();
  const evicted = await addSession(first, { userId: "ann" });
  const revoked = await addSession(first, { userId: "ann" }, evictBeyond(1));
  const page = await first.events.read(start, 1);
  if (page === "lost") throw new Error("lost");
  expect(page).toMatchObject({ events: [{ sessionId: evicted.id }], isComplete: false });
  await first.revoke(keyOf(revoked), "logout");
  const request = { key: "caller:1", record: new Uint8Array([1, 2, 3]), keptForMs: 600_000 };
  const { session } = await first.createOnce(request, newSession(), NO_LIMIT);
  await first.close();

  const second = await open();
  expect(await eventsAfter(second, page.cursor)).toMatchObject([
    { type: "evicted", sessionId: evicted.id, version: 2, reason: EVICTION_REASON },
    { type: "created", sessionId: revoked.id, version: 1 },
    { type: "revoked", sessionId: revoked.id, version: 2, reason: "logout" },
    { type: "created", sessionId: session?.id },
  ]);
  expect(await second.createOnce(request, newSession(), NO_LIMIT)).toMatchObject({
    repeated: request.record,
    session: { id: session?.id },
    evictedIds: [],
  });
  expect(await second.count()).toBe(1);
});

describe("sweeping", () => {
  test("trims events, and forgets requests, once they are old enough, some at a time", async () => {
    const store = await open();
    for (let i = 0; i < 25; i++) {
      const request = { key: `ann:${i}`, record: new Uint8Array(8), keptForMs: RETENTION_MS };
      await store.createOnce(request, newSession(LONG), NO_LIMIT);
    }
    const left = () => [rowsOf("session_events"), rowsOf("requests")];
    clock.advance(RETENTION_MS - 1);
    expect(await store.sweep(10)).toEqual({ expired: 0, reclaimed: 0, healed: 0, more: false });
    expect(left()).toEqual([25, 25]);
    clock.advance(1);
    for (const [rows, isMore] of [
      [15, true],
      [5, true],
      [0, false],
    ] as const) {
      const { more } = await store.sweep(10);
      expect([...left(), more]).toEqual([rows, rows, isMore]);
    }
  });

  test("keeps the newest events when there are too many, however young they are", async () => {
    const store = await open();
    const start = sequenceOf(await store.events.end());
    using db = new DatabaseSync(path);
    const excess = 1_500;
    db.exec(`
      WITH RECURSIVE count (i) AS (
        SELECT 1 UNION ALL SELECT i + 1 FROM count WHERE i < ${MAX_EVENTS + excess}
      )
      INSERT INTO session_events (namespace, sequence, time_ms, type, session_id, user_id, version)
      SELECT '', ${start} + i, ${clock.now()}, 'created', 'id-' || i, 'ann', 1 FROM count ORDER BY i;
      INSERT INTO event_ends SELECT namespace, max(sequence) FROM session_events`);
    for (const left of [500, 0]) {
      expect((await store.sweep(1_000)).more).toBe(left > 0);
      expect(rowsOf("session_events")).toBe(MAX_EVENTS + left);
    }
    expect(await store.events.read(at(start + excess - 1), 1)).toBe("lost");
    expect(await store.events.read(at(start + excess), 1)).toMatchObject({
      events: [{ sessionId: `id-${excess + 1}` }],
      isComplete: false,
    });
  });

  test("leaves no gap between events when the clock was set back", async () => {
    const store = await open();
    const start = await store.events.end();
    clock.advance(1_000);
    await addSession(store);
    clock.stepBack(1_000);
    await addSession(store);
    clock.advance(RETENTION_MS);
    expect((await store.sweep(10)).more).toBe(false);
    expect(await eventsAfter(store, start)).toHaveLength(2);
    clock.advance(1_000);
    await store.sweep(10);
    expect(rowsOf("session_events")).toBe(0);
  });
});

describe("a listener", () => {
  /** Subscribes, and waits until what happened before the first look has been told. */
  async function subscribe(store: SqliteSessionStore) {
    const heard = vi.fn();
    const stop = store.events.subscribe(heard);
    await sleep(150);
    heard.mockClear();
    return { heard, stop };
  }

  test("hears of this store's changes by the time they are acknowledged, once a batch", async () => {
    const store = await open();
    const { heard, stop } = await subscribe(store);
    const sessions = await addSessions(store, 20);
    expect(heard.mock.calls).toEqual([[0]]);
    for (const session of sessions) await store.touch(keyOf(session));
    await sleep(150);
    expect(heard).toHaveBeenCalledTimes(1);
    stop();
    await addSession(store);
    expect(heard).toHaveBeenCalledTimes(1);
  });

  test("hears of changes through another connection to the file, not of touches", async () => {
    const [store, other] = [await open(), await open()];
    const session = await addSession(other);
    const { heard } = await subscribe(store);
    await other.touch(keyOf(session));
    await sleep(150);
    expect(heard).not.toHaveBeenCalled();
    await other.revoke(keyOf(session), "logout");
    await vi.waitFor(() => expect(heard.mock.calls).toEqual([[0]]), 2_000);
    await sleep(150);
    expect(heard).toHaveBeenCalledTimes(1);
  });

  test("keeps a timer only while it is subscribed and the store is open, and no process", async () => {
    const store = await open();
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout");
    const before = timers().length;
    const stopReal = store.events.subscribe(() => {});
    expect(timers()).toHaveLength(before);
    stopReal();
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    onTestFinished(() => void vi.useRealTimers());
    const stops = [store.events.subscribe(() => {}), store.events.subscribe(() => {})];
    expect(vi.getTimerCount()).toBe(1);
    for (const stop of stops) stop();
    expect(vi.getTimerCount()).toBe(0);
    store.events.subscribe(() => {});
    await store.close();
    store.events.subscribe(() => {});
    expect(vi.getTimerCount()).toBe(0);
  });
});

test("after a restored backup, a reader is told of lost events, also once new ones have taken their numbers", async () => {
  const backup = join(dir, "backup.db");
  const store = await open();
  await addSession(store, LONG);
  using db = new DatabaseSync(path);
  db.exec(`VACUUM INTO '${backup}'`);
  await addSession(store, LONG);
  const cursor = await store.events.end();
  clock.advance(RETENTION_MS / 2);

  const restored = await open(backup);
  expect(await restored.events.read(cursor, 10)).toBe("lost");
  await addSession(restored, LONG);
  expect(await restored.events.read(cursor, 10)).toBe("lost");
  await addSession(restored, LONG);
  expect(await restored.events.read(cursor, 10)).toBe("lost");
  expect(await eventsAfter(restored, at(sequenceOf(cursor)))).toHaveLength(1);
});
