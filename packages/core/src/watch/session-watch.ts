import { SessiondError } from "../errors.js";
import { EventInbox, type TailNews } from "./event-inbox.js";
import { EventTail, earliestTimeMs, READ_LIMIT } from "./event-tail.js";
import { formatResumeToken, parseResumeToken } from "./resume-token.js";
import type { EventCursor, EventLog, EventPosition, SessionEvent } from "./session-event.js";

/** What a watcher is told. */
export type WatchMessage = {
  /** Where a later watch goes on after this message. */
  readonly resumeToken: string;
} & (
  | {
      readonly kind: "events";
      /** In order per session; at least one, at most 500. */
      readonly events: readonly SessionEvent[];
    }
  | {
      readonly kind: "checkpoint";
      /**
       * Every change whose call had returned before this time, by the store's clock,
       * has been sent. Not every one that is stamped with an earlier time: a change
       * is stamped a moment before it can be seen. Where several processes keep the
       * log, the earliest of their clocks counts. Never earlier than that of the
       * checkpoint before, but after a reset.
       */
      readonly timeMs: number;
    }
  | {
      readonly kind: "reset";
      /** For people. */
      readonly reason: string;
    }
);

/** Which changes to watch, and from where. */
export interface WatchSessions {
  /** All users when undefined. */
  readonly userId?: string | undefined;
  /** From now on when undefined. */
  readonly resumeToken?: string | undefined;
  /** Ends the watch at once; it then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** How much watches may take of a server. */
export interface WatchLimits {
  /** A thousand: what one connection may have of calls under way, too. */
  readonly maxWatches: number;
  /** What may wait for one watcher: 10,000, some seconds of what a busy server does, in 3 MB. */
  readonly maxQueuedEvents: number;
}

const DEFAULT_LIMITS: WatchLimits = { maxWatches: 1_000, maxQueuedEvents: 10_000 };
const MAX_EVENTS_PER_MESSAGE = 500;

const RESET_REASONS = {
  lost: "events are missing: they are no longer kept, or the store was restarted or replaced",
  otherStore: "the resume_token is of another store",
} as const;

/**
 * The watches of a server. They share one reader of the log's end; each catches
 * up with it by itself, from wherever it starts.
 */
export class SessionWatches {
  readonly #events: EventLog;
  readonly #tail: EventTail;
  readonly #limits: WatchLimits;
  readonly #open = new Set<Watch>();
  /** Watchers of all users are mostly in the same place, of which the token is large. */
  readonly #tokens = new WeakMap<EventCursor, string>();

  constructor(events: EventLog, limits: Partial<WatchLimits> = {}) {
    this.#events = events;
    this.#tail = new EventTail(events);
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
  }

  /** How many watches there are. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * Tells of every change after the start, once and in order per session, also
   * across watches that resume where another ended; or, where that cannot be, of
   * a reset, after which it goes on from the log's end as it was before the reset
   * was told. Never ends by itself. A checkpoint comes at least every second for
   * as long as the store can be read.
   *
   * Throws INVALID_ARGUMENT for a token that is none or of a watch of another
   * user; OVERLOADED where there are too many watches, or this one is taken from
   * too slowly; STORE_UNAVAILABLE, but only until it has caught up.
   */
  async *watch(request: WatchSessions): AsyncGenerator<WatchMessage, never, undefined> {
    const { userId, resumeToken, signal } = request;
    const start = resumeToken === undefined ? undefined : parseResumeToken(userId, resumeToken);
    signal?.throwIfAborted();
    if (this.#open.size >= this.#limits.maxWatches) {
      throw new SessiondError("OVERLOADED", "there are too many watches on this server");
    }
    const watch = new Watch(this.#events, this.#tail, {
      userId,
      start,
      maxQueuedEvents: this.#limits.maxQueuedEvents,
      tokenOf: (cursor) => this.#tokenOf(userId, cursor),
    });
    this.#open.add(watch);
    const close = (error?: unknown) => {
      watch.close(error);
      this.#open.delete(watch);
    };
    // At once, though whoever takes the messages may be busy with one, and for long.
    const onAbort = () => close(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return yield* watch.messages();
    } finally {
      signal?.removeEventListener("abort", onAbort);
      close();
    }
  }

