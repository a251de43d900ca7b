import type { SessionStore } from "../../sessions/session-store.js";
import type {
  EventCursor,
  EventLog,
  EventPage,
  EventPosition,
  SessionEvent,
} from "../../watch/session-event.js";
import { keyOf } from "../contract/sessions/fixtures.js";
import {
  type BrokenSessionStore,
  broken,
  type CorrectSessionStore,
  overridingLog,
} from "./broken-session-store.js";

const EACH_CHANGE =
  "each change of a session is an event with its version, time and reason, in order";
const EVICTION =
  "the events of an eviction come with the creation that caused it, the evicted ones first";
const LIMIT = "at no place in the log does a user have more sessions than the limit";
const SMALL_PAGES = "a log read in small pages has each event exactly once, in order per session";
const MEANWHILE = "what is added while a log is read in pages is read as well";
const NUMBERS = "events are numbered one by one in their lane, so that a reader sees a gap";
const OTHER_STORE = "a place in the log of another store is lost";
const AHEAD = "a place that the log has not come to yet is lost";
const TRIMMING = "a sweep trims events that are older than the retention, and no others";
const AT_END = "a reader who was at the end of the log misses nothing by trimming";
const HEARS = "who listens hears soon of a change, whichever server made it";
const STOPS = "who no longer listens hears nothing, and others still do";

/** Has a log that differs in some of its methods. */
function logging(
  fault: string,
  caughtBy: readonly string[],
  differ: (log: EventLog, correct: CorrectSessionStore) => Partial<EventLog>,
): BrokenSessionStore {
  return broken(fault, caughtBy, (correct) => {
    const log = correct.store.events;
    return { events: overridingLog(log, differ(log, correct)) };
  });
}

/** Reads pages that are a little different from what the log has. */
function reading(
  fault: string,
  caughtBy: readonly string[],
  different: (page: EventPage, correct: CorrectSessionStore) => EventPage,
): BrokenSessionStore {
  return logging(fault, caughtBy, (log, correct) => ({
    async read(cursor, limit) {
      const page = await log.read(cursor, limit);
      return page === "lost" ? page : different(page, correct);
    },
  }));
}

/** Answers events that are a little different. */
function telling(
  fault: string,
  caughtBy: readonly string[],
  different: (event: SessionEvent, correct: CorrectSessionStore) => SessionEvent,
): BrokenSessionStore {
  return reading(fault, caughtBy, (page, correct) => ({
    ...page,
    events: page.events.map((event) => different(event, correct)),
  }));
}

/** Answers events without some of them, given the ones before. */
function omitting(
  fault: string,
  caughtBy: readonly string[],
  omits: (event: SessionEvent, before: readonly SessionEvent[]) => boolean,
): BrokenSessionStore {
  return reading(fault, caughtBy, (page) => ({
    ...page,
    events: page.events.filter((event, i) => !omits(event, page.events.slice(0, i))),
  }));
}

function moved(cursor: EventCursor, by: number): EventCursor {
  return new Map(
    [...cursor].map(([lane, position]): [number, EventPosition] => [
      lane,
      { ...position, sequence: position.sequence + by },
    ]),
  );
}

function isAhead(cursor: EventCursor, end: EventCursor): boolean {
  return [...cursor].some(([lane, { sequence }]) => sequence > (end.get(lane)?.sequence ?? 0));
}

