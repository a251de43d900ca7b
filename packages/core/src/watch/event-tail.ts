import { SessiondError } from "../errors.js";
import type { EventInbox } from "./event-inbox.js";
import type { EventCursor, EventLog, EventPage, SessionEvent } from "./session-event.js";

/**
 * How often all lanes are read, hints or not. Twice within the second in which
 * watchers are promised to hear something, so that one slow read does not break it.
 */
const READ_INTERVAL_MS = 500;
/** How soon after a read the next one may follow. What happens meanwhile is read in one go. */
const MIN_PAUSE_MS = 5;
/** How soon a read that failed is tried again. */
const RETRY_DELAY_MS = 100;
/** About how many events are read at a time. */
export const READ_LIMIT = 500;

/**
 * Reads the end of the event log once for all watchers of this server, and only
 * while there are any: all watched lanes from time to time, and at once those
 * that have grown as the store hints. There is one read at a time.
 */
export class EventTail {
  readonly #events: EventLog;
  readonly #inboxes = new Set<EventInbox>();
  readonly #hinted = new Set<number>();
  /** The place in each lane that is watched, and at times in some that was. */
  #cursor: EventCursor = new Map();
  #isRunning = false;
  /** When all lanes are to be read next, and before which time nothing is, on the monotonic clock. */
  #fullReadDueMs = 0;
  #notBeforeMs = 0;
  #wake: () => void = () => {};
  /** Who was there when the read under way began: only to them can it confirm anything. */
  #present: ReadonlySet<EventInbox> = new Set();

  constructor(events: EventLog) {
    this.#events = events;
  }

  /**
   * From now on puts into the inbox what happens after `cursor`, or after an
   * earlier place.
   */
  follow(inbox: EventInbox, cursor: EventCursor): void {
    const added = [...cursor].filter(([lane]) => !this.#cursor.has(lane));
    if (added.length > 0) this.#cursor = new Map([...this.#cursor, ...added]);
    this.#inboxes.add(inbox);
    if (!this.#isRunning) void this.#run();
  }

  /** Puts nothing more into the inbox. */
  leave(inbox: EventInbox): void {
    this.#inboxes.delete(inbox);
    // Or the last one's tail would stay until its next read.
    if (this.#inboxes.size === 0) this.#wake();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    const unsubscribe = this.#events.subscribe((lane) => {
      this.#hinted.add(lane);
      this.#wake();
    });
    try {
      while (this.#inboxes.size > 0) {
        const waitMs = this.#nextReadMs() - performance.now();
        if (waitMs > 0) await this.#pause(waitMs);
        else await this.#readSome();
      }
    } catch (error) {
      // Not the store's failure, which is waited for, but a fault of this program.
      for (const inbox of this.#inboxes) inbox.fail(error);
      this.#inboxes.clear();
    } finally {
      unsubscribe();
      this.#hinted.clear();
      this.#cursor = new Map();
      this.#fullReadDueMs = 0;
      this.#isRunning = false;
    }
  }

  #nextReadMs(): number {
    return Math.max(this.#notBeforeMs, this.#hinted.size > 0 ? 0 : this.#fullReadDueMs);
  }

  /** Waits, until a hint or until nobody is left at most. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #readSome(): Promise<void> {
    const startMs = performance.now();
    const isFull = startMs >= this.#fullReadDueMs;
    const lanes = isFull ? this.#watchedLanes() : this.#hinted;
    const from = new Map([...this.#cursor].filter(([lane]) => lanes.has(lane)));
    // Before the read: what is hinted at from now on, it may miss.
    this.#hinted.clear();
    if (from.size === 0) return;
    this.#present = new Set(this.#inboxes);
    try {
      const page = await this.#events.read(from, READ_LIMIT);
      if (page === "lost") {
        this.#tellOfLoss(from, await this.#events.end());
        this.#readAllAfter(RETRY_DELAY_MS);
        return;
      }
      this.#deliver(page, isFull && page.isComplete);
      if (page.isComplete) {
        this.#notBeforeMs = performance.now() + MIN_PAUSE_MS;
        if (isFull) this.#fullReadDueMs = startMs + READ_INTERVAL_MS;
      } else {
        for (const lane of from.keys()) this.#hinted.add(lane);
      }
    } catch (error) {
      if (!(error instanceof SessiondError) || error.reason !== "STORE_UNAVAILABLE") throw error;
      this.#readAllAfter(RETRY_DELAY_MS);
    }
  }

  #readAllAfter(delayMs: number): void {
    this.#notBeforeMs = performance.now() + delayMs;
    this.#fullReadDueMs = 0;
  }

  /** Those that anyone watches. Lets go of the others. */
  #watchedLanes(): ReadonlySet<number> {
    const watched = new Set<number>();
    for (const { lanes } of this.#inboxes) {
      for (const lane of lanes) watched.add(lane);
      if (watched.size === this.#cursor.size) return watched;
    }
    this.#cursor = new Map([...this.#cursor].filter(([lane]) => watched.has(lane)));
    return watched;
  }

  #deliver(page: EventPage, isConfirmed: boolean): void {
    this.#cursor = new Map([...this.#cursor, ...page.cursor]);
    const cursor = this.#cursor;
    const confirmed = isConfirmed && { confirmedTimeMs: earliestTimeMs(page.cursor) };
    const eventsByUser = Map.groupBy(page.events, ({ userId }) => userId);
    for (const inbox of this.#inboxes) {
      const { userId } = inbox;
      const events = userId === undefined ? page.events : (eventsByUser.get(userId) ?? NONE);
      const isPresent = this.#present.has(inbox);
      inbox.offer({ isLost: false, events, cursor, ...(isPresent && confirmed) });
      if (inbox.hasFailed) this.leave(inbox);
    }
  }

  /**
   * Goes on from the log's present end in the lanes that were read. Which of them
   * has lost events the store does not say, so whoever watches any is told.
   */
  #tellOfLoss(from: EventCursor, end: EventCursor): void {
    const moved = [...end].filter(([lane]) => from.has(lane));
    this.#cursor = new Map([...this.#cursor, ...moved]);
    const news = { isLost: true, events: NONE, cursor: this.#cursor };
    for (const inbox of this.#inboxes) {
      if (!inbox.lanes.isDisjointFrom(new Set(from.keys()))) inbox.offer(news);
    }
  }
}

/**
 * When a cursor's reader knew that these are its places: a time before which it
 * has seen everything, where a read brought it to the log's end.
 */
export function earliestTimeMs(cursor: EventCursor): number {
  return Math.min(...[...cursor.values()].map(({ timeMs }) => timeMs));
}

const NONE: readonly SessionEvent[] = [];
