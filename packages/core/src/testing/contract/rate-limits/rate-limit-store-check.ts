import type { RateLimitStore } from "../../../rate-limits/rate-limit-store.js";
import type { Check, Checks } from "../checks.js";
import { FakeClock } from "../fake-clock.js";

/** A store under test. */
export interface OpenedRateLimitStore {
  readonly store: RateLimitStore;
  /** A second store on the same data, as another server would have one. */
  readonly peer?: RateLimitStore;
  /** How many attempts are kept, of all keys. */
  entries(): Promise<number>;
  /** Removes what counts no more, where time alone does not. */
  reclaim?(): Promise<unknown>;
  /** Closes the stores and clears away what opening made. */
  dispose(): Promise<void>;
}

/** Opens a fresh, empty store that goes by the given clock, in ms since the Unix epoch. */
export type OpenRateLimitStore = (options: {
  readonly now: () => number;
}) => Promise<OpenedRateLimitStore>;

/** What a check works with. */
export interface RateLimitStoreContext {
  readonly store: RateLimitStore;
  /** Another server's store on the same data; the same store where there can be no other. */
  readonly peer: RateLimitStore;
  readonly clock: FakeClock;
  readonly entries: () => Promise<number>;
  readonly reclaim: () => Promise<unknown>;
}

/** One promise of the store contract. */
export type RateLimitStoreCheck = Check<RateLimitStoreContext>;
export type RateLimitStoreChecks = Checks<RateLimitStoreContext>;

/** Runs one check on a store of its own. Rejects where the store breaks the promise. */
export async function runRateLimitStoreCheck(
  check: RateLimitStoreCheck,
  open: OpenRateLimitStore,
): Promise<void> {
  const clock = new FakeClock();
  const opened = await open({ now: clock.now });
  try {
    await check.run({
      store: opened.store,
      peer: opened.peer ?? opened.store,
      clock,
      entries: () => opened.entries(),
      reclaim: async () => opened.reclaim?.(),
    });
  } finally {
    await opened.dispose();
  }
}