/** Tells listeners of what is created through this very store. */
function hearingItselfOnly(store: SessionStore): Partial<SessionStore> {
  const listeners = new Set<(lane: number) => void>();
  return {
    async create(session, limit) {
      const created = await store.create(session, limit);
      const [lane = 0] = (await store.events.end(session.userId)).keys();
      for (const listener of listeners) listener(lane);
      return created;
    },
    events: overridingLog(store.events, {
      subscribe(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    }),
  };
}

/** Stores that go wrong where changes are logged, or the log is read. */
export const brokenEvents: readonly BrokenSessionStore[] = [
  telling("logs the version before a change", [EACH_CHANGE], (event) => ({
    ...event,
    version: event.version - 1,
  })),
  telling("logs a rotation as an update", [EACH_CHANGE], (event) =>
    event.type === "token_rotated" ? { ...event, type: "updated" } : event,
  ),
  telling("logs no reasons", [EACH_CHANGE, EVICTION], ({ reason: _, ...event }) => event),
  telling("logs when it is asked, not when it was", [EACH_CHANGE], (event, { now }) => ({
    ...event,
    timeMs: now(),
  })),
  telling("logs an eviction as a revocation", [EVICTION], (event) =>
    event.type === "evicted" ? { ...event, type: "revoked" } : event,
  ),
  reading("logs evictions after the creation that caused them", [EVICTION, LIMIT], (page) => ({
    ...page,
    events: page.events.toSorted(
      (a, b) => Number(a.type === "evicted") - Number(b.type === "evicted"),
    ),
  })),
  omitting(
    "logs the revocation of a user's sessions as one event",
    ["revoking a user's sessions is an event for each of them, and none for the one spared"],
    (event, before) =>
      event.type === "revoked" &&
      before.some(
        ({ type, userId, timeMs }) =>
          type === "revoked" && userId === event.userId && timeMs === event.timeMs,
      ),
  ),
  broken(
    "changes a session that is spared",
    ["revoking a user's sessions is an event for each of them, and none for the one spared"],
    ({ store, activeOf }) => ({
      async revokeUser(userId, reason, exceptId) {
        const count = await store.revokeUser(userId, reason, exceptId);
        for (const spared of await activeOf(userId)) {
          await store.replaceRecord(keyOf(spared), spared.version, spared.record);
        }
        return count;
      },
    }),
  ),
  broken("logs a change that was refused", ["a change that fails is no event"], ({ store }) => ({
    async replaceRecord(key, version, record) {
      const replaced = await store.replaceRecord(key, version, record);
      const current = replaced === "version_mismatch" && (await store.get(key));
      if (current) await store.replaceRecord(key, current.version, current.record);
      return replaced;
    },
  })),
  telling(
    "cuts the reason of an event at a NUL",
    ["events name any user, and give any reason, as it is"],
    ({ reason, ...event }) =>
      reason === undefined ? event : { ...event, reason: reason.split("\0")[0] ?? "" },
  ),
  omitting(
    "logs one event of a kind for a session at a time",
    ["changes of one session by several servers at once are events without a gap in versions"],
    (event, before) =>
      before.some(
        ({ type, sessionId, timeMs }) =>
          type === event.type && sessionId === event.sessionId && timeMs === event.timeMs,
      ),
  ),
  reading(
    "never says that a log is read to its end",
    ["a log to which nothing was added since is read to its end at once"],
    (page) => ({ ...page, isComplete: false }),
  ),
  reading("says of every page that it is the last", [SMALL_PAGES, MEANWHILE], (page) => ({
    ...page,
    isComplete: true,
  })),
  reading("skips an event between pages", [SMALL_PAGES], (page) =>
    page.isComplete ? page : { ...page, cursor: moved(page.cursor, 1) },
  ),
  reading("repeats an event on the next page", [SMALL_PAGES, MEANWHILE], (page) =>
    page.events.length > 1 && !page.isComplete ? { ...page, cursor: moved(page.cursor, -1) } : page,
  ),
  logging("takes the end of a log for the end of a page", [MEANWHILE, SMALL_PAGES], (log) => ({
    async read(cursor, limit) {
      const page = await log.read(cursor, limit);
      return page === "lost" ? page : { ...page, cursor: await log.end() };
    },
  })),
  logging(
    "reads all events at once",
    ["a page of a log has about as many events as were asked for"],
    (log) => ({ read: (cursor) => log.read(cursor, 1_000_000) }),
  ),
  telling(
    "gives an event the place of the next",
    [NUMBERS, "a reader goes on after any event from that event's own place"],
    (event) => {
      const { sequence } = event.position;
      return { ...event, position: { ...event.position, sequence: sequence + 1 } };
    },
  ),
  logging("numbers every second number", [NUMBERS], (log) => {
    const scale = (position: EventPosition, by: number): EventPosition => ({
      ...position,
      sequence: position.sequence * by,
    });
    const scaled = (cursor: EventCursor, by: number) =>
      new Map([...cursor].map(([lane, position]) => [lane, scale(position, by)] as const));
    return {
      end: async (userId) => scaled(await log.end(userId), 2),
      async read(cursor, limit) {
        const page = await log.read(scaled(cursor, 0.5), limit);
        if (page === "lost") return page;
        const events = page.events.map((event) => ({
          ...event,
          position: scale(event.position, 2),
        }));
        return { ...page, events, cursor: scaled(page.cursor, 2) };
      },
    };
  }),
  logging(
    "gives a reader of one user another lane",
    ["a reader of one user's lane gets all events of that user"],
    (log) => ({
      async end(userId) {
        const [[lane, position] = [0, undefined]] = await log.end(userId);
        if (userId === undefined || position === undefined) return log.end(userId);
        return new Map([[lane + 1, position]]);
      },
      async read(cursor, limit) {
        const all = await log.end();
        const known = new Map([...cursor].filter(([lane]) => all.has(lane)));
        const page = await log.read(known, limit);
        return page === "lost" ? page : { ...page, cursor };
      },
    }),
  ),
  broken(
    "does not know the places that another server gave out",
    ["another server reads the same log from the same place"],
    () => ({}),
    ({ store }) => {
      const known = new WeakSet<EventCursor>();
      const know = (cursor: EventCursor) => {
        known.add(cursor);
        return cursor;
      };
      return {
        events: overridingLog(store.events, {
          end: async (userId) => know(await store.events.end(userId)),
          read: async (cursor, limit) =>
            known.has(cursor) ? store.events.read(cursor, limit) : "lost",
        }),
      };
    },
  ),
  logging(
    "goes on at the end for a reader who has lost events",
    [OTHER_STORE, AHEAD, TRIMMING, "after the last event was trimmed nothing is left of the log"],
    (log) => ({
      async read(cursor, limit) {
        const page = await log.read(cursor, limit);
        return page === "lost" ? log.read(await log.end(), limit) : page;
      },
    }),
  ),
  logging("waits for a place that is not there yet", [AHEAD], (log) => ({
    async read(cursor, limit) {
      const page = await log.read(cursor, limit);
      if (page !== "lost" || !isAhead(cursor, await log.end())) return page;
      return { events: [], cursor, isComplete: true };
    },
  })),
  broken("trims events early", [TRIMMING], ({ store, shifted }) => ({
    sweep: (limit) => shifted(1_000, () => store.sweep(limit)),
  })),
  broken("trims events late", [TRIMMING], ({ store, shifted }) => ({
    sweep: (limit) => shifted(-1_000, () => store.sweep(limit)),
  })),
  broken("loses all readers by a sweep", [AT_END], ({ store, now }) => {
    let sweptAtMs = 0;
    return {
      sweep(limit) {
        sweptAtMs = now();
        return store.sweep(limit);
      },
      events: overridingLog(store.events, {
        async read(cursor, limit) {
          const isOld = [...cursor.values()].some(({ timeMs }) => timeMs < sweptAtMs);
          return isOld ? "lost" : store.events.read(cursor, limit);
        },
      }),
    };
  }),
  logging(
    "keeps nine hundred events",
    ["the newest thousand events are kept, however soon they came"],
    (log) => ({
      async read(cursor, limit) {
        const kept = moved(await log.end(), -900);
        return isAhead(kept, cursor) ? "lost" : log.read(cursor, limit);
      },
    }),
  ),
  logging("tells no listener anything", [HEARS], () => ({ subscribe: () => () => {} })),
  broken(
    "tells listeners of its own changes only",
    [HEARS],
    ({ store }) => hearingItselfOnly(store),
    () => ({}),
  ),
  logging("tells of changes in another lane", [HEARS], (log) => ({
    subscribe: (listener) => log.subscribe((lane) => listener(lane + 1)),
  })),
  logging("tells listeners of changes also after they stopped", [STOPS], (log) => ({
    subscribe(listener) {
      log.subscribe(listener);
      return () => {};
    },
  })),
  logging("stops all listeners with one", [STOPS], (log) => {
    const stops: (() => void)[] = [];
    return {
      subscribe(listener) {
        stops.push(log.subscribe(listener));
        return () => {
          for (const stop of stops) stop();
        };
      },
    };
  }),
];
