import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { SessionStore } from "../../../sessions/session-store.js";
import type { EventCursor, EventPosition, SessionEvent } from "../../../watch/session-event.js";
import {
  addSession,
  addSessions,
  bySession,
  EVERYTHING,
  factsOf,
  idsOf,
  keyOf,
  listAll,
  readToEnd,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

/** How soon "soon" is, and how often it is tried: a store need not be listening at once. */
const HINT_DEADLINE_MS = 3_000;
const HINT_INTERVAL_MS = 50;

/** Makes a few changes of sessions of some users. */
async function makeChanges(store: SessionStore, userCount = 6): Promise<void> {
  for (let user = 0; user < userCount; user++) {
    const session = await addSession(store, { userId: `user-${user}` });
    await store.replaceRecord(keyOf(session), 1, new Uint8Array([user]));
    await store.replaceRecord(keyOf(session), 2, new Uint8Array([user + 1]));
    await store.revoke(keyOf(session), `logout ${user}`);
  }
}

/** The one lane that a user's events are in, and the reader's position in it. */
function onlyLane(cursor: EventCursor): readonly [lane: number, position: EventPosition] {
  const [entry, ...others] = cursor;
  assert.ok(entry && others.length === 0, `${cursor.size} lanes for one user`);
  return entry;
}

/** A cursor some events further on. */
function ahead(cursor: EventCursor, events: number): EventCursor {
  return new Map(
    [...cursor].map(([lane, position]) => {
      return [lane, { ...position, sequence: position.sequence + events }] as const;
    }),
  );
}

/** Makes changes until the store has given the hint that the check waits for. */
async function changeUntil(store: SessionStore, userId: string, isDone: () => boolean) {
  for (let waitedMs = 0; !isDone(); waitedMs += HINT_INTERVAL_MS) {
    assert.ok(waitedMs < HINT_DEADLINE_MS, "no hint of a change");
    await addSession(store, { userId });
    await sleep(HINT_INTERVAL_MS);
  }
}

/** Asserts that the events of each lane are numbered one by one. */
function assertConsecutive(events: readonly SessionEvent[]): void {
  for (const inLane of Map.groupBy(events, ({ lane }) => lane).values()) {
    const [first, ...others] = inLane;
    let last = first?.position;
    for (const { position, timeMs } of others) {
      assert.deepEqual(position, { ...last, sequence: (last?.sequence ?? 0) + 1, timeMs });
      last = position;
    }
  }
}

/** The log of events: positions in it, reading, trimming, hints. */
export const eventLogChecks: SessionStoreChecks = {
  "a log to which nothing was added since is read to its end at once": async ({ store }) => {
    for (const make of [async () => {}, () => makeChanges(store, 2)]) {
      await make();
      for (const cursor of [await store.events.end(), await store.events.end("ann")]) {
        const page = await store.events.read(cursor, 10);
        assert.ok(page !== "lost");
        assert.deepEqual([page.events, page.isComplete], [[], true]);
        const again = await readToEnd(store, page.cursor);
        assert.deepEqual(again, { events: [], cursor: page.cursor });
      }
    }
  },
  "a log read in pages has each event exactly once, in order per session": async ({ store }) => {
    const start = await store.events.end();
    await makeChanges(store);
    const whole = await readToEnd(store, start);
    assert.equal(whole.events.length, 24);
    const sessions = bySession(whole.events.map(factsOf));
    for (const events of sessions.values()) {
      assert.deepEqual(
        events.map(({ type, version }) => `${version} ${type}`),
        ["1 created", "2 updated", "3 updated", "4 revoked"],
      );
    }
    for (const limit of [1, 2, 3, 7]) {
      const paged = await readToEnd(store, start, limit);
      assert.equal(paged.events.length, 24, `in pages of ${limit}`);
      assert.deepEqual(bySession(paged.events.map(factsOf)), sessions);
    }
  },
  "a page has about as many events as asked for, and what is added meanwhile is read as well":
    async ({ store, peer }) => {
      let cursor = await store.events.end("ann");
      await addSessions(store, 100, { userId: "ann" });
      const read: string[] = [];
      for (let round = 0; round < 4; round++) {
        const page = await store.events.read(cursor, 20);
        assert.ok(page !== "lost");
        assert.ok(page.events.length >= 10 && page.events.length <= 40, `${page.events.length}`);
        assert.equal(page.isComplete, false);
        read.push(...page.events.map(({ sessionId }) => sessionId));
        cursor = page.cursor;
        await addSessions(round % 2 ? store : peer, 40, { userId: "ann" });
      }
      const rest = await readToEnd(store, cursor, 2);
      read.push(...rest.events.map(({ sessionId }) => sessionId));
      const all = await listAll(store, { ...EVERYTHING, userId: "ann" });
      assert.equal(all.length, 260);
      assert.deepEqual(read.toSorted(), idsOf(all).toSorted());
    },
  "events are numbered one by one in their lane, and a reader goes on after any": async (t) => {
    const { store, clock } = t;
    await makeChanges(store, 2);
    const start = await store.events.end();
    for (let round = 0; round < 2; round++) {
      clock.advance(5);
      await makeChanges(store, 2);
    }
    const { events, cursor } = await readToEnd(store, start);
    assertConsecutive(events);
    for (const [lane, inLane] of Map.groupBy(events, (event) => event.lane)) {
      const before = start.get(lane);
      assert.equal(inLane[0]?.position.sequence, (before?.sequence ?? 0) + 1);
      assert.equal(inLane[0]?.position.epoch, before?.epoch);
      assert.equal(inLane.at(-1)?.position.sequence, cursor.get(lane)?.sequence);
      for (const [i, { position }] of inLane.entries()) {
        const rest = await readToEnd(store, new Map([[lane, position]]), 3);
        assert.deepEqual(rest.events, inLane.slice(i + 1));
      }
    }
    assert.ok(events.every(({ position, timeMs }) => position.timeMs === timeMs));
    assert.ok([...cursor.values()].every(({ timeMs }) => timeMs === clock.now()));
  },
  "a reader of one user's lane gets all events of that user": async ({ store }) => {
    const start = await store.events.end();
    const starts = new Map<string, EventCursor>();
    for (let user = 0; user < 6; user++) {
      const userId = `user-${user}`;
      starts.set(userId, await store.events.end(userId));
    }
    await makeChanges(store);
    const { events } = await readToEnd(store, start);
    for (const [userId, cursor] of starts) {
      const [lane] = onlyLane(cursor);
      const own = events.filter((event) => event.userId === userId);
      const read = await readToEnd(store, cursor, 3);
      assert.deepEqual([...read.cursor.keys()], [lane]);
      assert.deepEqual(
        read.events.filter((event) => event.userId === userId),
        own,
      );
      assert.ok([...own, ...read.events].every((event) => event.lane === lane));
    }
  },
  "another server reads the same log from the same position": async ({ store, peer }) => {
    const start = await peer.events.end();
    await makeChanges(store, 3);
    await makeChanges(peer, 3);
    const own = await readToEnd(store, start);
    const others = await readToEnd(peer, start);
    assert.deepEqual(bySession(others.events), bySession(own.events));
    assert.equal(own.events.length, 24);
    assert.deepEqual(await peer.events.end(), await store.events.end());
    assert.deepEqual((await readToEnd(peer, own.cursor)).events, []);
  },
  "a position in another store's log, or one that does not exist yet, is lost": async (t) => {
    const { store, clock, openAnother } = t;
    await makeChanges(store, 1);
    const end = await store.events.end("user-0");
    assert.equal(await store.events.read(ahead(end, 1), 10), "lost");
    await makeChanges(store, 1);
    assert.equal(await store.events.read(ahead(end, 100), 10), "lost");

    clock.advance(10);
    const another = await openAnother();
    another.clock.advance(100);
    for (let round = 0; round < 3; round++) await makeChanges(another.store, 1);
    another.clock.advance(10);
    assert.equal(await store.events.read(await another.store.events.end("user-0"), 10), "lost");
    assert.equal(await store.events.read(await another.store.events.end(), 10), "lost");
  },
  "a sweep trims events that are older than the retention, and no others": async (t) => {
    const { store, clock, retentionMs, leftovers } = t;
    const start = await store.events.end("user-0");
    await makeChanges(store, 1);
    clock.advance(retentionMs / 2);
    const middle = await store.events.end("user-0");
    await makeChanges(store, 1);
    clock.advance(retentionMs / 2 - 1);
    await sweepAll(store);
    assert.equal((await readToEnd(store, start)).events.length, 8);
    clock.advance(2);
    await sweepAll(store);
    assert.equal(await store.events.read(start, 10), "lost");
    assert.equal((await readToEnd(store, middle)).events.length, 4);
    clock.advance(retentionMs);
    await sweepAll(store);
    assert.equal(await store.events.read(start, 10), "lost");
    assert.equal(await store.events.read(middle, 10), "lost");
    if (leftovers) assert.equal(await leftovers(), 0);
  },
  "a reader who was at the end of the log misses nothing by trimming": async (t) => {
    const { store, peer, clock, retentionMs } = t;
    let { cursor } = await readToEnd(store, await store.events.end());
    for (const rest of [1, 2]) {
      await makeChanges(store, 2);
      ({ cursor } = await readToEnd(store, cursor));
      clock.advance(retentionMs);
      ({ cursor } = await readToEnd(store, cursor));
      clock.advance(rest);
      await sweepAll(store);
      assert.deepEqual((await readToEnd(peer, cursor)).events, []);
      clock.advance(rest);
      await makeChanges(store, 3);
      const news = await readToEnd(peer, cursor);
      assert.equal(news.events.length, 12);
      ({ cursor } = news);
    }
  },
  "the newest thousand events are kept, however soon they came": async ({ store }) => {
    const start = await store.events.end();
    await addSessions(store, 500);
    await store.revokeUser("user", "all");
    await sweepAll(store);
    const { events } = await readToEnd(store, start, 300);
    assert.equal(events.length, 1_000);
    assertConsecutive(events);
  },
  "a listener hears soon of a change, whichever server made it": async ({ store, peer }) => {
    const hints = new Set<number>();
    const stop = store.events.subscribe((lane) => hints.add(lane));
    for (const [from, userId] of [[store, "ann"] as const, [peer, "bob"] as const]) {
      const [lane] = onlyLane(await store.events.end(userId));
      hints.clear();
      await changeUntil(from, userId, () => hints.has(lane));
    }
    stop();
  },
  "a listener that stopped hears nothing more, and others still do": async ({ store, peer }) => {
    let heard = 0;
    let othersHeard = 0;
    const listener = () => heard++;
    const stop = store.events.subscribe(listener);
    const stopOther = store.events.subscribe(() => othersHeard++);
    await changeUntil(store, "ann", () => heard > 0 && othersHeard > 0);
    stop();
    stop();
    heard = 0;
    for (const from of [store, peer]) {
      othersHeard = 0;
      await changeUntil(from, "ann", () => othersHeard > 0);
    }
    assert.equal(heard, 0);
    stopOther();
    const stopAgain = store.events.subscribe(listener);
    await changeUntil(peer, "ann", () => heard > 0);
    stopAgain();
  },
};
