import type { DatabaseSync, StatementSync } from "node:sqlite";
import type {
  EventCursor,
  EventLog,
  EventPage,
  EventPosition,
  SessionEvent,
  SessionEventType,
} from "../watch/session-event.js";
import { type EventRow, firstColumn, prepare, type Statements } from "./statements.js";

/** All events are in one lane: a file has one writer at a time anyway. */
const LANE = 0;

/** How many events are kept, however young: some 50 MB, and minutes of the most that a file takes. */
export const MAX_EVENTS = 250_000;

/** How soon what another process writes to the file is noticed. Looking takes microseconds. */
const POLL_INTERVAL_MS = 50;

/**
 * The events in an SQLite file. They are appended in the transactions of the
 * changes that they tell of, so their numbers have no gaps; those that are there
 * are the newest, and whoever wants older ones has lost them.
 */
export class SqliteEventLog implements EventLog {
  readonly #db: DatabaseSync;
  readonly #statements: Statements;
  readonly #dataVersion: StatementSync;
  readonly #read: <T>(query: (now: number) => T) => T;
  readonly #listeners = new Set<(lane: number) => void>();
  #poll: NodeJS.Timeout | undefined;
  /**
   * Changes only when another connection has committed: this one's changes are told
   * at once, and not again. Undefined before the first look.
   */
  #seenDataVersion: unknown;
  /** Where the log ended at the last look. */
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
      // The end comes first: events that are appended in between are then read, not missed.
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
      // Short of the end, what comes next may be as old as the last event.
      const place = isComplete ? position(last.sequence, now) : last;
      return { events, cursor: new Map([[LANE, place]]), isComplete };
    });
  }

  subscribe(listener: (lane: number) => void): () => void {
    // A function of its own, so that one listener may be subscribed twice.
    const subscription = (lane: number): void => listener(lane);
    if (this.#db.isOpen) this.#listeners.add(subscription);
    this.#pollWhileNeeded();
    return () => {
      this.#listeners.delete(subscription);
      this.#pollWhileNeeded();
    };
  }

  /** Appends an event, within the transaction of the change. */
  append(
    type: SessionEventType,
    sessionId: string,
    userId: string,
    version: number,
    timeMs: number,
    reason?: string,
  ): void {
    const { appendEvent } = this.#statements;
    const values = [timeMs, type, sessionId, userId, version, reason ?? null] as const;
    appendEvent.run(...values);
    this.#hasUntold = true;
  }

  /** Tells listeners of what was appended. For a whole batch that was committed, once. */
  committed(): void {
    if (!this.#hasUntold) return;
    this.#hasUntold = false;
    // Later, so that a listener which throws does not fail the write that it hears of.
    queueMicrotask(() => this.#tell());
  }

  /**
   * Removes about `limit` events that are as old as `trimBy` or too many, within a
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
      this.#poll ??= setInterval(() => this.#lookForOthers(), POLL_INTERVAL_MS).unref();
    }
  }

  #lookForOthers(): void {
    if (this.#hasGrownElsewhere()) this.#tell();
  }

  #hasGrownElsewhere(): boolean {
    try {
      const dataVersion = firstColumn(this.#dataVersion.get());
      if (dataVersion === this.#seenDataVersion) return false;
      // Most of what others write are touches, which need not wake anyone.
      const sequence = this.#lastSequence();
      const hasGrown = sequence !== this.#seenSequence;
      this.#seenDataVersion = dataVersion;
      this.#seenSequence = sequence;
      return hasGrown;
    } catch {
      // There is nobody to answer to here. Whoever reads the log learns what is wrong.
      return false;
    }
  }
}

/** Whether a cursor can be of an SQLite file at all. */
function isOfThisKind(cursor: EventCursor): boolean {
  return [...cursor].every(
    ([lane, { source, epoch }]) => lane === LANE && source === 0 && epoch === 0,
  );
}

/** A place in the one lane. A file that was made anew is told by its numbers. */
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
