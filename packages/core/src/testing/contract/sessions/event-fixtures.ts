import assert from "node:assert/strict";
import type { SessionStore, StoredSession } from "../../../sessions/session-store.js";
import type { EventCursor, SessionEvent, SessionEventType } from "../../../watch/session-event.js";

/** More pages than any check needs; a log that goes on for longer never ends. */
const MAX_PAGES = 2_000;

/** What an event tells of a session, without its position in the log. */
export interface EventFacts {
  readonly type: SessionEventType;
  readonly sessionId: string;
  readonly userId: string;
  readonly version: number;
  readonly timeMs: number;
  readonly reason: string | undefined;
}

/** An event without its position, to compare. */
export function factsOf(event: SessionEvent): EventFacts {
  const { type, sessionId, userId, version, timeMs, reason } = event;
  return { type, sessionId, userId, version, timeMs, reason };
}

/** The event that a change of a session makes. */
export function eventOf(
  type: SessionEventType,
  { id, userId }: Pick<StoredSession, "id" | "userId">,
  version: number,
  timeMs: number,
  reason?: string,
): EventFacts {
  return { type, sessionId: id, userId, version, timeMs, reason };
}

/** The events from a cursor to the end of the log. */
export interface EventsToEnd {
  readonly events: readonly SessionEvent[];
  /** The position after them. */
  readonly cursor: EventCursor;
}

/** Reads the log from a cursor to its end, which must not be lost. */
export async function readToEnd(
  store: SessionStore,
  from: EventCursor,
  limit = 1_000,
): Promise<EventsToEnd> {
  const events: SessionEvent[] = [];
  let cursor = from;
  for (let pages = 0; pages < MAX_PAGES; pages++) {
    const page = await store.events.read(cursor, limit);
    assert.ok(page !== "lost", "nothing may be lost here");
    events.push(...page.events);
    cursor = page.cursor;
    if (page.isComplete) return { events, cursor };
  }
  throw new assert.AssertionError({ message: `the log goes on after ${MAX_PAGES} pages` });
}

/** Follows the log of a store from where it ends now; each call answers what is new. */
export async function followEvents(store: SessionStore): Promise<() => Promise<EventFacts[]>> {
  let cursor = await store.events.end();
  return async () => {
    const news = await readToEnd(store, cursor);
    cursor = news.cursor;
    return news.events.map(factsOf);
  };
}

/** The events of each session, in their order. */
export function bySession<Event extends { readonly sessionId: string }>(
  events: readonly Event[],
): Map<string, Event[]> {
  return Map.groupBy(events, ({ sessionId }) => sessionId);
}
