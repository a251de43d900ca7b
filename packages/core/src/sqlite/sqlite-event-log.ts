import type { DatabaseSync } from "node:sqlite";
import type { StoredFacts } from "../sessions/session-store.js";
import { type Author, NOBODY, type SessionChange } from "../watch/author.js";
import type {
  EventCursor,
  EventLog,
  EventPage,
  EventPosition,
  SessionEvent,
  SessionEventType,
} from "../watch/session-event.js";
import { EventHints } from "./event-hints.js";
import { type ChangedRow, type EventRow, firstColumn, type Statements } from "./statements.js";

/** All events of a namespace are in one lane, because a file has one writer at a time. */
const LANE = 0;
/** How many events of all namespaces are kept, however young: about 50 MB, and minutes at a file's highest rate. */
export const MAX_EVENTS = 250_000;

/** How far the clocks of servers that share a file may differ, for they agree ten times a second. */
const MAX_CLOCK_LAG_MS = 1_000;

/** What an event says of the session. */
type Changed = Pick<StoredFacts, "id" | "userId" | "version">;

/**
 * The events of a namespace in an SQLite file, appended in the transactions of their changes. So
 * sequences have no gaps, and a reader that needs an event older than the oldest has lost events.
 */
export class SqliteEventLog implements EventLog {
  readonly #db: DatabaseSync;
  readonly #statements: Statements;
  readonly #read: <T>(query: (now: number) => T) => T;
  readonly #hints: EventHints;
  readonly #namespace: string;
  readonly #author: Author;
  /** What the step in hand has appended. */
  #appended: SessionChange[] = [];

  /** `read` runs a query with the store's clock and the store's errors. */
  constructor(
    db: DatabaseSync,
    statements: Statements,
    read: <T>(query: (now: number) => T) => T,
    namespace = "",
    author: Author = NOBODY,
    hints: EventHints = new EventHints(db, statements),
  ) {
    this.#db = db;
    this.#statements = statements;
    this.#read = read;
    this.#namespace = namespace;
    this.#author = author;
    this.#hints = hints;
  }

  /** The log of a namespace in the same file, for the changes of an author. */
  namespace(name: string, author: Author): SqliteEventLog {
    return new SqliteEventLog(this.#db, this.#statements, this.#read, name, author, this.#hints);
  }

  async end(_userId?: string): Promise<EventCursor> {
    return this.#read((now) => new Map([[LANE, position(this.#lastSequence(), now)]]));
  }

  async read(cursor: EventCursor, limit: number): Promise<EventPage | "lost"> {
    if (!isOfThisKind(cursor)) return "lost";
    const from = cursor.get(LANE);
    if (from === undefined) return { events: [], cursor, isComplete: true };
    const namespace = this.#namespace;
    return this.#read((now) => {
      if (this.#isRewritten(from)) return "lost";
      // Read the end first: events that are appended in between are then read, not missed.
      const end = this.#lastSequence();
      const rows = this.#statements.readEvents.all({ namespace, after: from.sequence, limit });
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
    return this.#hints.subscribe(this.#namespace, () => listener(LANE));
  }

  /** Runs a step of a transaction. Answers with it the changes that it appended. */
  record<T>(step: () => T): readonly [T, readonly SessionChange[]] {
    this.#appended = [];
    return [step(), this.#appended];
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

  /** Tells the listeners of all namespaces once after a committed batch with events. */
  committed(): void {
    this.#hints.committed();
  }

  /**
   * Removes about `limit` events of all namespaces that are as old as `trimBy` or exceed `MAX_EVENTS`, within a
   * transaction. Answers whether there are more.
   */
  trim(trimBy: number, limit: number): boolean {
    const overflow = Number(firstColumn(this.#statements.lastPosition.get())) - MAX_EVENTS;
    this.#statements.trimEvents.run({ trimBy, overflow, limit });
    return this.#statements.hasEventsToTrim.get({ trimBy, overflow }) !== undefined;
  }

  /** Ends the subscriptions of all namespaces. */
  close(): void {
    this.#hints.close();
  }

  #append(
    type: SessionEventType,
    [sessionId, userId, version]: ChangedRow,
    timeMs: number,
    reason?: string,
  ): void {
    const namespace = this.#namespace;
    const { name } = this.#author;
    const sequence = firstColumn(this.#statements.nextSequence.get({ namespace })) as number;
    const values = [timeMs, type, sessionId, userId, version, reason ?? null, name] as const;
    this.#statements.appendEvent.run(namespace, sequence, ...values);
    this.#hints.appended(namespace);
    const because = reason !== undefined && { reason };
    this.#appended.push({ type, sessionId, userId, version, ...because });
  }

  /** Whether the event before a position is younger than the position: the file is a restored backup. */
  #isRewritten({ sequence, timeMs }: EventPosition): boolean {
    const row = this.#statements.timeOfEvent.get({ namespace: this.#namespace, sequence });
    return row !== undefined && Number(firstColumn(row)) > timeMs + MAX_CLOCK_LAG_MS;
  }

  #lastSequence(): number {
    return Number(firstColumn(this.#statements.lastSequence.get({ namespace: this.#namespace })));
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
  const [sequence, timeMs, type, sessionId, userId, version, reason, changedBy] = row;
  return {
    type,
    sessionId,
    userId,
    version,
    timeMs,
    ...(reason !== null && { reason }),
    changedBy,
    lane: LANE,
    position: position(sequence, timeMs),
  };
}
