import { SessiondError } from "../errors.js";
import type { EventCursor, SessionEvent } from "./session-event.js";

/** What the tail of the event log tells a watcher. */
export interface TailNews {
  /** Whether events are missing before this, of which none will come any more. */
  readonly isLost: boolean;
  /** What is new, for this watcher. */
  readonly events: readonly SessionEvent[];
  /** Where the tail is after it, in all lanes that anyone watches. */
  readonly cursor: EventCursor;
  /**
   * Where this read came to the end of all lanes: when, by the store's clock, at
   * the earliest. All that was done before is in this and earlier news.
   */
  readonly confirmedTimeMs?: number;
}

/**
 * What the tail has read and one watcher has not taken yet. Bounded: a watcher
 * that does not keep up fails with OVERLOADED, and what waited for it is freed.
 */
export class EventInbox {
  /** Whose events it wants; all when undefined. */
  readonly userId: string | undefined;
  /** The lanes that have them. */
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

  /** Adds news, unless they have failed the inbox or say nothing. */
  offer(news: TailNews): void {
    const last = this.#news.at(-1);
    if (news.isLost) {
      // Whoever is told that events are missing drops what it knows anyway.
      this.#news = [];
      this.#eventCount = 0;
    } else if (news.events.length === 0 && news.confirmedTimeMs === undefined) {
      return;
    } else if (last !== undefined && last.events.length === 0 && !last.isLost) {
      // The newer place stands for the older one as well.
      this.#news.pop();
    }
    this.#eventCount += news.events.length;
    if (this.#eventCount > this.#maxEvents) {
      this.fail(
        new SessiondError(
          "OVERLOADED",
          "the watcher reads too slowly; resume from the last resume_token",
        ),
      );
      return;
    }
    this.#news.push(news);
    this.#wake();
  }

  /** Ends the inbox: `next` throws this error, and nothing waits any more. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#news = [];
    this.#eventCount = 0;
    this.#wake();
  }

  /** Waits for news, and takes the oldest. Throws what the inbox failed with. */
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
