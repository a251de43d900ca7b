import { SessiondError } from "../errors.js";
import type { EventInbox } from "./event-inbox.js";
import type { EventCursor, EventLog, EventPage, SessionEvent } from "./session-event.js";

/**
 * How often all lanes are read, with or without hints. Watchers are promised a checkpoint every
 * second: two reads a second keep the promise even if one of them is slow.
 */
const READ_INTERVAL_MS = 500;
/** The pause after a read. Everything that happens meanwhile is read together. */
const MIN_PAUSE_MS = 5;
/**
 * What each watcher with news adds to the pause: about five times what it costs to tell one. So
 * telling many takes a fifth of the server, whether they are ten or a thousand.
 */
const PAUSE_PER_WATCHER_MS = 0.5;
/** With more watchers, telling all that nothing happened costs more than to do it half as often. */
const MANY_WATCHERS = 100;
const READ_INTERVAL_OF_MANY_MS = 900;
/** The pause after a failed read. */
const RETRY_DELAY_MS = 100;
/** About how many events one read takes. */
export const READ_LIMIT = 500;

/**
 * Reads the end of the event log for all watchers of this server, and only while there are any. It
 * reads all watched lanes regularly, and a lane at once after a hint that it has grown. One read at
 * a time.
 */
export class EventTail {
  readonly #events: EventLog;
  readonly #inboxes = new Set<EventInbox>();
  readonly #hinted = new Set<number>();
  /** Our position in every watched lane. May briefly include lanes that nobody watches any more. */
  #cursor: EventCursor = new Map();
  #isRunning = false;
  /** When all lanes are read next, on the monotonic clock. */
  #fullReadDueMs = 0;
  /** No read before this time, on the monotonic clock. */
  #notBeforeMs = 0;
  #wake: () => void = () => {};
  /** The start of the last read that reached the log's end, on the monotonic clock. */
  #levelMs = 0;
  /** The inboxes at the start of the current read. It can confirm a time only to these. */
  #present: ReadonlySet<EventInbox> = new Set();

  constructor(events: EventLog) {
    this.#events = events;
  }

  /**
   * How long ago the log may have grown without our watchers' knowledge, in ms. About a second
   * at most while the store answers; 0 without watchers.
   */
  get lagMs(): number {
    return this.#isRunning ? performance.now() - this.#levelMs : 0;
  }

  /** From now on fills the inbox with events after `cursor`, or after an earlier position. */
  follow(inbox: EventInbox, cursor: EventCursor): void {
    const added = [...cursor].filter(([lane]) => !this.#cursor.has(lane));
    if (added.length > 0) this.#cursor = new Map([...this.#cursor, ...added]);
    this.#inboxes.add(inbox);
    if (!this.#isRunning) void this.#run();
  }

  /** Stops filling the inbox. */
  leave(inbox: EventInbox): void {
    this.#inboxes.delete(inbox);
    // Stop now, not at the next read.
    if (this.#inboxes.size === 0) this.#wake();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    this.#levelMs = performance.now();
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
      // The tail retries when the store is unavailable. This is a fault of the program.
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

  /** Waits. A hint, or the last watcher's leaving, ends the wait. */
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
    // Clear before the read: it may miss what later hints announce.
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
      const told = this.#deliver(page, isFull && page.isComplete);
      if (page.isComplete) {
        const pauseMs = Math.min(READ_INTERVAL_MS, MIN_PAUSE_MS + told * PAUSE_PER_WATCHER_MS);
        this.#notBeforeMs = performance.now() + pauseMs;
        if (isFull) {
          const isMany = this.#inboxes.size > MANY_WATCHERS;
          const intervalMs = isMany ? READ_INTERVAL_OF_MANY_MS : READ_INTERVAL_MS;
          this.#fullReadDueMs = startMs + intervalMs;
          this.#levelMs = startMs;
        }
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

  /** The watched lanes. Drops our position in all others. */
  #watchedLanes(): ReadonlySet<number> {
    const watched = new Set<number>();
    for (const { lanes } of this.#inboxes) {
      for (const lane of lanes) watched.add(lane);
      if (watched.size === this.#cursor.size) return watched;
    }
    this.#cursor = new Map([...this.#cursor].filter(([lane]) => watched.has(lane)));
    return watched;
  }

  /** Answers how many watchers had new events. */
  #deliver(page: EventPage, isConfirmed: boolean): number {
    this.#cursor = new Map([...this.#cursor, ...page.cursor]);
    const cursor = this.#cursor;
    const confirmed = isConfirmed && { confirmedTimeMs: earliestTimeMs(page.cursor) };
    const eventsByUser = Map.groupBy(page.events, ({ userId }) => userId);
    let told = 0;
    for (const inbox of this.#inboxes) {
      const { userId } = inbox;
      const events = userId === undefined ? page.events : (eventsByUser.get(userId) ?? NONE);
      const isPresent = this.#present.has(inbox);
      if (events.length > 0) told++;
      inbox.offer({ isLost: false, events, cursor, ...(isPresent && confirmed) });
      if (inbox.hasFailed) this.leave(inbox);
    }
    return told;
  }

  /**
   * Continues at the log's present end in the lanes that were read. The store does not say which of
   * them lost events, so every watcher of one of them is told.
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
 * The earliest time of a cursor's positions. If a read reached the log's end there, its reader has
 * seen every change before this time.
 */
export function earliestTimeMs(cursor: EventCursor): number {
  return Math.min(...[...cursor.values()].map(({ timeMs }) => timeMs));
}

const NONE: readonly SessionEvent[] = [];