  #tokenOf(userId: string | undefined, cursor: EventCursor): string {
    if (userId !== undefined) return formatResumeToken(userId, cursor);
    const token = this.#tokens.get(cursor) ?? formatResumeToken(userId, cursor);
    this.#tokens.set(cursor, token);
    return token;
  }
}

/**
 * One watch. It first reads the log from where it starts to the end, as fast as
 * its messages are taken. Then it has the tail collect what happens from there
 * on, reads to the end once more, and goes on with what was collected; of that it
 * leaves out what it has read itself.
 */
class Watch {
  readonly #events: EventLog;
  readonly #tail: EventTail;
  readonly #userId: string | undefined;
  readonly #start: EventCursor | undefined;
  readonly #maxQueuedEvents: number;
  readonly #tokenOf: (cursor: EventCursor) => string;
  readonly #closed = Promise.withResolvers<never>();
  #inbox: EventInbox | undefined;
  /** After the last message. */
  #position: EventCursor = new Map();
  /** The time of the last checkpoint; the next one does not take it back. */
  #vouchedMs = 0;
  /** Whether the tail has come to what this has read itself: from then on they go together. */
  #isLevel = false;

  constructor(
    events: EventLog,
    tail: EventTail,
    options: {
      readonly userId: string | undefined;
      readonly start: EventCursor | undefined;
      readonly maxQueuedEvents: number;
      readonly tokenOf: (cursor: EventCursor) => string;
    },
  ) {
    this.#events = events;
    this.#tail = tail;
    this.#userId = options.userId;
    this.#start = options.start;
    this.#maxQueuedEvents = options.maxQueuedEvents;
    this.#tokenOf = options.tokenOf;
    // Most watches are closed while they do not wait for the store.
    this.#closed.promise.catch(() => {});
  }

