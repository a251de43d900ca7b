import type { SessionChange } from "../../watch/author.js";
import type { EventCursor, EventPage, SessionEvent } from "../../watch/session-event.js";
import { type BrokenSessionStore, broken, logging } from "./broken-session-store.js";
import { overriding } from "./broken-store.js";

const EVICTION =
  "the events of an eviction come with the creation that caused it, the evicted ones first";

/** Reads pages that are a little different from what the log has. */
function reading(
  fault: string,
  caughtBy: readonly string[],
  different: (page: EventPage) => EventPage,
): BrokenSessionStore {
  return logging(fault, caughtBy, (log) => ({
    async read(cursor, limit) {
      const page = await log.read(cursor, limit);
      return page === "lost" ? page : different(page);
    },
  }));
}

/** Answers events that are a little different. */
function telling(
  fault: string,
  caughtBy: readonly string[],
  different: (event: SessionEvent) => SessionEvent,
): BrokenSessionStore {
  return reading(fault, caughtBy, (page) => ({ ...page, events: page.events.map(different) }));
}

/** Answers only the first of the events that are alike in some way. */
function merging(
  fault: string,
  caughtBy: readonly string[],
  likeness: (event: SessionEvent) => string,
): BrokenSessionStore {
  return reading(fault, caughtBy, (page) => {
    const first = Map.groupBy(page.events, likeness);
    return {
      ...page,
      events: page.events.filter((event) => first.get(likeness(event))?.[0] === event),
    };
  });
}

/** Stores that go wrong where changes are logged, or the log is read. */
export const brokenEvents: readonly BrokenSessionStore[] = [
  telling(
    "logs no reasons",
    ["each change of a session is an event with its version, time and reason, in order", EVICTION],
    ({ reason: _, ...event }) => event,
  ),
  telling(
    "does not know who evicted a session",
    ["each event names the author of its change, and nobody where there is none"],
    (event) => (event.type === "evicted" ? { ...event, changedBy: "" } : event),
  ),
  broken(
    "tells the author of several revocations of the last one",
    ["an author is told each change once, as its event tells it, and nobody else's"],
    ({ store }) => ({
      namespace(name, author) {
        if (author === undefined) return store.namespace(name);
        const told = new Map<string, SessionChange>();
        const changed = (change: SessionChange) => {
          told.set(change.userId, change);
          queueMicrotask(() => {
            if (told.get(change.userId) === change) author.changed(change);
          });
        };
        return store.namespace(name, { ...author, changed });
      },
    }),
  ),
  reading(
    "logs evictions after the creation that caused them",
    [EVICTION, "nowhere in the log does a user have more sessions than the limit"],
    (page) => ({
      ...page,
      events: page.events.toSorted(
        (a, b) => Number(a.type === "evicted") - Number(b.type === "evicted"),
      ),
    }),
  ),
  merging(
    "logs the revocation of a user's sessions as one event",
    ["revoking a user's sessions is an event for each, and none for the one spared"],
    ({ type, userId, timeMs, sessionId }) =>
      type === "revoked" ? `${userId} ${timeMs}` : `${sessionId} ${type}`,
  ),
  merging(
    "logs one event of a kind for a session at a time",
    ["changes of one session by several servers are events without a gap in versions"],
    ({ type, sessionId, timeMs }) => `${type} ${sessionId} ${timeMs}`,
  ),
  reading(
    "never says that a log is read to its end",
    ["a log to which nothing was added since is read to its end at once"],
    (page) => ({ ...page, isComplete: false }),
  ),
  reading(
    "says of every page that it is the last",
    [
      "a log read in pages has each event exactly once, in order per session",
      "a page has about as many events as asked for, and what is added meanwhile is read as well",
    ],
    (page) => ({ ...page, isComplete: true }),
  ),
  telling(
    "gives an event the position of the next, in another lane",
    [
      "events are numbered one by one in their lane, and a reader goes on after any",
      "a reader of one user's lane gets all events of that user",
    ],
    ({ position, lane, ...event }) => ({
      ...event,
      lane: lane + 1,
      position: { ...position, sequence: position.sequence + 1 },
    }),
  ),
  broken(
    "does not know the positions that another server gave out",
    ["another server reads the same log from the same position"],
    () => ({}),
    ({ store }) => ({ events: overriding(store.events, { read: async () => "lost" }) }),
  ),
  logging(
    "goes on at the end for a reader who has lost events",
    [
      "a position in another store's log, or one that does not exist yet, is lost",
      "a sweep trims events that are older than the retention, and no others",
    ],
    (log) => ({
      async read(cursor, limit) {
        const page = await log.read(cursor, limit);
        return page === "lost" ? log.read(await log.end(), limit) : page;
      },
    }),
  ),
  broken(
    "loses all readers by a sweep",
    ["a reader who was at the end of the log misses nothing by trimming"],
    ({ store, now }) => {
      let sweptAtMs = 0;
      return {
        sweep(limit) {
          sweptAtMs = now();
          return store.sweep(limit);
        },
        events: overriding(store.events, {
          async read(cursor, limit) {
            const isOld = [...cursor.values()].some(({ timeMs }) => timeMs < sweptAtMs);
            return isOld ? "lost" : store.events.read(cursor, limit);
          },
        }),
      };
    },
  ),
  logging(
    "keeps nine hundred events",
    ["the newest thousand events are kept, however soon they came"],
    (log) => ({
      async read(cursor, limit) {
        const end = await log.end();
        const isBehind = [...cursor].some(
          ([lane, { sequence }]) => sequence + 900 < sequenceIn(end, lane),
        );
        return isBehind ? "lost" : log.read(cursor, limit);
      },
    }),
  ),
  broken(
    "tells listeners of its own changes only",
    ["a listener hears soon of a change, whichever server made it"],
    ({ store }) => {
      const listeners = new Set<(lane: number) => void>();
      return {
        async create(session, limit) {
          const created = await store.create(session, limit);
          const [lane = 0] = (await store.events.end(session.userId)).keys();
          for (const listener of listeners) listener(lane);
          return created;
        },
        events: overriding(store.events, {
          subscribe(listener) {
            listeners.add(listener);
            return () => listeners.delete(listener);
          },
        }),
      };
    },
    () => ({}),
  ),
  logging(
    "tells listeners of changes also after they stopped",
    ["a listener that stopped hears nothing more, and others still do"],
    (log) => ({
      subscribe(listener) {
        log.subscribe(listener);
        return () => {};
      },
    }),
  ),
];

function sequenceIn(cursor: EventCursor, lane: number): number {
  return cursor.get(lane)?.sequence ?? 0;
}
