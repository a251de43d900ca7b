import { overloaded } from "../errors.js";
import type { EventCursor, SessionEvent } from "./session-event.js";

/** The result of one read of the tail, for one watcher. */
export interface TailNews {
  /** Whether events before this one are missing for good. */
  readonly isLost: boolean;
  /** The new events for this watcher. */
  readonly events: readonly SessionEvent[];
  /** The tail's position after them, in all watched lanes. */
  readonly cursor: EventCursor;
  /**
   * Set if this read reached the end of all lanes: every change before this time, by the store's
   * clock, is in this and earlier news.
   */
  readonly confirmedTimeMs?: number;
}

/**
 * The queue of news that one watcher has not taken yet. Bounded: a watcher that is too slow fails
 * with OVERLOADED, and its queue is freed.
 */
export class EventInbox {
  /** The user whose events it collects. All users if undefined. */
  readonly userId: string | undefined;
  /** The lanes of these events. */
  readonly lanes: ReadonlySet<number>;
  readonly #maxEvents: number;
  #news: TailNews[] = [];
  #eventCount = 0;
  #failure: { readonly error: unknown } | undefined;
  #wake: () => void = () => {};

  constructor(userId: string | undefined, lanes: ReadonlySet<number>, maxEvents: number) {
    this.userId = userId;
    this.lanes = lanes;
    this.#maxEvents = maxEvents;
  }

  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** Adds news, unless they are empty or overflow the queue. */
  offer(news: TailNews): void {
    const last = this.#news.at(-1);
    if (news.isLost) {
      // After a loss the watcher drops what it knows, so it needs no earlier events.
      this.#news = [];
      this.#eventCount = 0;
    } else if (news.events.length === 0 && news.confirmedTimeMs === undefined) {
      return;
    } else if (last !== undefined && last.events.length === 0 && !last.isLost) {
      // The newer position replaces the older one.
      this.#news.pop();
    }
    this.#eventCount += news.events.length;
    if (this.#eventCount > this.#maxEvents) {
      this.fail(
        overloaded(
          "slow_watcher",
          "the watcher reads too slowly; resume from the last resume_token",
        ),
      );
      return;
    }
    this.#news.push(news);
    this.#wake();
  }

  /** Ends the inbox and frees the queue: `next` throws this error. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#news = [];
    this.#eventCount = 0;
    this.#wake();
  }

  /** Waits for news and takes the oldest. Throws the error of `fail`. */
  async next(): Promise<TailNews> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure.error;
      const news = this.#news.shift();
      if (news !== undefined) {
        this.#eventCount -= news.events.length;
        return news;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