  /** Frees all that it holds; `messages` throws the error. */
  close(error: unknown): void {
    this.#closed.reject(error);
    if (this.#inbox === undefined) return;
    this.#inbox.fail(error);
    this.#tail.leave(this.#inbox);
  }

  async *messages(): AsyncGenerator<WatchMessage, never, undefined> {
    this.#position = await this.#unlessClosed(this.#events.end(this.#userId));
    if (this.#start !== undefined) {
      if (hasSameLanes(this.#start, this.#position)) this.#position = this.#start;
      else yield this.#reset("otherStore");
      yield* this.#catchUp();
    }
    const lanes = new Set(this.#position.keys());
    const inbox = new EventInbox(this.#userId, lanes, this.#maxQueuedEvents);
    this.#inbox = inbox;
    // From the present end: this one may have come slowly to where it is, and what has been
    // trimmed behind the end would look to all other watches like a loss.
    this.#tail.follow(inbox, await this.#unlessClosed(this.#events.end(this.#userId)));
    yield this.#checkpoint(yield* this.#catchUp());
    for (;;) {
      const news = await inbox.next();
      if (news.isLost) yield this.#resetTo(news);
      else yield* this.#eventMessages(news.events, news.cursor);
      if (news.confirmedTimeMs !== undefined) yield this.#checkpoint(news.confirmedTimeMs);
    }
  }

  /** Reads to the log's end. Answers a time before which everything has then been sent. */
  async *#catchUp(): AsyncGenerator<WatchMessage, number, undefined> {
    for (;;) {
      const page = await this.#unlessClosed(this.#events.read(this.#position, READ_LIMIT));
      if (page === "lost") {
        this.#position = await this.#unlessClosed(this.#events.end(this.#userId));
        yield this.#reset("lost");
        continue;
      }
      const isWanted = ({ userId }: SessionEvent) =>
        this.#userId === undefined || userId === this.#userId;
      yield* this.#messagesOf(page.events.filter(isWanted), page.cursor);
      if (page.isComplete) return earliestTimeMs(page.cursor);
    }
  }

  /** What the tail has read, but for what is known already. */
  #eventMessages(
    events: readonly SessionEvent[],
    tailCursor: EventCursor,
  ): Generator<WatchMessage, void, undefined> {
    if (this.#isLevel) return this.#messagesOf(events, this.#ownPart(tailCursor));
    const position = this.#position;
    const fresh = events.filter((event) => isEventAfter(event, position.get(event.lane)));
    const merged = new Map(
      [...position].map(([lane, own]) => [lane, later(own, tailCursor.get(lane))]),
    );
    this.#isLevel = [...merged].every(([lane, place]) => place === tailCursor.get(lane));
    return this.#messagesOf(fresh, this.#isLevel ? this.#ownPart(tailCursor) : merged);
  }

  *#messagesOf(
    events: readonly SessionEvent[],
    cursor: EventCursor,
  ): Generator<WatchMessage, void, undefined> {
    for (let start = 0; start < events.length; start += MAX_EVENTS_PER_MESSAGE) {
      const part = events.slice(start, start + MAX_EVENTS_PER_MESSAGE);
      const isLast = start + part.length === events.length;
      this.#position = isLast
        ? cursor
        : new Map([
            ...this.#position,
            ...part.map(({ lane, position }) => [lane, position] as const),
          ]);
      yield { kind: "events", events: part, resumeToken: this.#tokenOf(this.#position) };
    }
    this.#position = cursor;
  }

  #checkpoint(timeMs: number): WatchMessage {
    this.#vouchedMs = Math.max(this.#vouchedMs, timeMs);
    const resumeToken = this.#tokenOf(this.#position);
    return { kind: "checkpoint", timeMs: this.#vouchedMs, resumeToken };
  }

  /** Goes on where the tail does. */
  #resetTo({ cursor }: TailNews): WatchMessage {
    this.#position = this.#ownPart(cursor);
    this.#isLevel = true;
    return this.#reset("lost");
  }

  #reset(reason: keyof typeof RESET_REASONS): WatchMessage {
    // Another process may keep the log now, by another clock.
    this.#vouchedMs = 0;
    const resumeToken = this.#tokenOf(this.#position);
    return { kind: "reset", reason: RESET_REASONS[reason], resumeToken };
  }

  /** The tail's place in the lanes of this watch, which are one lane or all there are. */
  #ownPart(cursor: EventCursor): EventCursor {
    if (this.#userId === undefined) return cursor;
    return new Map([...cursor].filter(([lane]) => this.#inbox?.lanes.has(lane)));
  }

  #unlessClosed<T>(answer: Promise<T>): Promise<T> {
    return Promise.race([answer, this.#closed.promise]);
  }
}

function hasSameLanes(a: EventCursor, b: EventCursor): boolean {
  return a.size === b.size && [...a.keys()].every((lane) => b.has(lane));
}

/**
 * Whether an event of the tail is news to who is at a place. The source does not
 * matter: reading from a place of another one says for itself that it is lost. A
 * lane of epoch 0 was found empty; what it had before then was too old for any
 * read that is still under way to bring, so an event in it is new.
 */
function isEventAfter({ position }: SessionEvent, place: EventPosition | undefined): boolean {
  if (place === undefined) return true;
  if (position.epoch !== place.epoch) return place.epoch === 0 || position.epoch > place.epoch;
  return position.sequence > place.sequence;
}

/**
 * The later of a watch's own place in a lane and the tail's; the tail's where they
 * are the same. As with events, what is in a lane is later than its having been
 * empty, unless the other has looked since then.
 */
function later(own: EventPosition, tails: EventPosition | undefined): EventPosition {
  if (tails === undefined) return own;
  if (own.epoch === tails.epoch) return own.sequence > tails.sequence ? own : tails;
  if (tails.epoch === 0) return own.timeMs >= tails.timeMs ? own : tails;
  return own.epoch > tails.epoch ? own : tails;
}
