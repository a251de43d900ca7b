import { setImmediate } from "node:timers/promises";
import type {
  RateLimitState,
  RateLimitStore,
  RateLimitWindow,
} from "../../rate-limits/rate-limit-store.js";
import type {
  OpenedRateLimitStore,
  OpenRateLimitStore,
} from "../contract/rate-limits/rate-limit-store-check.js";

/** A store that breaks a promise of the contract on purpose. */
export interface BrokenRateLimitStore {
  /** What it does wrong: "a store that …". */
  readonly fault: string;
  /** The titles of the checks that must see it; others may as well. */
  readonly caughtBy: readonly string[];
  /** Opens it on top of a correct store. */
  readonly open: (openCorrect: OpenRateLimitStore) => OpenRateLimitStore;
}

const UP_TO = "attempts are allowed up to the limit, and told what remains";
const UNTIL = "an attempt counts until just before its window is over, and no more from then on";
const SLIDES = "room comes back attempt by attempt, never all at once";
const COSTS = "an attempt takes as much room as it costs";
const SAME_MOMENT = "attempts of the same moment count each";
const KEYS = "keys have nothing to do with each other, however much alike they are";
const SHARED = "what one server counts, all do";
const AT_ONCE = "of any number of attempts at once, as many are allowed as the limit says";
const ASKING = "asking says what an attempt would be answered, and counts nothing";
const RESETTING = "resetting forgets a key at once, and no other";
const EVERY_WINDOW = "every window must have room, and the one that leaves least is told of";
const LONGEST = "of windows that leave the same, the longest is told of";
const WAITED = "an attempt is allowed once it has waited as long as it was told, and not before";
const CHANGED =
  "windows may change: a lower limit holds at once, and a higher one makes room at once";
const NO_ROOM = "refused attempts take no room";
const STAYS_OUT = "where refused attempts count, whoever goes on trying stays out";
const AFTER_ITSELF = "a refused attempt that counts is told how long to wait after itself";
const BOUNDED = "what a key takes is bounded by the limit, however often it is tried";
const LEFT = "what has left all windows is not kept";
const GONE = "a key is gone by itself once nothing of it counts";
const NOT_GONE = "what counts still is not gone, whatever else is";
const SET_BACK = "a clock that is set back makes no room";
const SET_BACK_STRETCH = "a clock that is set back brings no stretch about that has too many";
const REFUSED_KEEPS =
  "an attempt that does not count forgets nothing, since the clock may be set back";
const HISTORY =
  "whatever attempts come when, no stretch has too many and none is refused that has room";

/** What a broken store is made of. */
interface Correct {
  readonly store: RateLimitStore;
  readonly now: () => number;
}

