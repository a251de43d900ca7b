import assert from "node:assert/strict";
import fc from "fast-check";
import type { RateLimitState, RateLimitWindow } from "../../../rate-limits/rate-limit-store.js";
import type { RateLimitStoreChecks, RateLimitStoreContext } from "./rate-limit-store-check.js";

const RUNS = 60;
const MAX_STEPS = 40;
/** Longer than a run takes in real time, to which a store may leave forgetting. */
const SHORTEST_WINDOW_MS = 60_000;

/** One attempt, and how long after the one before it by the clock; negative where it was set back. */
interface Step {
  readonly afterMs: number;
  readonly cost: number;
  readonly byPeer: boolean;
}

interface Scenario {
  readonly windows: readonly RateLimitWindow[];
  readonly countRefused: boolean;
  readonly steps: readonly Step[];
}

/** An attempt that was made. */
interface Made {
  /** By the key's own time, which does not go back. */
  readonly timeMs: number;
  readonly cost: number;
  readonly isAllowed: boolean;
}

/** Few different times and lengths, so that attempts meet the edges of windows. */
const scenarios: fc.Arbitrary<Scenario> = fc
  .uniqueArray(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 3 })
  .chain((lengths) =>
    fc.record({
      windows: fc
        .array(fc.integer({ min: 2, max: 7 }), {
          minLength: lengths.length,
          maxLength: lengths.length,
        })
        .map((limits) =>
          lengths.map((length, i) => ({
            limit: limits[i] ?? 2,
            windowMs: SHORTEST_WINDOW_MS * 2 ** length,
          })),
        ),
      countRefused: fc.boolean(),
      steps: fc.array(
        fc.record({
          afterMs: fc.oneof(
            { weight: 4, arbitrary: fc.constantFrom(0, 1, 15_000, 29_999, 30_000, 60_000) },
            { weight: 3, arbitrary: fc.integer({ min: 0, max: 2 * SHORTEST_WINDOW_MS }) },
            { weight: 1, arbitrary: fc.integer({ min: -90_000, max: 0 }) },
          ),
          cost: fc.integer({ min: 1, max: 3 }),
          byPeer: fc.boolean(),
        }),
        { maxLength: MAX_STEPS },
      ),
    }),
  )
  .map(({ windows, steps, ...rest }) => {
    const least = Math.min(...windows.map(({ limit }) => limit));
    const affordable = steps.map((step) => ({ ...step, cost: Math.min(step.cost, least) }));
    return { ...rest, windows, steps: affordable };
  });

/** The cost of what counts at a time: of the stretch that ends there, its beginning left out. */
function usedAt(counted: readonly Made[], timeMs: number, windowMs: number): number {
  return counted
    .filter((made) => made.timeMs > timeMs - windowMs && made.timeMs <= timeMs)
    .reduce((sum, { cost }) => sum + cost, 0);
}

function hasRoom(
  counted: readonly Made[],
  timeMs: number,
  cost: number,
  windows: readonly RateLimitWindow[],
): boolean {
  return windows.every(({ limit, windowMs }) => usedAt(counted, timeMs, windowMs) + cost <= limit);
}

/** What the answer must be, by nothing but a look at all that was counted before. */
function expectedState(
  counted: readonly Made[],
  made: Made,
  clockMs: number,
  windows: readonly RateLimitWindow[],
): RateLimitState {
  const { timeMs, cost, isAllowed } = made;
  const standings = windows.map((window) => {
    const used = usedAt(counted, timeMs, window.windowMs);
    const newestMs = Math.max(...counted.map((one) => one.timeMs));
    const resetTimeMs = used > 0 ? newestMs + window.windowMs : clockMs;
    return { window, remaining: Math.max(0, window.limit - used), resetTimeMs };
  });
  const [tightest] = standings.sort(
    (a, b) => a.remaining - b.remaining || b.window.windowMs - a.window.windowMs,
  );
  assert.ok(tightest);
  // Room can only come at a time when something leaves a window.
  const leavings = counted
    .flatMap((one) => windows.map(({ windowMs }) => one.timeMs + windowMs))
    .filter((leavingMs) => leavingMs > timeMs && hasRoom(counted, leavingMs, cost, windows));
  return { ...tightest, isAllowed, retryAfterMs: isAllowed ? 0 : Math.min(...leavings) - clockMs };
}

/** Throws where a stretch as long as a window has too much, or an attempt was refused that had room. */
function judge(history: readonly Made[], { windows, countRefused }: Scenario): void {
  const allowed = history.filter(({ isAllowed }) => isAllowed);
  for (const { timeMs } of allowed) {
    for (const { limit, windowMs } of windows) {
      const used = usedAt(allowed, timeMs, windowMs);
      assert.ok(used <= limit, `${used} instead of ${limit} in ${windowMs} ms until ${timeMs}`);
    }
  }
  for (const [i, { timeMs, cost, isAllowed }] of history.entries()) {
    if (isAllowed) continue;
    const before = history.slice(0, i).filter((made) => countRefused || made.isAllowed);
    assert.ok(!hasRoom(before, timeMs, cost, windows), `refused with room at ${timeMs}`);
  }
}

async function play(
  { store, peer, clock }: RateLimitStoreContext,
  key: string,
  scenario: Scenario,
): Promise<void> {
  const { windows, countRefused, steps } = scenario;
  const history: Made[] = [];
  let passedMs = 0;
  let keyTimeMs = 0;
  for (const { afterMs, cost, byPeer } of steps) {
    const moveMs = Math.max(afterMs, -passedMs);
    passedMs += moveMs;
    if (moveMs < 0) clock.stepBack(-moveMs);
    else clock.advance(moveMs);
    const counted = history.filter((made) => countRefused || made.isAllowed);
    // Only what counts holds the key's time; until then it is the clock's.
    keyTimeMs = Math.max(clock.now(), counted.at(-1)?.timeMs ?? 0);
    const server = byPeer ? peer : store;
    const asked = await server.get(key, windows, cost);
    const answer = await server.check(key, windows, { cost, countRefused });
    const made = { timeMs: keyTimeMs, cost, isAllowed: answer.isAllowed };
    assert.deepEqual(asked, expectedState(counted, made, clock.now(), windows), "what get says");
    const countedNow = made.isAllowed || countRefused ? [...counted, made] : counted;
    const expected = expectedState(countedNow, made, clock.now(), windows);
    assert.deepEqual(answer, expected, "what check says");
    history.push(made);
  }
  judge(history, scenario);
}

/** Random attempts, and a judge who knows nothing of how they were counted. */
export const rateLimitHistoryChecks: RateLimitStoreChecks = {
  "whatever comes when, no stretch has too many, and none waits too long or short": async (t) => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(scenarios, (scenario) => play(t, `run-${run++}`, scenario)),
      { numRuns: RUNS },
    );
  },
};
