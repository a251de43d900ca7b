import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { StoredFacts } from "../sessions/session-store.js";
import type {
  EventCursor,
  EventLog,
  EventPage,
  EventPosition,
  SessionEvent,
  SessionEventType,
} from "../watch/session-event.js";
import {
  type ChangedRow,
  type EventRow,
  firstColumn,
  prepare,
  type Statements,
} from "./statements.js";

/** All events are in one lane, because a file has one writer at a time. */
const LANE = 0;
/** How many events are kept, however young: about 50 MB, and minutes at a file's highest rate. */
export const MAX_EVENTS = 250_000;
/** How often we look for events of other processes. A look takes microseconds. */
const POLL_INTERVAL_MS = 50;

/** What an event says of the session. */
type Changed = Pick<StoredFacts, "id" | "userId" | "version">;

/**
 * The events in an SQLite file, appended in the transactions of their changes. So sequences have no
 * gaps, and a reader that needs an event older than the oldest has lost events.
 */
export class SqliteEventLog implements EventLog {
  readonly #db: DatabaseSync;
  readonly #statements: Statements;
  readonly #dataVersion: StatementSync;
  readonly #read: <T>(query: (now: number) => T) => T;
  readonly #listeners = new Set<(lane: number) => void>();
  #poll: NodeJS.Timeout | undefined;
  /** Changes only when another connection commits. Undefined before the first look. */
  #seenDataVersion: unknown;
  /** The log's end at the last look. */
  #seenSequence: number | undefined;
  #hasUntold = false;

  /** `read` runs a query with the store's clock and the store's errors. */
  constructor(db: DatabaseSync, statements: Statements, read: <T>(query: (now: number) => T) => T) {
    this.#db = db;
    this.#statements = statements;
    this.#dataVersion = prepare(db, "PRAGMA data_version");
    this.#read = read;
  }

  async end(_userId?: string): Promise<EventCursor> {
    return this.#read((now) => new Map([[LANE, position(this.#lastSequence(), now)]]));
  }

  async read(cursor: EventCursor, limit: number): Promise<EventPage | "lost"> {
    if (!isOfThisKind(cursor)) return "lost";
    const from = cursor.get(LANE);
    if (from === undefined) return { events: [], cursor, isComplete: true };
    return this.#read((now) => {
      // Read the end first: events that are appended in between are then read, not missed.
      const end = this.#lastSequence();
      const rows = this.#statements.readEvents.all({ after: from.sequence, limit });
      const events = (rows as unknown as readonly EventRow[]).map(toEvent);
      const [first] = events;
      const isContiguous = first
        ? first.position.sequence === from.sequence + 1
        : from.sequence === end;
      if (!isContiguous) return "lost";
      const last = events.at(-1)?.position ?? from;
      const isComplete = last.sequence >= end;
      // Short of the end, the next event may be as old as the last one.
      const reached = isComplete ? position(last.sequence, now) : last;
      return { events, cursor: new Map([[LANE, reached]]), isComplete };
    });
  }

  subscribe(listener: (lane: number) => void): () => void {
    // A new function, so that one listener may subscribe twice.
    const subscription = (lane: number): void => listener(lane);
    if (this.#db.isOpen) this.#listeners.add(subscription);
    this.#pollWhileNeeded();
    return () => {
      this.#listeners.delete(subscription);
      this.#pollWhileNeeded();
    };
  }

  /** Appends the event of a changed session, within the transaction of the change. */
  append(type: SessionEventType, { id, userId, version }: Changed, timeMs: number): void {
    this.#append(type, [id, userId, version], timeMs);
  }

  /** Appends the events of changed rows, within the transaction of the change. */
  appendAll(
    type: SessionEventType,
    rows: readonly unknown[],
    timeMs: number,
    reason?: string,
  ): void {
    for (const row of rows as readonly ChangedRow[]) this.#append(type, row, timeMs, reason);
  }

  /** Tells the listeners once after a committed batch with events. */
  committed(): void {
    if (!this.#hasUntold) return;
    this.#hasUntold = false;
    // Later, so that a listener that throws does not fail the write.
    queueMicrotask(() => this.#tell());
  }

  /**
   * Removes about `limit` events that are as old as `trimBy` or exceed `MAX_EVENTS`, within a
   * transaction. Answers whether there are more.
   */
  trim(trimBy: number, limit: number): boolean {
    const overflow = this.#lastSequence() - MAX_EVENTS;
    this.#statements.trimEvents.run({ trimBy, overflow, limit });
    return this.#statements.hasEventsToTrim.get({ trimBy, overflow }) !== undefined;
  }

  /** Ends all subscriptions. */
  close(): void {
    this.#listeners.clear();
    this.#pollWhileNeeded();
  }

  #append(
    type: SessionEventType,
    [id, userId, version]: ChangedRow,
    timeMs: number,
    reason?: string,
  ): void {
    this.#statements.appendEvent.run(timeMs, type, id, userId, version, reason ?? null);
    this.#hasUntold = true;
  }

  #lastSequence(): number {
    return Number(firstColumn(this.#statements.lastSequence.get()));
  }

  #tell(): void {
    for (const listener of this.#listeners) listener(LANE);
  }

  #pollWhileNeeded(): void {
    if (this.#listeners.size === 0) {
      clearInterval(this.#poll);
      this.#poll = undefined;
    } else {
      this.#poll ??= setInterval(() => {
        if (this.#hasGrownElsewhere()) this.#tell();
      }, POLL_INTERVAL_MS).unref();
    }
  }

  #hasGrownElsewhere(): boolean {
    try {
      const dataVersion = firstColumn(this.#dataVersion.get());
      if (dataVersion === this.#seenDataVersion) return false;
      // Most writes of others are touches, which are no events.
      const sequence = this.#lastSequence();
      const hasGrown = sequence !== this.#seenSequence;
      this.#seenDataVersion = dataVersion;
      this.#seenSequence = sequence;
      return hasGrown;
    } catch {
      // No caller waits for this. The next read of the log reports the error.
      return false;
    }
  }
}

/** Whether a cursor can belong to an SQLite file. */
function isOfThisKind(cursor: EventCursor): boolean {
  return [...cursor].every(
    ([lane, { source, epoch }]) => lane === LANE && source === 0 && epoch === 0,
  );
}

/** A position in the only lane. Another file has other sequences. */
function position(sequence: number, timeMs: number): EventPosition {
  return { source: 0, epoch: 0, sequence, timeMs };
}

function toEvent(row: EventRow): SessionEvent {
  const [sequence, timeMs, type, sessionId, userId, version, reason] = row;
  return {
    type,
    sessionId,
    userId,
    version,
    timeMs,
    ...(reason !== null && { reason }),
    lane: LANE,
    position: position(sequence, timeMs),
  };
}
