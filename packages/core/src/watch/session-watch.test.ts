import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Places } from "../places.js";
import { formatResumeToken } from "./resume-token.js";
import { SessionWatches, type WatchOptions, type WatchSessions } from "./session-watch.js";
import {
  Chain,
  type Hint,
  laneOf,
  type Trouble,
  TroubledLog,
  USERS,
  Watcher,
} from "./troubled-log.test.fixture.js";

/** Longer than a checkpoint may take to come. */
const A_SECOND_MS = 1_000;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Lets time pass. */
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

const harmless = [
  fc.record({
    do: fc.constant("append" as const),
    user: fc.nat({ max: USERS.length - 1 }),
    hint: fc.constantFrom<Hint>("once", "once", "twice", "never"),
    times: fc.constantFrom(1, 1, 1, 3, 700),
  }),
  fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(0, 1, 5, 20, 100, 600) }),
  fc.record({
    do: fc.constant("read badly" as const),
    troubles: fc.array(fc.constantFrom<Trouble>("none", "slow", "slow to look", "fails"), {
      maxLength: 6,
    }),
  }),
  fc.record({
    do: fc.constantFrom("cut" as const, "resume" as const),
    chain: fc.nat({ max: 3 }),
  }),
] as const;
const harmful = fc.record({
  do: fc.constantFrom("trim" as const, "fail over" as const, "begin anew" as const),
});
type Drawn<A> = A extends fc.Arbitrary<infer T> ? T : never;
type Step = Drawn<(typeof harmless)[number] | typeof harmful>;

/** Lets chains of watches live through the steps, and then come to rest. */
async function run(steps: readonly Step[]): Promise<readonly Chain[]> {
  const log = new TroubledLog();
  const watches = new SessionWatches(log);
  const chains = [undefined, undefined, "ann", "bob"].map((u) => new Chain(log, watches, u));
  for (const chain of chains) chain.resume();
  await pass(100);
  for (const step of steps) await take(step, log, chains);
  log.reads = [];
  for (const chain of chains) {
    await cutAndAdvance(chain);
    chain.resume();
  }
  for (let waited = 0; waited < 20 && !chains.every((c) => c.isUpToDate); waited++) {
    await pass(100);
  }
  await pass(A_SECOND_MS);
  for (const chain of chains) {
    expect(chain.faults).toEqual([]);
    expect(chain.isUpToDate).toBe(true);
    await cutAndAdvance(chain);
  }
  await pass(1);
  expect(watches.size).toBe(0);
  expect(log.listenerCount).toBe(0);
  return chains;
}

