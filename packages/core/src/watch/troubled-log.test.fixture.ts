import { storeUnavailable } from "../errors.js";
import type {
  EventCursor,
  EventLog,
  EventPage,
  EventPosition,
  SessionEvent,
} from "./session-event.js";
import type { SessionWatches, WatchMessage, WatchSessions } from "./session-watch.js";

export const USERS = ["ann", "bob", "cem", "dee", "eve"];
const LANES = 3;
export const laneOf = (userId: string) => USERS.indexOf(userId) % LANES;

/** What goes wrong with one read, or with one hint. */
export type Trouble = "none" | "slow" | "slow to look" | "fails";
export type Hint = "once" | "twice" | "never";

/** A lane, and when its newest event was, and the newest of an earlier epoch. */
interface Lane {
  events: SessionEvent[];
  epoch: number;
  sequence: number;
  newestMs: number;
  lastMs: number;
}
const EMPTY = { epoch: 0, sequence: 0, newestMs: 0, lastMs: 0 };

/**
 * An event log in memory that does all that the contract allows. Each user has
 * one session, of the same name, whose events carry the versions 1, 2, 3 and so on.
 */
export class TroubledLog implements EventLog {
  readonly #lanes: Lane[] = Array.from({ length: LANES }, () => ({ ...EMPTY, events: [] }));
  readonly #listeners = new Set<(lane: number) => void>();
  readonly versions = new Map<string, number>();
  /** When each session got its versions. */
  readonly #timesMs = new Map<string, number[]>();
  #source = 1;
  reads: Trouble[] = [];
  hints: Hint[] = [];
  readsUnderWay = 0;
  mostReadsAtOnce = 0;
  readCount = 0;

  get listenerCount(): number {
    return this.#listeners.size;
  }

