import { overloaded } from "../errors.js";
import { Places, Share } from "../places.js";
import { EventInbox, type TailNews } from "./event-inbox.js";
import { EventTail, earliestTimeMs, READ_LIMIT } from "./event-tail.js";
import { formatResumeToken, parseResumeToken, type WatchFilter } from "./resume-token.js";
import type { EventCursor, EventLog, EventPosition, SessionEvent } from "./session-event.js";
import { SharedReads } from "./shared-reads.js";

/** A message to a watcher. */
export type WatchMessage = {
  /** A later watch with this token continues after this message. */
  readonly resumeToken: string;
} & (
  | {
      readonly kind: "events";
      /** 1 to 500, in order per session. */
      readonly events: readonly SessionEvent[];
    }
  | {
      readonly kind: "checkpoint";
      /**
       * Every change whose call returned before this time, by the store's clock, has been sent. A
       * change with an earlier timestamp may still come, because a change is stamped before it is
       * visible. If several processes keep the log, the earliest of their clocks counts. The time
       * goes back only after a reset.
       */
      readonly timeMs: number;
    }
  | {
      readonly kind: "reset";
      /** For people. */
      readonly reason: string;
    }
);

/** A request for a watch. */
export interface WatchSessions {
  /** All users if undefined. */
  readonly userId?: string | undefined;
  /** From now on if undefined. */
  readonly resumeToken?: string | undefined;
  /** Who watches, for the bound of each caller. */
  readonly caller?: string;
  /** Ends the watch at once. The watch then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** How many watches a namespace may have that is alone: as many as calls on one connection. */
export const MAX_WATCHES = 1_000;

/** The namespace of watches, and their limits. */
export interface WatchOptions {
  /** "" by default. */
  readonly namespace: string;
  /** The server's places for watches. By default a namespace has `MAX_WATCHES` for itself. */
  readonly places: Places;
  /** The queue of one watcher, 10,000 by default: 3 MB, some seconds of a busy server's events. */
  readonly maxQueuedEvents: number;
}

const DEFAULT_MAX_QUEUED_EVENTS = 10_000;
const MAX_EVENTS_PER_MESSAGE = 500;

const RESET_REASONS = {
  lost: "events are missing: they are no longer kept, or the store was restarted or replaced",
  otherStore: "the resume_token is of another store",
} as const;

/** The watches of a namespace in a server. Each catches up with the log by itself, and then all share one tail. */
export class SessionWatches {
  readonly #events: SharedReads;
  readonly #tail: EventTail;
  readonly #namespace: string;
  readonly #maxQueuedEvents: number;
  readonly #share: Share;
  /** Watchers of all users mostly share one position, and its token is large. */
  readonly #tokens = new WeakMap<EventCursor, string>();
  /** The newest message with these events: watchers get the same events, and convert them once. */
  readonly #messages = new WeakMap<readonly SessionEvent[], WatchMessage>();
  #checkpoint: (WatchMessage & { readonly kind: "checkpoint" }) | undefined;

  /** `events` is the log of the namespace. */
  constructor(events: EventLog, options: Partial<WatchOptions> = {}) {
    this.#events = new SharedReads(events);
    this.#tail = new EventTail(events);
    this.#namespace = options.namespace ?? "";
    this.#maxQueuedEvents = options.maxQueuedEvents ?? DEFAULT_MAX_QUEUED_EVENTS;
    this.#share = new Share(options.places ?? new Places(MAX_WATCHES));
  }

  /** The number of open watches. */
  get size(): number {
    return this.#share.taken;
  }

  /** As `EventTail.lagMs`. */
  get lagMs(): number {
    return this.#tail.lagMs;
  }