async function cutAndAdvance(chain: Chain): Promise<void> {
  const cut = chain.cut();
  await pass(0);
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
      await pass(step.ms);
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
      await pass(200);
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

/** A log, watches of it, and a watcher for each request, some time after they began. */
async function setUp(
  { limits = {}, restMs = 100 }: { limits?: Partial<WatchOptions>; restMs?: number } = {},
  ...requests: readonly WatchSessions[]
) {
  const log = new TroubledLog();
  const watches = new SessionWatches(log, limits);
  const watchers = requests.map((request) => new Watcher(watches, request));
  await pass(restMs);
  return { log, watches, watchers, watcher: watchers[0] as Watcher };
}

/** Ends watchers while the time stands still, as it does for these tests. */
async function stop(...watchers: readonly Watcher[]): Promise<void> {
  for (const watcher of watchers) expect(String(await watcher.stop())).toContain("by the test");
  await pass(1);
}

/** Starts a watch where another one was. */
async function resume(watches: SessionWatches, request: WatchSessions): Promise<Watcher> {
  const resumed = new Watcher(watches, request);
  await pass(100);
  return resumed;
}

test("an event is told at once, with others of the moment, and faster than one read can bring", async () => {
  const { log, watcher } = await setUp({ restMs: 700 }, {});
  const before = watcher.messages.length;
  log.append("ann");
  log.append("bob");
  await pass(10);
  expect(watcher.messages.slice(before)).toMatchObject([
    { kind: "events", events: [{ sessionId: "ann" }, { sessionId: "bob" }] },
  ]);
  for (let i = 0; i < 3_000; i++) log.append("ann");
  await pass(50);
  expect(watcher.events).toHaveLength(3_002);
  await stop(watcher);
});

test("checkpoints come at least every second, whether or not anything happens", async () => {
  const { log, watches } = await setUp();
  const timesMs: number[] = [];
  const watcher = new Watcher(watches, {}, ({ kind }) => {
    if (kind === "checkpoint") timesMs.push(Date.now());
  });
  await pass(5_000);
  for (let i = 0; i < 500; i++) {
    log.append("ann");
    await pass(10);
  }
  expect(timesMs.length).toBeGreaterThan(10);
  for (const [i, timeMs] of timesMs.slice(1).entries()) {
    expect(timeMs - (timesMs[i] ?? 0)).toBeLessThan(A_SECOND_MS);
  }
  await stop(watcher);
});

test("while the store cannot be read, watchers stay, and no checkpoint vouches for anything", async () => {
  const { log, watcher } = await setUp({}, {});
  const before = watcher.messages.length;
  log.reads = Array.from({ length: 1_000 }, () => "fails");
  await pass(3_000);
  log.append("ann");
  await pass(3_000);
  expect(watcher.messages.slice(before)).toEqual([]);
  log.reads = [];
  await pass(200);
  expect(watcher.kinds.slice(before)).toEqual(["events", "checkpoint"]);
  await stop(watcher);
});

test("all watchers share one reader, which reads once at a time and rests without them", async () => {
  const requests = Array.from({ length: 50 }, () => ({}));
  const { log, watchers } = await setUp({ restMs: 1_000 }, ...requests);
  log.readCount = 0;
  log.mostReadsAtOnce = 0;
  log.reads = Array.from({ length: 20 }, () => "slow");
  for (let i = 0; i < 100; i++) {
    log.append(USERS[i % USERS.length] ?? "");
    await pass(10);
  }
  await pass(1_000);
  expect(log.mostReadsAtOnce).toBe(1);
  expect(log.readCount).toBeLessThan(100);
  for (const watcher of watchers) expect(watcher.events).toHaveLength(100);
  await stop(...watchers);
  expect(log.listenerCount).toBe(0);
  log.readCount = 0;
  await pass(5_000);
  expect(log.readCount).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
});

test("a watch of one user reads that user's lane only, and goes on past the others in it", async () => {
  // These two share a lane.
  expect(laneOf("ann")).toBe(laneOf("dee"));
  const { log, watches, watchers } = await setUp({}, {}, { userId: "ann" });
  const [all, watcher] = watchers as [Watcher, Watcher];
  const before = watcher.resumeToken;
  await stop(all);
  await pass(A_SECOND_MS);
  const read = vi.spyOn(log, "read");
  for (const userId of [...USERS, "dee"]) {
    log.append(userId);
    await pass(A_SECOND_MS);
  }
  expect(watcher.events.map(({ userId }) => userId)).toEqual(["ann"]);
  const lanes = new Set(read.mock.calls.flatMap(([cursor]) => [...cursor.keys()]));
  expect([...lanes]).toEqual([laneOf("ann")]);
  expect(watcher.resumeToken).not.toBe(before);
  await stop(watcher);

  // Were its position before the others' events, this would be a loss.
  log.trim();
  const resumed = await resume(watches, { userId: "ann", resumeToken: watcher.resumeToken });
  expect(resumed.kinds).not.toContain("reset");
  await stop(resumed);
});

test("a read that began before a watch vouches for nothing to it", async () => {
  const { log, watches, watcher } = await setUp({}, { userId: "ann" });
  log.reads = ["slow to look"];
  await pass(405);
  expect(log.readsUnderWay).toBe(1);
  const second = new Watcher(watches, { userId: "bob" });
  await pass(10);
  log.hints = ["never"];
  log.append("bob");
  await pass(40);
  expect(log.readsUnderWay).toBe(0);
  expect(second.kinds).toEqual(["checkpoint"]);
  await stop(watcher, second);
});

test("a long way to catch up is told in parts, each with a token of its own", async () => {
  const { log, watches, watcher } = await setUp({}, {});
  await stop(watcher);
  for (let i = 0; i < 5_000; i++) log.append(USERS[i % USERS.length] ?? "");
  const whole = await resume(watches, { resumeToken: watcher.resumeToken });
  expect(whole.events).toHaveLength(5_000);
  const parts = whole.messages.filter((message) => message.kind === "events");
  expect(parts.length).toBeGreaterThanOrEqual(10);
  let seen = 0;
  for (const { events, resumeToken } of parts) {
    seen += events.length;
    expect(events.length).toBeLessThanOrEqual(500);
    const rest = await resume(watches, { resumeToken });
    expect(rest.events).toHaveLength(5_000 - seen);
    await stop(rest);
  }
  await stop(whole);
});

test("a token of another store is answered with a reset, from which the watch goes on", async () => {
  const { log, watches } = await setUp();
  const position = { source: 0, epoch: 0, sequence: 5, timeMs: Date.now() };
  const resumeToken = formatResumeToken({ userId: undefined }, new Map([[0, position]]));
  log.append("ann");
  const watcher = await resume(watches, { resumeToken });
  log.append("bob");
  await pass(10);
  const reason = "the resume_token is of another store";
  expect(watcher.messages[0]).toMatchObject({ kind: "reset", reason });
  expect(watcher.events.map(({ userId }) => userId)).toEqual(["bob"]);
  await stop(watcher);
});

test("a watcher that is too slow is cut, loses nothing by it, and holds nobody up", async () => {
  const { log, watches } = await setUp({ limits: { maxQueuedEvents: 1_000 } });
  const held = Promise.withResolvers<void>();
  const slow = new Watcher(watches, {}, ({ kind }) =>
    kind === "events" ? held.promise : undefined,
  );
  const quick = await resume(watches, {});
  for (let i = 0; i < 1_001; i++) {
    log.append("ann");
    if (i % 100 === 0) await pass(10);
  }
  await pass(100);
  expect(quick.events).toHaveLength(1_001);
  // The one message that it has not finished with, and 1000 events that wait.
  log.append("ann");
  await pass(100);
  held.resolve();
  expect(await slow.ended).toMatchObject({ reason: "OVERLOADED" });
  const resumed = await resume(watches, { resumeToken: slow.resumeToken });
  const versions = [...slow.events, ...resumed.events].map(({ version }) => version);
  expect(versions).toEqual(Array.from({ length: 1_002 }, (_, i) => i + 1));
  await stop(quick, resumed);
});

test("a watcher that is slow while nothing happens is not cut, however long that takes", async () => {
  const { watches } = await setUp({ limits: { maxQueuedEvents: 10 } });
  const held = Promise.withResolvers<void>();
  const slow = new Watcher(watches, {}, () => held.promise);
  await pass(3_600_000);
  held.resolve();
  await pass(1);
  // Of the thousands of checkpoints that it missed it needs but the last.
  expect(slow.messages.length).toBeLessThanOrEqual(3);
  await stop(slow);
});

test("there are at most as many watches as a server bears, and one that ends makes room", async () => {
  const limits = { places: new Places(2) };
  const { watches, watchers } = await setUp({ limits }, {}, { userId: "ann" });
  const [first, second] = watchers as [Watcher, Watcher];
  expect(await new Watcher(watches).ended).toMatchObject({ reason: "OVERLOADED" });
  await stop(first);
  const third = await resume(watches, {});
  expect(third.kinds).toContain("checkpoint");
  await stop(second, third);
});

test("an aborted watch ends at once, also one that waits for the store or for its consumer", async () => {
  const { log, watches } = await setUp();
  log.reads = Array.from({ length: 10 }, () => "slow");
  const waiting = new Watcher(watches);
  const busy = new Watcher(watches, {}, () => new Promise<void>(() => {}));
  await pass(0);
  expect(watches.size).toBe(2);
  expect(String(await waiting.stop())).toContain("stopped by the test");
  await pass(100);
  expect(busy.messages).toHaveLength(1);
  void busy.stop();
  expect(watches.size).toBe(0);
  await pass(A_SECOND_MS);
  expect(log.listenerCount).toBe(0);

  const aborted = watches.watch({ signal: AbortSignal.abort(new Error("before it began")) });
  await expect(aborted.next()).rejects.toThrow("before it began");
});

test("a store that cannot be read at the start fails the watch, a fault of the log all watches", async () => {
  const { log, watches } = await setUp();
  // One read of the tail, and one of the watch.
  log.reads = ["fails", "fails"];
  const watcher = await resume(watches, {});
  expect(await watcher.ended).toMatchObject({ reason: "STORE_UNAVAILABLE" });
  expect(watches.size).toBe(0);
  await pass(A_SECOND_MS);
  expect(log.listenerCount).toBe(0);

  const next = await resume(watches, {});
  vi.spyOn(log, "read").mockRejectedValueOnce(new TypeError("a fault"));
  await pass(A_SECOND_MS);
  expect(await next.ended).toBeInstanceOf(TypeError);
  expect(log.listenerCount).toBe(0);
});
