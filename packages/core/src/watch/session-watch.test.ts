import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { storeUnavailable } from "../errors.js";
import { formatResumeToken } from "./resume-token.js";
import type {
  EventCursor,
  EventLog,
  EventPage,
  EventPosition,
  SessionEvent,
} from "./session-event.js";
import {
  SessionWatches,
  type WatchLimits,
  type WatchMessage,
  type WatchSessions,
} from "./session-watch.js";

const USERS = ["ann", "bob", "cem", "dee", "eve"];
const LANES = 3;
/** Longer than a checkpoint may take to come. */
const A_SECOND_MS = 1_000;

const laneOf = (userId: string) => USERS.indexOf(userId) % LANES;

/** What goes wrong with one read, or with one hint. */
type Trouble = "none" | "slow" | "slow to look" | "fails";
type Hint = "once" | "twice" | "never";

/**
 * An event log in memory that does all that the contract allows. Each user has
 * one session, of the same name, whose events carry the versions 1, 2, 3 and so on.
 */
class TroubledLog implements EventLog {
  readonly #lanes: SessionEvent[][] = Array.from({ length: LANES }, () => []);
  readonly #epochs: number[] = Array.from({ length: LANES }, () => 0);
  readonly #sequences: number[] = Array.from({ length: LANES }, () => 0);
  /** When the newest event was, in each lane, and the newest of an earlier epoch. */
  readonly #newestMs: number[] = Array.from({ length: LANES }, () => 0);
  readonly #lastTimesMs: number[] = Array.from({ length: LANES }, () => 0);
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
    const version = (this.versions.get(userId) ?? 0) + 1;
    this.versions.set(userId, version);
    const timesMs = this.#timesMs.get(userId) ?? [];
    this.#timesMs.set(userId, [...timesMs, Date.now()]);
    if (this.#sequences[lane] === 0) this.#epochs[lane] = Date.now();
    const sequence = (this.#sequences[lane] ?? 0) + 1;
    this.#sequences[lane] = sequence;
    this.#newestMs[lane] = Date.now();
    const event = {
      type: "updated",
      sessionId: userId,
      userId,
      version,
      timeMs: Date.now(),
    } as const;
    this.#lanes[lane]?.push({ ...event, lane, position: this.#place(lane, sequence) });
    const hint = this.hints.shift() ?? "once";
    for (let times = hint === "never" ? 0 : hint === "once" ? 1 : 2; times > 0; times--) {
      for (const listener of this.#listeners) listener(lane);
    }
  }

  /** The version that a session had before a time. */
  versionBefore(session: string, timeMs: number): number {
    return this.#timesMs.get(session)?.filter((time) => time < timeMs).length ?? 0;
  }

  /** Forgets all events, as if they had become too old. */
  trim(): void {
    for (const lane of this.#lanes) lane.length = 0;
  }

  /** As when a replica without the newest events takes over. */
  failOver(): void {
    this.#source++;
  }

  /** Every lane was without events for so long that even its numbers are forgotten. */
  beginAnew(): void {
    this.#lastTimesMs.splice(0, LANES, ...this.#newestMs);
    this.trim();
    this.#sequences.fill(0);
    this.#epochs.fill(0);
  }

  async end(userId?: string): Promise<EventCursor> {
    const lanes = userId === undefined ? this.#lanes.keys() : [laneOf(userId)];
    return new Map([...lanes].map((lane) => [lane, this.#place(lane)]));
  }

  async read(cursor: EventCursor, limit: number): Promise<EventPage | "lost"> {
    const trouble = this.reads.shift() ?? "none";
    this.readCount++;
    this.readsUnderWay++;
    this.mostReadsAtOnce = Math.max(this.mostReadsAtOnce, this.readsUnderWay);
    try {
      if (trouble === "slow to look") await later(40);
      const page = this.#look(cursor, limit);
      if (trouble === "slow") await later(40);
      else await later(0);
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
    const places = new Map<number, EventPosition>();
    const events: SessionEvent[] = [];
    let isComplete = true;
    for (const [lane, from] of cursor) {
      if (from.source !== this.#source) return "lost";
      const isSameEpoch = from.epoch === this.#epochs[lane];
      if ((!isSameEpoch || from.epoch === 0) && from.timeMs <= (this.#lastTimesMs[lane] ?? 0))
        return "lost";
      const after = isSameEpoch ? from.sequence : 0;
      const kept = this.#lanes[lane]?.filter(({ position }) => position.sequence > after) ?? [];
      if (kept.length !== (this.#sequences[lane] ?? 0) - after) return "lost";
      const part = kept.slice(0, limit);
      events.push(...part);
      const last = part.length < kept.length ? part.at(-1) : undefined;
      if (last !== undefined) isComplete = false;
      places.set(lane, last?.position ?? this.#place(lane));
    }
    return { events, cursor: places, isComplete };
  }

  #place(lane: number, sequence = this.#sequences[lane] ?? 0): EventPosition {
    return { source: this.#source, epoch: this.#epochs[lane] ?? 0, sequence, timeMs: Date.now() };
  }
}

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Whoever watches, and writes down what it is told. */
class Watcher {
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
class Chain {
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

describe("with a log that does all that a store may", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  type Step =
    | { readonly do: "append"; readonly user: number; readonly hint: Hint; readonly times: number }
    | { readonly do: "wait"; readonly ms: number }
    | { readonly do: "read badly"; readonly troubles: readonly Trouble[] }
    | { readonly do: "cut" | "resume"; readonly chain: number }
    | { readonly do: "trim" | "fail over" | "begin anew" };

  const chainNumbers = fc.nat({ max: 3 });
  const harmless: fc.Arbitrary<Step>[] = [
    fc.record({
      do: fc.constant("append"),
      user: fc.nat({ max: USERS.length - 1 }),
      hint: fc.constantFrom<Hint>("once", "once", "twice", "never"),
      times: fc.constantFrom(1, 1, 1, 3, 700),
    }),
    fc.record({ do: fc.constant("wait"), ms: fc.constantFrom(0, 1, 5, 20, 100, 600) }),
    fc.record({
      do: fc.constant("read badly"),
      troubles: fc.array(fc.constantFrom<Trouble>("none", "slow", "slow to look", "fails"), {
        maxLength: 6,
      }),
    }),
    fc.record({ do: fc.constantFrom("cut", "resume"), chain: chainNumbers }),
  ] as fc.Arbitrary<Step>[];
  const harmful = fc.record({
    do: fc.constantFrom("trim", "fail over", "begin anew"),
  }) as fc.Arbitrary<Step>;

  /** Lets chains of watches live through the steps, and then come to rest. */
  async function run(steps: readonly Step[]): Promise<readonly Chain[]> {
    const log = new TroubledLog();
    const watches = new SessionWatches(log);
    const chains = [undefined, undefined, "ann", "bob"].map((u) => new Chain(log, watches, u));
    for (const chain of chains) chain.resume();
    await vi.advanceTimersByTimeAsync(100);
    for (const step of steps) await take(step, log, chains);
    log.reads = [];
    for (const chain of chains) {
      await cutAndAdvance(chain);
      chain.resume();
    }
    for (let waited = 0; waited < 20 && !chains.every((c) => c.isUpToDate); waited++) {
      await vi.advanceTimersByTimeAsync(100);
    }
    await vi.advanceTimersByTimeAsync(A_SECOND_MS);
    for (const chain of chains) {
      expect(chain.faults).toEqual([]);
      expect(chain.isUpToDate).toBe(true);
      await cutAndAdvance(chain);
    }
    await vi.advanceTimersByTimeAsync(1);
    expect(watches.size).toBe(0);
    expect(log.listenerCount).toBe(0);
    return chains;
  }

  async function cutAndAdvance(chain: Chain): Promise<void> {
    const cut = chain.cut();
    await vi.advanceTimersByTimeAsync(0);
    await cut;
  }

  async function take(step: Step, log: TroubledLog, chains: readonly Chain[]): Promise<void> {
    switch (step.do) {
      case "append":
        for (let i = 0; i < step.times; i++) {
          log.hints.push(step.hint);
          log.append(USERS[(step.user + (step.times === 3 ? i : 0)) % USERS.length] ?? "");
        }
        return;
      case "wait":
        await vi.advanceTimersByTimeAsync(step.ms);
        return;
      case "read badly":
        log.reads = [...step.troubles];
        return;
      case "cut":
      case "resume": {
        const chain = chains[step.chain] as Chain;
        await cutAndAdvance(chain);
        if (step.do === "resume") chain.resume();
        return;
      }
      case "trim":
        return log.trim();
      case "fail over":
        return log.failOver();
      case "begin anew":
        // No read is under way for as long as that takes.
        await vi.advanceTimersByTimeAsync(200);
        return log.beginAnew();
    }
  }

  test("whatever hints, reads and connections do, each event comes once and in order", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(...harmless), { maxLength: 40 }), async (steps) => {
        const chains = await run(steps);
        // As long as the log keeps its events there is no excuse.
        expect(chains.map(({ resets }) => resets)).toEqual([0, 0, 0, 0]);
      }),
      { numRuns: 150 },
    );
  });

  test("what a store loses is told by a reset, and never passed over", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof({ arbitrary: harmful, weight: 1 }, ...harmless), { maxLength: 40 }),
        async (steps) => void (await run(steps)),
      ),
      { numRuns: 150 },
    );
  });

  /** A log, and watches of it. */
  function setUp(limits: Partial<WatchLimits> = {}) {
    const log = new TroubledLog();
    return { log, watches: new SessionWatches(log, limits) };
  }

  /** Ends watchers while the time stands still, as it does for these tests. */
  async function stop(...watchers: readonly Watcher[]): Promise<void> {
    for (const watcher of watchers) expect(String(await watcher.stop())).toContain("by the test");
    await vi.advanceTimersByTimeAsync(1);
  }

  test("an event is told at once, with whatever else happened at the moment", async () => {
    const { log, watches } = setUp();
    const watcher = new Watcher(watches);
    await vi.advanceTimersByTimeAsync(700);
    const before = watcher.messages.length;
    log.append("ann");
    log.append("bob");
    await vi.advanceTimersByTimeAsync(10);
    expect(watcher.messages.slice(before)).toMatchObject([
      { kind: "events", events: [{ sessionId: "ann" }, { sessionId: "bob" }] },
    ]);
    await stop(watcher);
  });

  test("checkpoints come at least every second, whether or not anything happens", async () => {
    const { log, watches } = setUp();
    const timesMs: number[] = [];
    const watcher = new Watcher(watches, {}, ({ kind }) => {
      if (kind === "checkpoint") timesMs.push(Date.now());
    });
    await vi.advanceTimersByTimeAsync(5_000);
    for (let i = 0; i < 500; i++) {
      log.append("ann");
      await vi.advanceTimersByTimeAsync(10);
    }
    expect(timesMs.length).toBeGreaterThan(10);
    for (const [i, timeMs] of timesMs.slice(1).entries()) {
      expect(timeMs - (timesMs[i] ?? 0)).toBeLessThan(A_SECOND_MS);
    }
    await stop(watcher);
  });

  test("while the store cannot be read, watchers stay, and no checkpoint vouches for anything", async () => {
    const { log, watches } = setUp();
    const watcher = new Watcher(watches);
    await vi.advanceTimersByTimeAsync(100);
    const before = watcher.messages.length;
    log.reads = Array.from({ length: 1_000 }, () => "fails");
    await vi.advanceTimersByTimeAsync(3_000);
    log.append("ann");
    await vi.advanceTimersByTimeAsync(3_000);
    expect(watcher.messages.slice(before)).toEqual([]);
    log.reads = [];
    await vi.advanceTimersByTimeAsync(200);
    expect(watcher.kinds.slice(before)).toEqual(["events", "checkpoint"]);
    await stop(watcher);
  });

  test("all watchers share one reader, which reads once at a time and rests without them", async () => {
    const { log, watches } = setUp();
    const watchers = Array.from({ length: 50 }, () => new Watcher(watches));
    await vi.advanceTimersByTimeAsync(1_000);
    log.readCount = 0;
    log.mostReadsAtOnce = 0;
    log.reads = Array.from({ length: 20 }, () => "slow");
    for (let i = 0; i < 100; i++) {
      log.append(USERS[i % USERS.length] ?? "");
      await vi.advanceTimersByTimeAsync(10);
    }
    await vi.advanceTimersByTimeAsync(1_000);
    expect(log.mostReadsAtOnce).toBe(1);
    expect(log.readCount).toBeLessThan(100);
    for (const watcher of watchers) expect(watcher.events).toHaveLength(100);
    await stop(...watchers);
    expect(log.listenerCount).toBe(0);
    log.readCount = 0;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(log.readCount).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("a watch of one user reads that user's lane only, and goes on past the others in it", async () => {
    const { log, watches } = setUp();
    // These two share a lane.
    expect(laneOf("ann")).toBe(laneOf("dee"));
    const lanes = new Set<number>();
    const read = vi.spyOn(log, "read");
    const watcher = new Watcher(watches, { userId: "ann" });
    await vi.advanceTimersByTimeAsync(100);
    const before = watcher.resumeToken;
    for (const userId of USERS) log.append(userId);
    await vi.advanceTimersByTimeAsync(A_SECOND_MS);
    log.append("dee");
    await vi.advanceTimersByTimeAsync(A_SECOND_MS);
    expect(watcher.events.map(({ userId }) => userId)).toEqual(["ann"]);
    for (const [cursor] of read.mock.calls) for (const lane of cursor.keys()) lanes.add(lane);
    expect([...lanes]).toEqual([laneOf("ann")]);
    expect(watcher.resumeToken).not.toBe(before);
    await stop(watcher);

    // Were the place before the others' events, this would be a loss.
    log.trim();
    const resumeToken = watcher.resumeToken ?? "";
    const resumed = new Watcher(watches, { userId: "ann", resumeToken });
    await vi.advanceTimersByTimeAsync(100);
    expect(resumed.kinds).not.toContain("reset");
    await stop(resumed);
  });

  test("what happens faster than one read can bring is still told at once", async () => {
    const { log, watches } = setUp();
    const watcher = new Watcher(watches, { userId: "ann" });
    await vi.advanceTimersByTimeAsync(700);
    for (let i = 0; i < 3_000; i++) log.append("ann");
    await vi.advanceTimersByTimeAsync(50);
    expect(watcher.events).toHaveLength(3_000);
    await stop(watcher);
  });

  test("a lane that nobody watches any more is not read any more", async () => {
    const { log, watches } = setUp();
    const all = new Watcher(watches);
    const one = new Watcher(watches, { userId: "bob" });
    await vi.advanceTimersByTimeAsync(100);
    await stop(all);
    await vi.advanceTimersByTimeAsync(A_SECOND_MS);
    const read = vi.spyOn(log, "read");
    for (const userId of USERS) log.append(userId);
    await vi.advanceTimersByTimeAsync(A_SECOND_MS);
    const lanes = new Set(read.mock.calls.flatMap(([cursor]) => [...cursor.keys()]));
    expect([...lanes]).toEqual([laneOf("bob")]);
    await stop(one);
  });

  test("a read that began before a watch vouches for nothing to it", async () => {
    const { log, watches } = setUp();
    const first = new Watcher(watches, { userId: "ann" });
    await vi.advanceTimersByTimeAsync(100);
    log.reads = ["slow to look"];
    await vi.advanceTimersByTimeAsync(405);
    expect(log.readsUnderWay).toBe(1);
    const second = new Watcher(watches, { userId: "bob" });
    await vi.advanceTimersByTimeAsync(10);
    log.hints = ["never"];
    log.append("bob");
    await vi.advanceTimersByTimeAsync(40);
    expect(log.readsUnderWay).toBe(0);
    expect(second.kinds).toEqual(["checkpoint"]);
    await stop(first, second);
  });

  test("a long way to catch up is told in parts, each with a token of its own", async () => {
    const { log, watches } = setUp();
    const first = new Watcher(watches);
    await vi.advanceTimersByTimeAsync(100);
    await stop(first);
    for (let i = 0; i < 5_000; i++) log.append(USERS[i % USERS.length] ?? "");
    const { resumeToken } = first;
    const whole = new Watcher(watches, { resumeToken });
    await vi.advanceTimersByTimeAsync(100);
    expect(whole.events).toHaveLength(5_000);
    const parts = whole.messages.filter(({ kind }) => kind === "events");
    expect(parts.length).toBeGreaterThanOrEqual(10);
    let seen = 0;
    for (const part of parts) {
      seen += part.kind === "events" ? part.events.length : 0;
      expect(part.kind === "events" && part.events.length).toBeLessThanOrEqual(500);
      const rest = new Watcher(watches, { resumeToken: part.resumeToken });
      await vi.advanceTimersByTimeAsync(100);
      expect(rest.events).toHaveLength(5_000 - seen);
      await stop(rest);
    }
    await stop(whole);
  });

  test("a token of another store is answered with a reset, from which the watch goes on", async () => {
    const { log, watches } = setUp();
    const place = { source: 0, epoch: 0, sequence: 5, timeMs: Date.now() };
    const resumeToken = formatResumeToken(undefined, new Map([[0, place]]));
    log.append("ann");
    const watcher = new Watcher(watches, { resumeToken });
    await vi.advanceTimersByTimeAsync(10);
    log.append("bob");
    await vi.advanceTimersByTimeAsync(10);
    expect(watcher.messages[0]).toMatchObject({
      kind: "reset",
      reason: "the resume_token is of another store",
    });
    expect(watcher.events.map(({ userId }) => userId)).toEqual(["bob"]);
    await stop(watcher);
  });

  test("a token of a watch of another user, or no token at all, is refused", async () => {
    const { log, watches } = setUp();
    const token = formatResumeToken("ann", await log.end("ann"));
    for (const request of [
      { userId: "bob", resumeToken: token },
      { resumeToken: token },
      { userId: "ann", resumeToken: `${token}A` },
      { resumeToken: "" },
    ]) {
      expect(await new Watcher(watches, request).ended).toMatchObject({
        reason: "INVALID_ARGUMENT",
        metadata: { field: "resume_token" },
      });
    }
    expect(watches.size).toBe(0);
  });

  test("a watcher that is too slow is cut, loses nothing by it, and holds nobody up", async () => {
    const { log, watches } = setUp({ maxQueuedEvents: 1_000 });
    const held = Promise.withResolvers<void>();
    const slow = new Watcher(watches, {}, ({ kind }) =>
      kind === "events" ? held.promise : undefined,
    );
    const quick = new Watcher(watches);
    await vi.advanceTimersByTimeAsync(100);
    for (let i = 0; i < 1_001; i++) {
      log.append("ann");
      if (i % 100 === 0) await vi.advanceTimersByTimeAsync(10);
    }
    await vi.advanceTimersByTimeAsync(100);
    expect(quick.events).toHaveLength(1_001);
    // The one message that it has not finished with, and 1000 events that wait.
    log.append("ann");
    await vi.advanceTimersByTimeAsync(100);
    held.resolve();
    expect(await slow.ended).toMatchObject({ reason: "OVERLOADED" });
    const resumed = new Watcher(watches, { resumeToken: slow.resumeToken });
    await vi.advanceTimersByTimeAsync(100);
    const versions = [...slow.events, ...resumed.events].map(({ version }) => version);
    expect(versions).toEqual(Array.from({ length: 1_002 }, (_, i) => i + 1));
    await stop(quick, resumed);
  });

  test("a watcher that is slow while nothing happens is not cut, however long that takes", async () => {
    const { watches } = setUp({ maxQueuedEvents: 10 });
    const held = Promise.withResolvers<void>();
    const slow = new Watcher(watches, {}, () => held.promise);
    await vi.advanceTimersByTimeAsync(3_600_000);
    held.resolve();
    await vi.advanceTimersByTimeAsync(1);
    // Of the thousands of checkpoints that it missed it needs but the last.
    expect(slow.messages.length).toBeLessThanOrEqual(3);
    await stop(slow);
  });

  test("there are at most as many watches as a server bears, and one that ends makes room", async () => {
    const { watches } = setUp({ maxWatches: 2 });
    const [first, second] = [new Watcher(watches), new Watcher(watches, { userId: "ann" })];
    await vi.advanceTimersByTimeAsync(10);
    expect(await new Watcher(watches).ended).toMatchObject({ reason: "OVERLOADED" });
    await stop(first);
    const third = new Watcher(watches);
    await vi.advanceTimersByTimeAsync(10);
    expect(third.kinds).toContain("checkpoint");
    await stop(second, third);
  });

  test("an aborted watch ends at once, also one that waits for the store or for its consumer", async () => {
    const { log, watches } = setUp();
    log.reads = Array.from({ length: 10 }, () => "slow");
    const waiting = new Watcher(watches);
    const never = new Promise<void>(() => {});
    const busy = new Watcher(watches, {}, () => never);
    await vi.advanceTimersByTimeAsync(0);
    expect(watches.size).toBe(2);
    expect(String(await waiting.stop())).toContain("stopped by the test");
    await vi.advanceTimersByTimeAsync(100);
    expect(busy.messages).toHaveLength(1);
    void busy.stop();
    expect(watches.size).toBe(0);
    await vi.advanceTimersByTimeAsync(A_SECOND_MS);
    expect(log.listenerCount).toBe(0);

    const aborted = watches.watch({ signal: AbortSignal.abort(new Error("before it began")) });
    await expect(aborted.next()).rejects.toThrow("before it began");
  });

  test("a store that cannot be read at the start fails the watch", async () => {
    const { log, watches } = setUp();
    // The tail's, and the watch's own.
    log.reads = ["fails", "fails"];
    const watcher = new Watcher(watches);
    await vi.advanceTimersByTimeAsync(10);
    expect(await watcher.ended).toMatchObject({ reason: "STORE_UNAVAILABLE" });
    expect(watches.size).toBe(0);
    await vi.advanceTimersByTimeAsync(A_SECOND_MS);
    expect(log.listenerCount).toBe(0);
  });

  test("a fault of the log's own is told to all watchers, and not tried for ever", async () => {
    const { log, watches } = setUp();
    const watcher = new Watcher(watches);
    await vi.advanceTimersByTimeAsync(100);
    vi.spyOn(log, "read").mockRejectedValueOnce(new TypeError("a fault"));
    await vi.advanceTimersByTimeAsync(A_SECOND_MS);
    expect(await watcher.ended).toBeInstanceOf(TypeError);
    expect(log.listenerCount).toBe(0);
  });
});
