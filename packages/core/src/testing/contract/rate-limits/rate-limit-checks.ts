import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type {
  RateLimitAttempt,
  RateLimitStore,
  RateLimitWindow,
} from "../../../rate-limits/rate-limit-store.js";
import { listChecks } from "../checks.js";
import { rateLimitHistoryChecks } from "./rate-limit-history-checks.js";
import type { RateLimitStoreCheck, RateLimitStoreChecks } from "./rate-limit-store-check.js";

/** Longer than any check takes: what a store leaves to real time must not run out meanwhile. */
const MINUTE_MS = 60_000;
const ONE: RateLimitAttempt = { cost: 1, countRefused: false };
const ONE_OF_ALL: RateLimitAttempt = { cost: 1, countRefused: true };
const THREE_A_MINUTE: RateLimitWindow = { limit: 3, windowMs: MINUTE_MS };
const THREE_AN_HOUR: RateLimitWindow = { limit: 3, windowMs: 60 * MINUTE_MS };

/** How many of `count` attempts, one after the other, are allowed. */
async function allowedOf(
  store: RateLimitStore,
  key: string,
  windows: readonly RateLimitWindow[],
  count: number,
  attempt: RateLimitAttempt = ONE,
): Promise<number> {
  let allowed = 0;
  for (let i = 0; i < count; i++) {
    if ((await store.check(key, windows, attempt)).isAllowed) allowed++;
  }
  return allowed;
}

const countingChecks: RateLimitStoreChecks = {
  "attempts are allowed up to the limit, and told what remains": async ({ store, clock }) => {
    const windows = [THREE_A_MINUTE];
    const state = { window: THREE_A_MINUTE, resetTimeMs: clock.now() + MINUTE_MS };
    for (const remaining of [2, 1, 0]) {
      const allowed = { ...state, isAllowed: true, remaining, retryAfterMs: 0 };
      assert.deepEqual(await store.check("ann", windows, ONE), allowed);
    }
    const refused = { ...state, isAllowed: false, remaining: 0, retryAfterMs: MINUTE_MS };
    assert.deepEqual(await store.check("ann", windows, ONE), refused);
  },
  "an attempt counts until just before its window is over, each attempt by itself": async (t) => {
    const { store, clock } = t;
    const windows = [THREE_A_MINUTE];
    for (let i = 0; i < 3; i++) {
      assert.equal(await allowedOf(store, "ann", windows, 1), 1);
      clock.advance(10_000);
    }
    clock.advance(MINUTE_MS - 30_001);
    for (const [afterMs, allowed] of [
      [0, 0],
      [1, 1],
      [10_000, 1],
      [10_000, 1],
      [MINUTE_MS - 20_001, 0],
      [1, 1],
    ] as const) {
      clock.advance(afterMs);
      assert.equal(await allowedOf(store, "ann", windows, 2), allowed);
    }
  },
  "attempts of the same moment count each, as much as they cost": async ({ store }) => {
    const windows = [{ limit: 10, windowMs: MINUTE_MS }];
    const answers = [];
    for (const cost of [4, 5, 2, 1, 1]) {
      const { isAllowed, remaining } = await store.check("ann", windows, { ...ONE, cost });
      answers.push(`${isAllowed} ${remaining}`);
    }
    assert.deepEqual(answers, ["true 6", "true 1", "false 1", "true 0", "false 0"]);
    const many = [{ limit: 150, windowMs: MINUTE_MS }];
    assert.equal(await allowedOf(store, "bob", many, 160), 150);
  },
  "keys have nothing to do with each other, however much alike they are": async ({ store }) => {
    for (const key of ["a", "A", "a:b", "a:b:c", "{a}", "a b", "ä", "é", "a*"]) {
      assert.equal(await allowedOf(store, key, [THREE_A_MINUTE], 4), 3, key);
    }
  },
  "of attempts at once, through any server, as many are allowed as the limit says": async (t) => {
    const { store, peer } = t;
    const windows = [{ limit: 40, windowMs: MINUTE_MS }];
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) => (i % 2 ? store : peer).check("ann", windows, ONE)),
    );
    const allowed = answers.filter(({ isAllowed }) => isAllowed);
    assert.equal(allowed.length, 40);
    const remaining = allowed.map((answer) => answer.remaining).sort((a, b) => a - b);
    assert.deepEqual(remaining, [...Array(40).keys()], "each was told of a state of its own");
  },
  "asking says what an attempt would be answered, and counts nothing": async ({ store, clock }) => {
    const windows = [THREE_A_MINUTE];
    const allowed = { isAllowed: true, window: THREE_A_MINUTE, retryAfterMs: 0 };
    const untouched = { ...allowed, remaining: 3, resetTimeMs: clock.now() };
    assert.deepEqual(await store.get("ann", windows, 3), untouched);
    assert.deepEqual(await store.get("ann", windows, 3), untouched);
    await allowedOf(store, "ann", windows, 2);
    clock.advance(10_000);
    const retryAfterMs = MINUTE_MS - 10_000;
    const used = { ...allowed, remaining: 1, resetTimeMs: clock.now() + retryAfterMs };
    assert.deepEqual(await store.get("ann", windows, 1), used);
    const refused = { ...used, isAllowed: false, retryAfterMs };
    assert.deepEqual(await store.get("ann", windows, 2), refused);
  },
  "resetting forgets a key at once, and no other": async ({ store, peer }) => {
    await allowedOf(store, "ann", [THREE_A_MINUTE], 3);
    await allowedOf(store, "bob", [THREE_A_MINUTE], 3);
    await store.reset("ann");
    await store.reset("nobody");
    assert.equal(await allowedOf(peer, "ann", [THREE_A_MINUTE], 4), 3);
    assert.equal(await allowedOf(store, "bob", [THREE_A_MINUTE], 1), 0);
  },
};