function broken(
  fault: string,
  caughtBy: readonly string[],
  differ: (correct: Correct) => Partial<RateLimitStore>,
  differOpened: (opened: OpenedRateLimitStore) => Partial<OpenedRateLimitStore> = () => ({}),
): BrokenRateLimitStore {
  const wrap = (store: RateLimitStore, now: () => number): RateLimitStore => ({
    check: (...args) => store.check(...args),
    get: (...args) => store.get(...args),
    reset: (key) => store.reset(key),
    ...differ({ store, now }),
  });
  return {
    fault,
    caughtBy,
    open: (openCorrect) => async (options) => {
      const opened = await openCorrect(options);
      return {
        store: wrap(opened.store, options.now),
        peer: wrap(opened.peer ?? opened.store, options.now),
        entries: () => opened.entries(),
        reclaim: async () => opened.reclaim?.(),
        dispose: () => opened.dispose(),
        ...differOpened(opened),
      };
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

/** Does what is right and answers something else. */
function answering(
  fault: string,
  caughtBy: readonly string[],
  differ: (state: RateLimitState, windows: readonly RateLimitWindow[]) => Partial<RateLimitState>,
): BrokenRateLimitStore {
  const patch = (state: RateLimitState, windows: readonly RateLimitWindow[]) => ({
    ...state,
    ...differ(state, windows),
  });
  return broken(fault, caughtBy, ({ store }) => ({
    check: async (key, windows, attempt) =>
      patch(await store.check(key, windows, attempt), windows),
    get: async (key, windows, cost) => patch(await store.get(key, windows, cost), windows),
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

/** How many stores there have been that count by themselves. */
let loners = 0;

/** Stores that each break one promise, and the checks that must see it. */
export const brokenRateLimitStores: readonly BrokenRateLimitStore[] = [
  seeing("allows one too many", [UP_TO, UNTIL, COSTS, SAME_MOMENT, AT_ONCE, HISTORY], (windows) =>
    windows.map((window) => ({ ...window, limit: window.limit + 1 })),
  ),
  seeing("allows one too few", [UP_TO, SHARED, AT_ONCE, HISTORY], (windows) =>
    windows.map((window) => ({ ...window, limit: Math.max(1, window.limit - 1) })),
  ),
  seeing("forgets a millisecond early", [UP_TO, UNTIL, SLIDES, HISTORY], (windows) =>
    windows.map((window) => ({ ...window, windowMs: window.windowMs - 1 })),
  ),
  seeing("forgets a millisecond late", [UP_TO, UNTIL, HISTORY], (windows) =>
    windows.map((window) => ({ ...window, windowMs: window.windowMs + 1 })),
  ),
  seeing("heeds the first window alone", [EVERY_WINDOW, HISTORY], (windows) => windows.slice(0, 1)),
  renaming("counts by the minute on the clock", [SLIDES, WAITED, HISTORY], ({ now }) => {
    const startMs = now();
    return (key) => `${key} in minute ${Math.floor((now() - startMs) / 60_000)}`;
  }),
  broken("counts every attempt as one", [COSTS, HISTORY], ({ store }) => ({
    check: (key, windows, attempt) => store.check(key, windows, { ...attempt, cost: 1 }),
  })),
  broken("takes attempts of one moment for one", [SAME_MOMENT, UP_TO], ({ store, now }) => {
    const lastMs = new Map<string, number>();
    return {
      async check(key, windows, attempt) {
        if (lastMs.get(key) === now()) return store.get(key, windows, attempt.cost);
        lastMs.set(key, now());
        return store.check(key, windows, attempt);
      },
    };
  }),
  renaming("takes one key for another", [KEYS], () => (key) => key.toLowerCase()[0] ?? ""),
  renaming("counts for itself", [SHARED, AT_ONCE, HISTORY], () => {
    const loner = loners++;
    return (key) => `${key} at ${loner}`;
  }),
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
  broken("counts those who only ask", [ASKING, HISTORY], ({ store }) => ({
    get: (key, windows, cost) => store.check(key, windows, { cost, countRefused: false }),
  })),
  broken("does not forget when it is told to", [RESETTING], () => ({
    reset: async () => {},
  })),
  broken("forgets everything when it is told to forget a key", [RESETTING], ({ store }) => {
    const keys = new Set<string>();
    return {
      check(key, windows, attempt) {
        keys.add(key);
        return store.check(key, windows, attempt);
      },
      async reset() {
        for (const key of keys) await store.reset(key);
      },
    };
  }),
  broken("goes by the limits of the first attempt", [CHANGED], ({ store }) => {
    const first = new Map<string, readonly RateLimitWindow[]>();
    return {
      check(key, windows, attempt) {
        if (!first.has(key)) first.set(key, windows);
        return store.check(key, first.get(key) ?? windows, attempt);
      },
    };
  }),
  broken("counts refused attempts always", [NO_ROOM, COSTS, HISTORY], ({ store }) => ({
    check: (key, windows, attempt) => store.check(key, windows, { ...attempt, countRefused: true }),
  })),
  broken("counts refused attempts never", [STAYS_OUT, AFTER_ITSELF, HISTORY], ({ store }) => ({
    check: (key, windows, attempt) =>
      store.check(key, windows, { ...attempt, countRefused: false }),
  })),
  broken(
    "tells a refused attempt how long to wait before it",
    [AFTER_ITSELF, HISTORY],
    (correct) => {
      const { store } = correct;
      return {
        async check(key, windows, attempt) {
          const { retryAfterMs } = await store.get(key, windows, attempt.cost);
          return { ...(await store.check(key, windows, attempt)), retryAfterMs };
        },
      };
    },
  ),
  answering("lets wait a millisecond too long", [UP_TO, WAITED, HISTORY], ({ retryAfterMs }) => ({
    retryAfterMs: retryAfterMs === 0 ? 0 : retryAfterMs + 1,
  })),
  answering("lets wait a millisecond too short", [UP_TO, WAITED, HISTORY], ({ retryAfterMs }) => ({
    retryAfterMs: Math.max(0, retryAfterMs - 1),
  })),
  answering("says that all is left", [UP_TO, ASKING, HISTORY], ({ window }) => ({
    remaining: window.limit,
  })),
  answering("tells of the first window", [EVERY_WINDOW, LONGEST, HISTORY], (state, windows) => ({
    window: windows[0] ?? state.window,
  })),
  broken(
    "keeps every attempt that is refused",
    [BOUNDED],
    ...keeping(({ isAllowed }) => !isAllowed),
  ),
  broken("keeps every attempt", [BOUNDED, LEFT, GONE], ...keeping(() => true)),
  broken(
    "forgets what counts still when it reclaims",
    [NOT_GONE],
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
    [REFUSED_KEEPS],
    ({ store, now }) => {
      const refusedMs = new Map<string, number>();
      return {
        async check(key, windows, attempt) {
          // What an attempt did not see that was refused later by the clock is gone.
          const behindMs = Math.max(0, (refusedMs.get(key) ?? 0) - now());
          const left = windows.map(({ limit, windowMs }) => {
            return { limit, windowMs: Math.max(1, windowMs - behindMs) };
          });
          const state = await store.check(key, left, attempt);
          if (!state.isAllowed && !attempt.countRefused) refusedMs.set(key, now());
          return state;
        },
      };
    },
  ),
  renaming(
    "begins anew when the clock is set back",
    [SET_BACK, SET_BACK_STRETCH, HISTORY],
    (correct) => {
      let latestMs = 0;
      let times = 0;
      return (key) => {
        if (correct.now() < latestMs) times++;
        latestMs = correct.now();
        return `${key} ${times}`;
      };
    },
  ),
];

/** Lets attempts, once made, count among those that are kept for ever. */
function keeping(isKept: (state: RateLimitState) => boolean) {
  let kept = 0;
  const differ = ({ store }: Correct): Partial<RateLimitStore> => ({
    async check(key, windows, attempt) {
      const state = await store.check(key, windows, attempt);
      if (isKept(state)) kept++;
      return state;
    },
  });
  const differOpened = (opened: OpenedRateLimitStore) => ({
    entries: async () => (await opened.entries()) + kept,
  });
  return [differ, differOpened] as const;
}