  append(userId: string): void {
    const lane = laneOf(userId);
    const timesMs = this.#timesMs.get(userId) ?? [];
    this.#timesMs.set(userId, [...timesMs, Date.now()]);
    const version = timesMs.length + 1;
    this.versions.set(userId, version);
    const state = this.#lane(lane);
    if (state.sequence === 0) state.epoch = Date.now();
    state.sequence++;
    state.newestMs = Date.now();
    const event = { type: "updated", sessionId: userId, userId, version, changedBy: "" } as const;
    state.events.push({ ...event, timeMs: Date.now(), lane, position: this.#positionAt(lane) });
    const times = { never: 0, once: 1, twice: 2 }[this.hints.shift() ?? "once"];
    for (let i = 0; i < times; i++) for (const listener of this.#listeners) listener(lane);
  }

  /** The version that a session had before a time. */
  versionBefore(session: string, timeMs: number): number {
    return this.#timesMs.get(session)?.filter((time) => time < timeMs).length ?? 0;
  }

  /** Forgets all events, as if they had become too old. */
  trim(): void {
    for (const lane of this.#lanes) lane.events = [];
  }

  /** As when a replica without the newest events takes over. */
  failOver(): void {
    this.#source++;
  }

  /** Every lane was without events for so long that even its numbers are forgotten. */
  beginAnew(): void {
    for (const lane of this.#lanes) {
      Object.assign(lane, { ...EMPTY, events: [], lastMs: lane.newestMs, newestMs: lane.newestMs });
    }
  }

  async end(userId?: string): Promise<EventCursor> {
    const lanes = userId === undefined ? this.#lanes.keys() : [laneOf(userId)];
    return new Map([...lanes].map((lane) => [lane, this.#positionAt(lane)]));
  }

  async read(cursor: EventCursor, limit: number): Promise<EventPage | "lost"> {
    const trouble = this.reads.shift() ?? "none";
    this.readCount++;
    this.readsUnderWay++;
    this.mostReadsAtOnce = Math.max(this.mostReadsAtOnce, this.readsUnderWay);
    try {
      if (trouble === "slow to look") await later(40);
      const page = this.#look(cursor, limit);
      await later(trouble === "slow" ? 40 : 0);
      if (trouble === "fails") throw storeUnavailable("for a test");
      return page;
    } finally {
      this.readsUnderWay--;
    }
  }

  subscribe(listener: (lane: number) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #look(cursor: EventCursor, limit: number): EventPage | "lost" {
    const positions = new Map<number, EventPosition>();
    const events: SessionEvent[] = [];
    let isComplete = true;
    for (const [lane, from] of cursor) {
      const state = this.#lane(lane);
      if (from.source !== this.#source) return "lost";
      const isSameEpoch = from.epoch === state.epoch;
      if ((!isSameEpoch || from.epoch === 0) && from.timeMs <= state.lastMs) return "lost";
      const after = isSameEpoch ? from.sequence : 0;
      const kept = state.events.filter(({ position }) => position.sequence > after);
      if (kept.length !== state.sequence - after) return "lost";
      const part = kept.slice(0, limit);
      events.push(...part);
      const last = part.length < kept.length ? part.at(-1) : undefined;
      if (last !== undefined) isComplete = false;
      positions.set(lane, last?.position ?? this.#positionAt(lane));
    }
    return { events, cursor: positions, isComplete };
  }

  #lane(lane: number): Lane {
    return this.#lanes[lane] as Lane;
  }

  #positionAt(lane: number): EventPosition {
    const { epoch, sequence } = this.#lane(lane);
    return { source: this.#source, epoch, sequence, timeMs: Date.now() };
  }
}

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A consumer of a watch that writes down what it is told. */
export class Watcher {
  readonly messages: WatchMessage[] = [];
  readonly #abort = new AbortController();
  /** Why it ended. */
  readonly ended: Promise<unknown>;

  constructor(
    watches: SessionWatches,
    { userId, resumeToken }: WatchSessions = {},
    onMessage: (message: WatchMessage) => void | Promise<void> = () => {},
  ) {
    const watch = watches.watch({ userId, resumeToken, signal: this.#abort.signal });
    this.ended = this.#take(watch, onMessage).catch((error) => error);
  }

  async #take(
    watch: AsyncIterable<WatchMessage>,
    onMessage: (message: WatchMessage) => void | Promise<void>,
  ): Promise<void> {
    for await (const message of watch) {
      this.messages.push(message);
      await onMessage(message);
    }
  }

  get resumeToken(): string | undefined {
    return this.messages.at(-1)?.resumeToken;
  }

  get kinds(): readonly string[] {
    return this.messages.map(({ kind }) => kind);
  }

  get events(): readonly SessionEvent[] {
    return this.messages.flatMap((message) => (message.kind === "events" ? message.events : []));
  }

  stop(): Promise<unknown> {
    this.#abort.abort(new Error("stopped by the test"));
    return this.ended;
  }
}

/**
 * A watcher that is cut now and then and resumes, and that checks what it is
 * told: nothing twice, nothing out of order, nothing missing but before a reset.
 */
export class Chain {
  #watcher: Watcher | undefined;
  /** Of each session the version that the next event must have, where that is known. */
  #next = new Map<string, number>();
  /** The versions there were when this began, or at the last reset. */
  #known: ReadonlyMap<string, number> | undefined;
  readonly faults: string[] = [];
  resets = 0;
  #token: string | undefined;
  readonly #log: TroubledLog;
  readonly #watches: SessionWatches;
  readonly #userId: string | undefined;

  constructor(log: TroubledLog, watches: SessionWatches, userId: string | undefined) {
    this.#log = log;
    this.#watches = watches;
    this.#userId = userId;
  }

  resume(): void {
    const request = { userId: this.#userId, resumeToken: this.#token };
    const watcher = new Watcher(this.#watches, request, (message) => {
      if (watcher === this.#watcher) this.#take(message);
    });
    this.#watcher = watcher;
  }

  async cut(): Promise<void> {
    const watcher = this.#watcher;
    this.#watcher = undefined;
    await watcher?.stop();
  }

  /** Whether it has heard of everything. */
  get isUpToDate(): boolean {
    return [...this.#log.versions].every(
      ([session, version]) =>
        !this.#wants(session) ||
        (this.#next.get(session) ?? (this.#known?.get(session) ?? 0) + 1) === version + 1,
    );
  }

  #wants(session: string): boolean {
    return this.#userId === undefined || this.#userId === session;
  }

  #take(message: WatchMessage): void {
    this.#token = message.resumeToken;
    if (message.kind === "events") {
      for (const { sessionId, version } of message.events) {
        if (!this.#wants(sessionId)) this.faults.push(`${sessionId} is of another user`);
        const expected = this.#next.get(sessionId);
        const least = (this.#known?.get(sessionId) ?? 0) + 1;
        if (expected === undefined ? version > least && this.#known : version !== expected) {
          this.faults.push(`${sessionId} ${version} in place of ${expected ?? least}`);
        }
        this.#next.set(sessionId, version + 1);
      }
    } else if (message.kind === "reset") {
      this.resets++;
      this.#next = new Map();
      this.#known = new Map(this.#log.versions);
    } else if (this.#known === undefined) {
      // The first one: from here on nothing may be missing.
      this.#known = new Map(this.#log.versions);
    } else {
      this.#checkNothingBefore(message.timeMs);
    }
  }

  /** What a checkpoint vouches for. */
  #checkNothingBefore(timeMs: number): void {
    for (const session of this.#log.versions.keys()) {
      const version = this.#log.versionBefore(session, timeMs);
      const isKnown = version <= (this.#known?.get(session) ?? 0);
      if (this.#wants(session) && !isKnown && version >= (this.#next.get(session) ?? 0)) {
        this.faults.push(`${session} ${version} was before the checkpoint ${timeMs}`);
      }
    }
  }
}