const namespaceChecks: RateLimitStoreChecks = {
  "attempts with the same key count apart in each namespace": async ({ store, peer }) => {
    const names = ["", "shop", "shop-a", "ns"];
    for (const name of names) {
      assert.equal(await allowedOf(store.namespace(name), "ann", [THREE_A_MINUTE], 4), 3, name);
    }
    await peer.namespace("shop").reset("ann");
    for (const name of names) {
      const { isAllowed } = await peer.namespace(name).get("ann", [THREE_A_MINUTE], 1);
      assert.equal(isAllowed, name === "shop", name);
    }
    assert.throws(() => store.namespace("a:b"), Error);
  },
};

const windowChecks: RateLimitStoreChecks = {
  "every window must have room, and the one with least is told of, or the longest": async (t) => {
    const { store, clock } = t;
    const hour = { limit: 4, windowMs: 60 * MINUTE_MS };
    const windows = [THREE_A_MINUTE, hour];
    assert.deepEqual((await store.check("ann", windows, ONE)).window, THREE_A_MINUTE);
    assert.equal(await allowedOf(store, "ann", windows, 3), 2);
    clock.advance(MINUTE_MS);
    const last = await store.check("ann", windows, ONE);
    assert.deepEqual([last.isAllowed, last.window, last.remaining], [true, hour, 0]);
    assert.equal(last.resetTimeMs, clock.now() + hour.windowMs);
    const refused = await store.check("ann", windows, ONE);
    assert.deepEqual([refused.isAllowed, refused.window], [false, hour]);
    assert.equal(refused.retryAfterMs, hour.windowMs - MINUTE_MS);

    const alike = [THREE_A_MINUTE, THREE_AN_HOUR];
    for (const order of [alike, alike.toReversed()]) {
      await store.reset("bob");
      const answer = await store.check("bob", order, ONE);
      assert.deepEqual(answer.window, THREE_AN_HOUR);
      assert.equal(answer.resetTimeMs, clock.now() + THREE_AN_HOUR.windowMs);
    }
  },
  "windows may change: a lower limit holds, and a higher one makes room, at once": async (t) => {
    const { store } = t;
    assert.equal(await allowedOf(store, "ann", [THREE_A_MINUTE], 3), 3);
    const lower = await store.check("ann", [{ limit: 1, windowMs: MINUTE_MS }], ONE);
    assert.deepEqual([lower.isAllowed, lower.remaining], [false, 0]);
    assert.equal(lower.retryAfterMs, MINUTE_MS);
    const higher = await store.check("ann", [{ limit: 5, windowMs: MINUTE_MS }], ONE);
    assert.deepEqual([higher.isAllowed, higher.remaining], [true, 1]);
  },
};

const refusalChecks: RateLimitStoreChecks = {
  "refused attempts that count keep a caller out, and say for how long": async (t) => {
    const { store, clock } = t;
    const windows = [THREE_A_MINUTE];
    assert.equal(await allowedOf(store, "ann", windows, 3, ONE_OF_ALL), 3);
    for (let i = 0; i < 10; i++) {
      clock.advance(19_000);
      const answer = await store.check("ann", windows, ONE_OF_ALL);
      assert.equal(answer.isAllowed, false, `after ${i + 1} attempts`);
      assert.equal(answer.remaining, 0);
      assert.equal(answer.resetTimeMs, clock.now() + MINUTE_MS);
    }
    const { retryAfterMs } = await store.get("ann", windows, 1);
    assert.equal(retryAfterMs, MINUTE_MS - 2 * 19_000);
    clock.advance(retryAfterMs);
    assert.equal(await allowedOf(store, "ann", windows, 2, ONE_OF_ALL), 1);

    await store.check("bob", windows, ONE_OF_ALL);
    clock.advance(1_000);
    const refused = await store.check("bob", windows, { cost: 3, countRefused: true });
    assert.deepEqual([refused.isAllowed, refused.retryAfterMs], [false, MINUTE_MS]);
    clock.advance(MINUTE_MS - 1);
    assert.equal((await store.get("bob", windows, 3)).isAllowed, false);
    clock.advance(1);
    assert.equal((await store.get("bob", windows, 3)).isAllowed, true);
  },
};