  /**
   * Reports every change after the start, once and in order per session, also across resumed
   * watches. If events are lost it sends a reset, and continues from the log's end as it was before
   * the reset. Never ends by itself. Sends a checkpoint at least every second while the store can
   * be read.
   *
   * Throws INVALID_ARGUMENT for a malformed token or a token of another user's watch or another
   * namespace, OVERLOADED if
   * there are too many watches or the consumer is too slow, and STORE_UNAVAILABLE until it has
   * caught up.
   */
  async *watch(request: WatchSessions): AsyncGenerator<WatchMessage, never, undefined> {
    const { userId, resumeToken, caller = "", signal } = request;
    const filter = { namespace: this.#namespace, userId };
    const start = resumeToken === undefined ? undefined : parseResumeToken(filter, resumeToken);
    signal?.throwIfAborted();
    if (!this.#share.take(caller)) {
      throw overloaded("watches", "there are too many watches on this server, or of this caller");
    }
    const watch = new Watch(this.#events, this.#tail, {
      userId,
      start,
      maxQueuedEvents: this.#maxQueuedEvents,
      tokenOf: (cursor) => this.#tokenOf(filter, cursor),
      eventsMessage: (events, cursor) => this.#eventsMessage(events, this.#tokenOf(filter, cursor)),
      checkpoint: (timeMs, cursor) => this.#checkpointAt(timeMs, this.#tokenOf(filter, cursor)),
    });
    let isOpen = true;
    const close = (error?: unknown) => {
      watch.close(error);
      if (isOpen) this.#share.giveBack(caller);
      isOpen = false;
    };
    // Close now: the consumer may be busy and not ask for the next message for a long time.
    const onAbort = () => close(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return yield* watch.messages();
    } finally {
      signal?.removeEventListener("abort", onAbort);
      close();
    }
  }

  /** The same object for all watchers that are at one position. */
  #eventsMessage(events: readonly SessionEvent[], resumeToken: string): WatchMessage {
    const known = this.#messages.get(events);
    if (known?.resumeToken === resumeToken) return known;
    const message = { kind: "events", events, resumeToken } as const;
    this.#messages.set(events, message);
    return message;
  }

  #checkpointAt(timeMs: number, resumeToken: string): WatchMessage {
    const last = this.#checkpoint;
    if (last?.timeMs === timeMs && last.resumeToken === resumeToken) return last;
    this.#checkpoint = { kind: "checkpoint", timeMs, resumeToken };
    return this.#checkpoint;
  }

  #tokenOf(filter: WatchFilter, cursor: EventCursor): string {
    if (filter.userId !== undefined) return formatResumeToken(filter, cursor);
    const token = this.#tokens.get(cursor) ?? formatResumeToken(filter, cursor);
    this.#tokens.set(cursor, token);
    return token;
  }
}

/** What a watch is, and how all watches of a namespace make messages. */
interface WatchParts {
  readonly userId: string | undefined;
  readonly start: EventCursor | undefined;
  readonly maxQueuedEvents: number;
  readonly tokenOf: (cursor: EventCursor) => string;
  readonly eventsMessage: (events: readonly SessionEvent[], cursor: EventCursor) => WatchMessage;
  readonly checkpoint: (timeMs: number, cursor: EventCursor) => WatchMessage;
}

/**
 * One watch. It first reads the log from its start to the end, as fast as the consumer takes the
 * messages. Then the tail starts to fill its inbox, and the watch reads to the end once more. From
 * then on it reads its inbox, and skips events that it has read itself.
 */
class Watch {
  readonly #events: SharedReads;
  readonly #tail: EventTail;
  readonly #userId: string | undefined;
  readonly #start: EventCursor | undefined;
  readonly #maxQueuedEvents: number;
  readonly #tokenOf: WatchParts["tokenOf"];
  readonly #eventsMessage: WatchParts["eventsMessage"];
  readonly #checkpointAt: WatchParts["checkpoint"];
  readonly #closed = Promise.withResolvers<never>();
  #inbox: EventInbox | undefined;
  /** Our position after the last message. */
  #position: EventCursor = new Map();
  /** The time of the last checkpoint. The next checkpoint is not earlier. */
  #vouchedMs = 0;
  /** Whether the tail has reached our own position. From then on our position is the tail's. */
  #isLevel = false;

