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
  keyOf,
  newSession,
  sweepAll,
} from "../testing/contract/sessions/fixtures.js";
import type { EventCursor, SessionEvent } from "../watch/session-event.js";
import { GroupCommit } from "./group-commit.js";
import { migrate } from "./migrations.js";
import { MAX_EVENTS, SqliteEventLog } from "./sqlite-event-log.js";
import { SqliteSessionStore } from "./sqlite-session-store.js";
import { prepareStatements } from "./statements.js";

const RETENTION_MS = 60_000;

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

/** All events after a cursor, in one page. */
async function eventsAfter(
  store: SqliteSessionStore,
  cursor: EventCursor,
): Promise<readonly SessionEvent[]> {
  const page = await store.events.read(cursor, 10_000);
  if (page === "lost") throw new Error("the events are lost");
  expect(page.isComplete).toBe(true);
  return page.events;
}

function sequenceOf(cursor: EventCursor): number {
  const sequence = cursor.get(0)?.sequence;
  if (sequence === undefined) throw new Error("expected a place in lane 0");
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
  test("have no gaps, though changes among them were refused", async () => {
    const store = await open();
    const start = await store.events.end();
    const limit = { maxSessionsPerUser: 2, policy: "reject" } as const;
    const outcomes = await Promise.allSettled(
      Array.from({ length: 5 }, () => store.create(newSession(), limit)),
    );
    expect(outcomes.filter(({ status }) => status === "rejected")).toHaveLength(3);
    await addSession(store);
    const sequences = (await eventsAfter(store, start)).map(({ position }) => position.sequence);
    const first = sequenceOf(start) + 1;
    expect(sequences).toEqual([first, first + 1, first + 2]);
  });

  test("have no gaps, though transactions were rolled back", async () => {
    using db = new DatabaseSync(path);
    migrate(db);
    const log = new SqliteEventLog(db, prepareStatements(db), (query) => query(clock.now()));
    const writes = new GroupCommit(db);
    const start = await log.end();
    const append = (id: string, fails = false) =>
      writes.run(() => {
        log.append("created", id, "ann", 1, clock.now());
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
    expect(page.events.map(({ sessionId, position }) => [sessionId, position.sequence])).toEqual([
      ["a", first],
      ["c", first + 1],
      ["e", first + 2],
    ]);
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
    const session = await addSession(second);
    const [event] = await eventsAfter(second, end);
    expect(event).toMatchObject({
      sessionId: session.id,
      position: { sequence: sequenceOf(end) + 1 },
    });
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

test("a reader goes on where it was after the file was closed and opened again", async () => {
  const first = await open();
  const start = await first.events.end();
  const limit = { maxSessionsPerUser: 1, policy: "evict_oldest" } as const;
  const evicted = await addSession(first, { userId: "ann" });
  const revoked = await addSession(first, { userId: "ann" }, limit);
  const page = await first.events.read(start, 1);
  if (page === "lost") throw new Error("lost");
  expect(page).toMatchObject({ events: [{ sessionId: evicted.id }], isComplete: false });
  await first.revoke(keyOf(revoked), "logout");
  await first.close();

  const second = await open();
  const tell = ({ type, sessionId, version, reason }: SessionEvent) => ({
    type,
    sessionId,
    version,
    reason,
  });
  expect((await eventsAfter(second, page.cursor)).map(tell)).toEqual([
    { type: "evicted", sessionId: evicted.id, version: 2, reason: EVICTION_REASON },
    { type: "created", sessionId: revoked.id, version: 1, reason: undefined },
    { type: "revoked", sessionId: revoked.id, version: 2, reason: "logout" },
  ]);
});

describe("a reader is told that it has lost events", () => {
  test("when the file was deleted and made anew", async () => {
    const old = await open();
    await addSessions(old, 3);
    const end = await old.events.end();
    await old.close();
    await rm(path);
    const anew = await open();
    await addSessions(anew, 5);
    expect(await anew.events.read(end, 10)).toBe("lost");
  });

  test("when it was further on than the log is", async () => {
    const store = await open();
    await addSession(store);
    const end = sequenceOf(await store.events.end());
    expect(await store.events.read(at(end), 10)).toMatchObject({ events: [], isComplete: true });
    expect(await store.events.read(at(end + 1), 10)).toBe("lost");
  });

  test("when its place is in another kind of store", async () => {
    const store = await open();
    const end = await store.events.end();
    const place = end.get(0);
    if (place === undefined) throw new Error("expected a place");
    expect(await store.events.read(new Map([[1, place]]), 10)).toBe("lost");
    expect(await store.events.read(new Map([[0, { ...place, source: 7 }]]), 10)).toBe("lost");
    expect(await store.events.read(new Map([[0, { ...place, epoch: 7 }]]), 10)).toBe("lost");
    expect(await store.events.read(end, 10)).not.toBe("lost");
  });

  test("when they were trimmed, and not when they are the next in the log", async () => {
    const store = await open();
    const start = sequenceOf(await store.events.end());
    await addSession(store);
    clock.advance(1);
    await addSession(store);
    clock.advance(RETENTION_MS - 1);
    await store.sweep(10);
    expect(await store.events.read(at(start), 10)).toBe("lost");
    expect(await eventsAfter(store, at(start + 1))).toHaveLength(1);
    clock.advance(1);
    await store.sweep(10);
    expect(await store.events.read(at(start + 1), 10)).toBe("lost");
    expect(await eventsAfter(store, at(start + 2))).toEqual([]);
  });
});

describe("sweeping", () => {
  test("trims events once they are as old as the retention, some at a time", async () => {
    const store = await open();
    const long = 10 * RETENTION_MS;
    await addSessions(store, 25, { idleTimeoutMs: long, lifetimeMs: long });
    clock.advance(RETENTION_MS - 1);
    expect(await store.sweep(10)).toEqual({ reclaimed: 0, healed: 0, more: false });
    expect(rowsOf("session_events")).toBe(25);
    clock.advance(1);
    const left: [number, boolean][] = [];
    for (let i = 0; i < 3; i++) {
      const { more } = await store.sweep(10);
      left.push([rowsOf("session_events"), more]);
    }
    expect(left).toEqual([
      [15, true],
      [5, true],
      [0, false],
    ]);
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
      INSERT INTO session_events (time_ms, type, session_id, user_id, version)
      SELECT ${clock.now()}, 'created', 'id-' || i, 'ann', 1 FROM count ORDER BY i`);
    expect((await store.sweep(1_000)).more).toBe(true);
    expect(rowsOf("session_events")).toBe(MAX_EVENTS + 500);
    expect((await store.sweep(1_000)).more).toBe(false);
    expect(rowsOf("session_events")).toBe(MAX_EVENTS);
    expect(await store.events.read(at(start + excess - 1), 1)).toBe("lost");
    expect(await store.events.read(at(start + excess), 1)).toMatchObject({
      events: [{ sessionId: `id-${excess + 1}` }],
      isComplete: false,
    });
  });

  test("leaves no gap between events when the clock was set back", async () => {
    const store = await open();
    const start = sequenceOf(await store.events.end());
    clock.advance(1_000);
    await addSession(store);
    clock.stepBack(1_000);
    await addSession(store);
    clock.advance(RETENTION_MS);
    expect((await store.sweep(10)).more).toBe(false);
    expect(await eventsAfter(store, at(start))).toHaveLength(2);
    clock.advance(1_000);
    await store.sweep(10);
    expect(rowsOf("session_events")).toBe(0);
  });

  test("forgets requests once they have expired, some at a time", async () => {
    const store = await open();
    const long = 10 * RETENTION_MS;
    const limit = { maxSessionsPerUser: 100, policy: "reject" } as const;
    for (let i = 0; i < 15; i++) {
      const request = { key: `ann:${i}`, record: new Uint8Array(8), keptForMs: 1_000 };
      await store.createOnce(request, newSession({ idleTimeoutMs: long, lifetimeMs: long }), limit);
    }
    clock.advance(999);
    expect((await store.sweep(10)).more).toBe(false);
    expect(rowsOf("requests")).toBe(15);
    clock.advance(1);
    expect((await store.sweep(10)).more).toBe(true);
    expect(rowsOf("requests")).toBe(5);
    expect((await store.sweep(10)).more).toBe(false);
    expect(rowsOf("requests")).toBe(0);
  });
});

describe("a listener", () => {
  test("hears of this store's changes by the time they are acknowledged, once a batch", async () => {
    const store = await open();
    const heard = vi.fn();
    const stop = store.events.subscribe(heard);
    // What happened before the first look may be told as well.
    await sleep(150);
    heard.mockClear();
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
    const store = await open();
    const other = await open();
    const session = await addSession(other);
    const heard = vi.fn();
    store.events.subscribe(heard);
    // What happened before the first look may be told as well.
    await sleep(150);
    heard.mockClear();
    await other.touch(keyOf(session));
    await sleep(150);
    expect(heard).not.toHaveBeenCalled();
    await other.revoke(keyOf(session), "logout");
    await vi.waitFor(() => expect(heard.mock.calls).toEqual([[0]]), 2_000);
    await sleep(150);
    expect(heard).toHaveBeenCalledTimes(1);
  });

  test("subscribed twice is called twice, until each subscription is stopped", async () => {
    const store = await open();
    const heard = vi.fn();
    const stops = [store.events.subscribe(heard), store.events.subscribe(heard)];
    await addSession(store);
    expect(heard).toHaveBeenCalledTimes(2);
    stops[0]?.();
    stops[0]?.();
    await addSession(store);
    expect(heard).toHaveBeenCalledTimes(3);
  });

  test("keeps a timer only while it is subscribed and the store is open", async () => {
    const store = await open();
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    onTestFinished(() => void vi.useRealTimers());
    expect(vi.getTimerCount()).toBe(0);
    const stops = [store.events.subscribe(() => {}), store.events.subscribe(() => {})];
    expect(vi.getTimerCount()).toBe(1);
    for (const stop of stops) stop();
    expect(vi.getTimerCount()).toBe(0);
    store.events.subscribe(() => {});
    await store.close();
    expect(vi.getTimerCount()).toBe(0);
    store.events.subscribe(() => {});
    expect(vi.getTimerCount()).toBe(0);
  });

  test("does not keep the process running", async () => {
    const store = await open();
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout");
    const before = timers().length;
    store.events.subscribe(() => {});
    expect(timers()).toHaveLength(before);
  });
});

test("a closed store's log is unavailable", async () => {
  const store = await open();
  const end = await store.events.end();
  await store.close();
  const unavailable = { reason: "STORE_UNAVAILABLE" };
  await expect(store.events.end()).rejects.toMatchObject(unavailable);
  await expect(store.events.read(end, 10)).rejects.toMatchObject(unavailable);
});

describe("a request that must take effect once", () => {
  const limit = { maxSessionsPerUser: 10, policy: "reject" } as const;
  const request = { key: "caller:1", record: new Uint8Array([1, 2, 3]), keptForMs: 600_000 };

  test("is recognised after the file was closed and opened again", async () => {
    const first = await open();
    const { session } = await first.createOnce(request, newSession(), limit);
    await first.close();
    const second = await open();
    expect(await second.createOnce(request, newSession(), limit)).toMatchObject({
      repeated: request.record,
      session: { id: session?.id },
      evictedIds: [],
    });
    expect(await second.count()).toBe(1);
  });

  test("is never answered with a later session that was given the same id", async () => {
    const store = await open();
    const first = newSession({ id: "jti-1", idleTimeoutMs: 1_000 });
    await store.createOnce(request, first, limit);
    clock.advance(1_000 + RETENTION_MS);
    await sweepAll(store);
    await addSession(store, { id: "jti-1" });
    const repetition = await store.createOnce(request, first, limit);
    expect(repetition).toMatchObject({ repeated: request.record, session: undefined });
  });
});
