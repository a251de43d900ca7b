import type { LockStore } from "../../../locks/lock-store.js";
import type { Check, Checks } from "../checks.js";
import { FakeClock } from "../fake-clock.js";

/** A store under test. */
export interface OpenedLockStore {
  readonly store: LockStore;
  /** A second store on the same data, as another server would have one. */
  readonly peer?: LockStore;
  /** Closes the stores and clears away what opening made. */
  dispose(): Promise<void>;
}

/** Opens a fresh, empty store that goes by the given clock, in ms since the Unix epoch. */
export type OpenLockStore = (options: { readonly now: () => number }) => Promise<OpenedLockStore>;

/** What a check works with. */
export interface LockStoreContext {
  readonly store: LockStore;
  /** Another server's store on the same data; the same store where there can be no other. */
  readonly peer: LockStore;
  readonly clock: FakeClock;
  /** Opens one more empty store, with a clock of its own; closed with the first. */
  readonly openAnother: () => Promise<LockStoreContext>;
}

/** One promise of the store contract. */
export type LockStoreCheck = Check<LockStoreContext>;
export type LockStoreChecks = Checks<LockStoreContext>;

/** Runs one check on a store of its own. Rejects where the store breaks the promise. */
export async function runLockStoreCheck(check: LockStoreCheck, open: OpenLockStore): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const openContext = async (): Promise<LockStoreContext> => {
    const clock = new FakeClock();
    const { store, peer = store, dispose } = await open({ now: clock.now });
    opened.defer(dispose);
    return { store, peer, clock, openAnother: openContext };
  };
  await check.run(await openContext());
}
