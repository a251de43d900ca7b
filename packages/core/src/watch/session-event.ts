/** What happened to a session. Touches and natural expiry are not events. */
export type SessionEventType = "created" | "updated" | "token_rotated" | "revoked" | "evicted";

/** A change of a session, recorded in the same step as the change itself. */
export interface SessionEvent {
  readonly type: SessionEventType;
  readonly sessionId: string;
  readonly userId: string;
  /** The version of the session that the change made. */
  readonly version: number;
  /** When, by the store's clock, in ms since the Unix epoch. */
  readonly timeMs: number;
  /** With `revoked` and `evicted`: the recorded reason. */
  readonly reason?: string;
  /** Which of the log's lanes it is in. A session's events are all in one. */
  readonly lane: number;
  /** Its place in that lane. */
  readonly position: EventPosition;
}

/**
 * A place in a lane of the event log. Numbers within a lane are consecutive, so
 * that a reader sees a gap.
 */
export interface EventPosition {
  /**
   * The process that kept the lane when this was read: on Redis a hash of its run
   * id, 0 where it does not matter. A process that restarted, or took over in a
   * failover, may lack events that the last one had shown.
   */
  readonly source: number;
  /** When the lane began, in ms; a lane that was empty for long begins anew. 0 where it never does. */
  readonly epoch: number;
  /** The number of the last event before this place; 0 at the beginning of an epoch. */
  readonly sequence: number;
  /**
   * When a reader knew that this is its place, in ms by the store's clock. What was
   * trimmed was older than the store's retention, so a reader that was here more
   * recently than that has missed nothing though the events around it are gone. An
   * earlier time is safe: a resume token may keep just the earliest of a cursor's.
   * Of an event: the event's own time.
   */
  readonly timeMs: number;
}

/** Where a reader is: its place in each lane that it reads. */
export type EventCursor = ReadonlyMap<number, EventPosition>;

/** What a reader gets in one go. */
export interface EventPage {
  /** In order within each lane. */
  readonly events: readonly SessionEvent[];
  /** The places after them. */
  readonly cursor: EventCursor;
  /** Whether this reaches the log's end, as it was at some moment during the call. */
  readonly isComplete: boolean;
}

/**
 * The changes of all sessions, in order per session, for a while: at least the
 * newest 1000 events of a lane that are younger than the store's retention.
 */
export interface EventLog {
  /** Where the log ends now; with a user, only the lane that has the user's events. */
  end(userId?: string): Promise<EventCursor>;

  /**
   * The events after a cursor, at most about `limit` of them, in the lanes
   * that it names. `lost` where events after it are gone, or may be: they were
   * trimmed, or what keeps the log is not what it was. Throws STORE_UNAVAILABLE.
   */
  read(cursor: EventCursor, limit: number): Promise<EventPage | "lost">;

  /**
   * Calls `listener` soon after a lane has grown. A hint: it may come too often or
   * not at all, so a reader also reads from time to time. Answers how to stop.
   */
  subscribe(listener: (lane: number) => void): () => void;
}
