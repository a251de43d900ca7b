import { setImmediate } from "node:timers/promises";
import type { RateLimitStore, RateLimitWindow } from "../../rate-limits/rate-limit-store.js";
import type {
  OpenedRateLimitStore,
  OpenRateLimitStore,
} from "../contract/rate-limits/rate-limit-store-check.js";
import { type BrokenStore, overriding } from "./broken-store.js";

type BrokenRateLimitStore = BrokenStore<OpenRateLimitStore>;

const UP_TO = "attempts are allowed up to the limit, and told what remains";
const COSTS = "attempts of the same moment count each, as much as they cost";
const AT_ONCE = "of attempts at once, through any server, as many are allowed as the limit says";
const GONE = "a key is gone by itself once nothing of it counts, and not before";
const HISTORY = "whatever comes when, no stretch has too many, and none waits too long or short";

/** What a broken store is made of. */
interface Correct {
  readonly store: RateLimitStore;
  readonly now: () => number;
}

/** Describes a broken store by the methods in which it differs from a correct one. */
function broken(
  fault: string,
  caughtBy: readonly string[],
  differ: (correct: Correct) => Partial<RateLimitStore>,
  differOpened: (opened: OpenedRateLimitStore) => Partial<OpenedRateLimitStore> = () => ({}),
): BrokenRateLimitStore {
  return {
    fault,
    caughtBy,
    open:
      (openCorrect) =>
      async ({ now }) => {
        const opened = await openCorrect({ now });
        const wrap = (store: RateLimitStore) => overriding(store, differ({ store, now }));
        const peer = wrap(opened.peer ?? opened.store);
        return { ...opened, store: wrap(opened.store), peer, ...differOpened(opened) };
      },
  };
}

/** Goes by other windows than it is given. */
function seeing(
  fault: string,
  caughtBy: readonly string[],
  differ: (windows: readonly RateLimitWindow[]) => readonly RateLimitWindow[],
): BrokenRateLimitStore {
  return broken(fault, caughtBy, ({ store }) => ({
    check: (key, windows, attempt) => store.check(key, differ(windows), attempt),
    get: (key, windows, cost) => store.get(key, differ(windows), cost),
  }));
}

/** Takes a key for another. */
function renaming(
  fault: string,
  caughtBy: readonly string[],
  rename: (correct: Correct) => (key: string) => string,
): BrokenRateLimitStore {
  return broken(fault, caughtBy, (correct) => {
    const { store } = correct;
    const name = rename(correct);
    return {
      check: (key, windows, attempt) => store.check(name(key), windows, attempt),
      get: (key, windows, cost) => store.get(name(key), windows, cost),
      reset: (key) => store.reset(name(key)),
    };
  });
}

/** Counts refused attempts as it likes. */
function counting(
  fault: string,
  caughtBy: readonly string[],
  countRefused: boolean,
): BrokenRateLimitStore {
  return broken(fault, caughtBy, ({ store }) => ({
    check: (key, windows, attempt) => store.check(key, windows, { ...attempt, countRefused }),
  }));
}

/** Stores that each break one promise, and the checks that must see it. */
export const brokenRateLimitStores: readonly BrokenRateLimitStore[] = [
  seeing("allows one too many", [UP_TO, COSTS, AT_ONCE, HISTORY], (windows) =>
    windows.map((window) => ({ ...window, limit: window.limit + 1 })),
  ),
  seeing(
    "forgets a millisecond early",
    [
      UP_TO,
      "an attempt counts until just before its window is over, each attempt by itself",
      HISTORY,
    ],
    (windows) => windows.map((window) => ({ ...window, windowMs: window.windowMs - 1 })),
  ),
  seeing(
    "heeds the first window alone",
    ["every window must have room, and the one with least is told of, or the longest", HISTORY],
    (windows) => windows.slice(0, 1),
  ),
  renaming(
    "takes one key for another",
    ["keys have nothing to do with each other, however much alike they are"],
    () => (key) => key.toLowerCase()[0] ?? "",
  ),
  broken(
    "has one namespace for all",
    ["attempts with the same key count apart in each namespace"],
    ({ store }) => ({ namespace: () => store }),
  ),
  broken("asks in one step and counts in another", [AT_ONCE], ({ store }) => ({
    async check(key, windows, attempt) {
      const state = await store.get(key, windows, attempt.cost);
      await setImmediate();
      if (!state.isAllowed) return state;
      const endless = windows.map((window) => ({ ...window, limit: 10_000 }));
      await store.check(key, endless, attempt);
      return { ...state, remaining: state.remaining - attempt.cost };
    },
  })),
  broken(
    "counts those who only ask",
    ["asking says what an attempt would be answered, and counts nothing", HISTORY],
    ({ store }) => ({
      get: (key, windows, cost) => store.check(key, windows, { cost, countRefused: false }),
    }),
  ),
  broken(
    "does not forget when it is told to",
    ["resetting forgets a key at once, and no other"],
    () => ({ reset: async () => {} }),
  ),
  broken(
    "goes by the limits of the first attempt",
    ["windows may change: a lower limit holds, and a higher one makes room, at once"],
    ({ store }) => {
      let first: readonly RateLimitWindow[] | undefined;
      return {
        check(key, windows, attempt) {
          first ??= windows;
          return store.check(key, first, attempt);
        },
      };
    },
  ),
  counting("counts refused attempts always", [COSTS, HISTORY], true),
  counting(
    "counts refused attempts never",
    ["refused attempts that count keep a caller out, and say for how long", HISTORY],
    false,
  ),
  broken("lets wait a millisecond too short", [UP_TO, HISTORY], ({ store }) => ({
    async check(...args) {
      const state = await store.check(...args);
      return { ...state, retryAfterMs: Math.max(0, state.retryAfterMs - 1) };
    },
  })),
  broken(
    "keeps every attempt",
    ["a key takes no more than its limit, nor what has left all windows", GONE],
    () => ({}),
    ({ entries }) => ({ entries: async () => (await entries()) + 100 }),
  ),
  broken(
    "forgets what counts still when it reclaims",
    [GONE],
    () => ({}),
    ({ store, reclaim }) => ({
      async reclaim() {
        await store.reset("ann");
        return reclaim?.();
      },
    }),
  ),
  broken(
    "forgets what has left all windows also where an attempt does not count",
    ["an attempt that does not count forgets nothing, since the clock may be set back"],
    ({ store, now }) => {
      let refusedMs = 0;
      return {
        async check(key, windows, attempt) {
          // An attempt that was refused later by the clock has forgotten what it did not see.
          const behindMs = Math.max(0, refusedMs - now());
          const left = windows.map(({ limit, windowMs }) => {
            return { limit, windowMs: Math.max(1, windowMs - behindMs) };
          });
          const state = await store.check(key, left, attempt);
          if (!state.isAllowed && !attempt.countRefused) refusedMs = now();
          return state;
        },
      };
    },
  ),
  renaming(
    "begins from zero when the clock is set back",
    ["a clock that is set back makes no room, and no stretch that has too many", HISTORY],
    ({ now }) => {
      let latestMs = 0;
      let times = 0;
      return (key) => {
        if (now() < latestMs) times++;
        latestMs = now();
        return `${key} ${times}`;
      };
    },
  ),
];