const reclaimChecks: RateLimitStoreChecks = {
  "a key takes no more than its limit, nor what has left all windows": async (t) => {
    const { store, clock, entries } = t;
    const windows = [THREE_A_MINUTE, { limit: 5, windowMs: 60 * MINUTE_MS }];
    for (let i = 0; i < 50; i++) {
      await store.check("ann", windows, { cost: 1 + (i % 3), countRefused: i % 4 !== 0 });
      clock.advance(7_000);
      const kept = await entries();
      assert.ok(kept <= 5, `${kept} attempts are kept after ${i + 1}`);
    }
    await store.reset("ann");
    for (let i = 0; i < 20; i++) {
      await store.check("ann", [{ limit: 100, windowMs: MINUTE_MS }], ONE);
      clock.advance(MINUTE_MS / 4);
      assert.ok((await entries()) <= 4);
    }
    await store.reset("ann");
    assert.equal(await allowedOf(store, "ann", [THREE_AN_HOUR], 3), 3);
    clock.advance(MINUTE_MS);
    await store.check("ann", [THREE_A_MINUTE], ONE);
    assert.equal(await entries(), 1, "also where windows have become shorter");
  },
  "a key is gone by itself once nothing of it counts, and not before": async (t) => {
    const { store, clock, entries, reclaim } = t;
    assert.equal(await allowedOf(store, "ann", [THREE_AN_HOUR], 3), 3);
    await allowedOf(store, "bob", [THREE_A_MINUTE], 2);
    clock.advance(60 * MINUTE_MS - 1);
    await reclaim();
    assert.equal(await allowedOf(store, "ann", [THREE_AN_HOUR], 1), 0);
    assert.ok((await entries()) >= 3);
    await store.reset("ann");
    await store.reset("bob");

    const windows = [{ limit: 3, windowMs: 300 }];
    await allowedOf(store, "carol", windows, 2);
    await allowedOf(store, "dave", windows, 5, ONE_OF_ALL);
    clock.advance(300);
    // Real time as well, which is what a store may leave it to.
    const latestMs = performance.now() + 5_000;
    while ((await entries()) > 0 && performance.now() < latestMs) {
      await reclaim();
      await sleep(50);
    }
    assert.equal(await entries(), 0);
  },
};

const clockChecks: RateLimitStoreChecks = {
  "a clock that is set back makes no room, and no stretch that has too many": async (t) => {
    const { store, clock } = t;
    const windows = [THREE_A_MINUTE];
    clock.advance(10 * MINUTE_MS);
    assert.equal(await allowedOf(store, "ann", windows, 1), 1);
    clock.stepBack(5 * MINUTE_MS);
    assert.equal(await allowedOf(store, "ann", windows, 3), 2);
    const refused = await store.check("ann", windows, ONE);
    assert.equal(refused.retryAfterMs, 6 * MINUTE_MS);
    assert.equal(refused.resetTimeMs, clock.now() + 6 * MINUTE_MS);
    clock.advance(refused.retryAfterMs - 1);
    assert.equal(await allowedOf(store, "ann", windows, 1), 0);
    clock.advance(1);
    assert.equal(await allowedOf(store, "ann", windows, 4), 3);

    assert.equal(await allowedOf(store, "bob", windows, 3), 3);
    clock.advance(MINUTE_MS);
    assert.equal(await allowedOf(store, "bob", windows, 1), 1);
    clock.stepBack(MINUTE_MS / 2);
    // By the key's own time, none of these is within a minute of the first three.
    assert.equal(await allowedOf(store, "bob", windows, 1), 1);
    clock.advance(MINUTE_MS / 2 + MINUTE_MS - 1);
    assert.equal(await allowedOf(store, "bob", windows, 3), 1);
  },
  "an attempt that does not count forgets nothing, since the clock may be set back": async (t) => {
    const { store, clock } = t;
    const windows = [{ limit: 2, windowMs: MINUTE_MS }];
    assert.equal(await allowedOf(store, "ann", windows, 1), 1);
    clock.advance(MINUTE_MS / 2);
    assert.equal(await allowedOf(store, "ann", windows, 1), 1);
    clock.advance(MINUTE_MS / 2);
    // The first has left its window, but two more find no room beside the second.
    const refused = await store.check("ann", windows, { cost: 2, countRefused: false });
    assert.equal(refused.isAllowed, false);
    clock.stepBack(1);
    assert.equal(await allowedOf(store, "ann", windows, 1), 0);
  },
};

/** The contract of `RateLimitStore`, promise by promise. */
export const rateLimitStoreChecks: readonly RateLimitStoreCheck[] = listChecks(
  countingChecks,
  namespaceChecks,
  windowChecks,
  refusalChecks,
  reclaimChecks,
  clockChecks,
  rateLimitHistoryChecks,
);