  constructor(events: SharedReads, tail: EventTail, options: WatchParts) {
    this.#events = events;
    this.#tail = tail;
    this.#userId = options.userId;
    this.#start = options.start;
    this.#maxQueuedEvents = options.maxQueuedEvents;
    this.#tokenOf = options.tokenOf;
    this.#eventsMessage = options.eventsMessage;
    this.#checkpointAt = options.checkpoint;
    // Most watches are closed while they do not wait for the store.
    this.#closed.promise.catch(() => {});
  }

  /** Frees the inbox. `messages` throws the error. */
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
    // Follow from the present end: we may be far behind it. Events that were trimmed in between
    // would look like a loss to all other watches.
    this.#tail.follow(inbox, await this.#unlessClosed(this.#events.end(this.#userId)));
    yield this.#checkpoint(yield* this.#catchUp());
    for (;;) {
      const news = await inbox.next();
      if (news.isLost) yield this.#resetTo(news);
      else yield* this.#eventMessages(news.events, news.cursor);
      if (news.confirmedTimeMs !== undefined) yield this.#checkpoint(news.confirmedTimeMs);
    }
  }

  /** Reads to the log's end. Every change before the answered time has then been sent. */
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

  /** Messages of the tail's events, without those that we have read ourselves. */
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
    this.#isLevel = [...merged].every(([lane, position]) => position === tailCursor.get(lane));
    return this.#messagesOf(fresh, this.#isLevel ? this.#ownPart(tailCursor) : merged);
  }

  *#messagesOf(
    events: readonly SessionEvent[],
    cursor: EventCursor,
  ): Generator<WatchMessage, void, undefined> {
    for (let start = 0; start < events.length; start += MAX_EVENTS_PER_MESSAGE) {
      const isWhole = events.length <= MAX_EVENTS_PER_MESSAGE;
      const part = isWhole ? events : events.slice(start, start + MAX_EVENTS_PER_MESSAGE);
      const isLast = start + part.length === events.length;
      this.#position = isLast
        ? cursor
        : new Map([
            ...this.#position,
            ...part.map(({ lane, position }) => [lane, position] as const),
          ]);
      yield this.#eventsMessage(part, this.#position);
    }
    this.#position = cursor;
  }

  #checkpoint(timeMs: number): WatchMessage {
    this.#vouchedMs = Math.max(this.#vouchedMs, timeMs);
    return this.#checkpointAt(this.#vouchedMs, this.#position);
  }

  /** Continues at the tail's position. */
  #resetTo({ cursor }: TailNews): WatchMessage {
    this.#position = this.#ownPart(cursor);
    this.#isLevel = true;
    return this.#reset("lost");
  }

  #reset(reason: keyof typeof RESET_REASONS): WatchMessage {
    // Another process with another clock may keep the log now.
    this.#vouchedMs = 0;
    const resumeToken = this.#tokenOf(this.#position);
    return { kind: "reset", reason: RESET_REASONS[reason], resumeToken };
  }

  /** The tail's position in the lanes of this watch: one lane, or all. */
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
 * Whether an event of the tail is new to a reader at position `own`. The source does not matter: a
 * read from another source's position answers `lost`. At epoch 0 the reader found the lane empty.
 * Its earlier events were too old for any pending read, so every event in it is new.
 */
function isEventAfter({ position }: SessionEvent, own: EventPosition | undefined): boolean {
  if (own === undefined) return true;
  if (position.epoch !== own.epoch) return own.epoch === 0 || position.epoch > own.epoch;
  return position.sequence > own.sequence;
}

/**
 * The later of a watch's own position in a lane and the tail's, or the tail's if they are equal. A
 * position in a lane is later than an empty lane, unless the lane was found empty more recently.
 */
function later(own: EventPosition, tails: EventPosition | undefined): EventPosition {
  if (tails === undefined) return own;
  if (own.epoch === tails.epoch) return own.sequence > tails.sequence ? own : tails;
  if (tails.epoch === 0) return own.timeMs >= tails.timeMs ? own : tails;
  return own.epoch > tails.epoch ? own : tails;
}
