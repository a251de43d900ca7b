/** The kinds of changes. Touches and natural expiry are not events. */
export type SessionEventType =
  | "created"
  | "updated"
  | "token_rotated"
  | "token_reused"
  | "revoked"
  | "evicted";

/** A change of a session, recorded in the same atomic step. */
export interface SessionEvent {
  readonly type: SessionEventType;
  readonly sessionId: string;
  readonly userId: string;
  /** The session's version after the change. */
  readonly version: number;
  /** In ms since the Unix epoch, by the store's clock. */
  readonly timeMs: number;
  /** With `revoked` and `evicted`: the recorded reason. */
  readonly reason?: string;
  /** The name of the author. "" if no call made the change, as when a revocation is repeated. */
  readonly changedBy: string;
  /** The event's lane in the log. All events of a session are in one lane. */
  readonly lane: number;
  /** Its position in that lane. */
  readonly position: EventPosition;
}

/** A position in a lane of the event log. Sequences are consecutive, so gaps are visible. */
export interface EventPosition {
  /**
   * The process that kept the lane during the read: on Redis a hash of its run id, 0 if the store
   * needs none. After a restart or a failover, a process may lack events that readers saw before.
   */
  readonly source: number;
  /** When the lane began, in ms. After a long empty time it begins again. 0 if it never does. */
  readonly epoch: number;
  /** The number of the last event before this position. 0 at the beginning of an epoch. */
  readonly sequence: number;
  /**
   * When the reader was at this position, in ms by the store's clock. Trimmed events are older than
   * the retention, so a reader that was here within the retention has missed none. An earlier time
   * is safe, so a resume token keeps only the earliest. For an event, its own time.
   */
  readonly timeMs: number;
}

/** A reader's position in each lane that it reads. */
export type EventCursor = ReadonlyMap<number, EventPosition>;

/** The result of one read. */
export interface EventPage {
  /** In order within each lane. */
  readonly events: readonly SessionEvent[];
  /** The positions after them. */
  readonly cursor: EventCursor;
  /** Whether the page reaches the log's end as it was at some moment of the call. */
  readonly isComplete: boolean;
}

/**
 * The changes of all sessions, in order per session. Each lane keeps at least its newest 1000
 * events that are younger than the store's retention.
 */
export interface EventLog {
  /** The log's present end. With a user, only in the lane of the user's events. */
  end(userId?: string): Promise<EventCursor>;

  /**
   * About `limit` events after a cursor, in the cursor's lanes. `lost` if later events are or may
   * be gone: they were trimmed, or another process keeps the log. Throws STORE_UNAVAILABLE.
   */
  read(cursor: EventCursor, limit: number): Promise<EventPage | "lost">;

  /**
   * Calls `listener` soon after a lane has grown. Only a hint: it may come too often or not at all,
   * so a reader also reads regularly. Answers a function that unsubscribes.
   */
  subscribe(listener: (lane: number) => void): () => void;
}
