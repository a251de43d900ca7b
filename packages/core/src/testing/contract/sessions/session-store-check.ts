import type { SessionStore } from "../../../sessions/session-store.js";
import type { Check, Checks } from "../checks.js";
import { FakeClock } from "../fake-clock.js";

/** What a store under test is opened with. */
export interface OpenSessionStoreOptions {
  /** The clock the store must go by, in milliseconds since the Unix epoch. */
  readonly now: () => number;
  readonly retentionMs: number;
}

/** A store under test. */
export interface OpenedSessionStore {
  readonly store: SessionStore;
  /** A second store on the same data, as another server would have one. */
  readonly peer?: SessionStore;
  /** How many keys or rows the store keeps in all. Checked to be none once all is swept. */
  leftovers?(): Promise<number>;
  /**
   * How long in real time it may take until what is left of a request is reclaimed, once it is
   * no longer recognised. 15 s by default, which leaves a store room for a margin.
   */
  readonly requestReclaimMs?: number;
  /** Clears away what opening made. Called once the stores are closed. */
  dispose?(): Promise<void>;
}

/** Opens a fresh, empty store. */
export type OpenSessionStore = (options: OpenSessionStoreOptions) => Promise<OpenedSessionStore>;

/** What a check works with. */
export interface SessionStoreContext {
  readonly store: SessionStore;
  /** Another server's store on the same data; the same store where there can be no other. */
  readonly peer: SessionStore;
  readonly clock: FakeClock;
  readonly retentionMs: number;
  readonly leftovers: (() => Promise<number>) | undefined;
  readonly requestReclaimMs: number;
  /** Opens one more empty store, with a clock of its own; closed with the first at the latest. */
  readonly openAnother: () => Promise<SessionStoreContext>;
  /** Closes the store and clears it away before the check ends; for checks that open many. */
  readonly close: () => Promise<void>;
}

/** One promise of the store contract. */
export type SessionStoreCheck = Check<SessionStoreContext>;
export type SessionStoreChecks = Checks<SessionStoreContext>;

/** As in production, and longer than any check takes: Redis TTLs run on real time. */
const RETENTION_MS = 600_000;
const DEFAULT_REQUEST_RECLAIM_MS = 15_000;

/** Runs one check on a store of its own. Rejects where the store breaks the promise. */
export async function runSessionStoreCheck(
  check: SessionStoreCheck,
  open: OpenSessionStore,
): Promise<void> {
  const openedStores = new Set<OpenedSessionStore>();
  const openContext = async (): Promise<SessionStoreContext> => {
    const clock = new FakeClock();
    const opened = await open({ now: clock.now, retentionMs: RETENTION_MS });
    openedStores.add(opened);
    return {
      store: opened.store,
      peer: opened.peer ?? opened.store,
      clock,
      retentionMs: RETENTION_MS,
      leftovers: opened.leftovers?.bind(opened),
      requestReclaimMs: opened.requestReclaimMs ?? DEFAULT_REQUEST_RECLAIM_MS,
      openAnother: openContext,
      close: async () => {
        if (openedStores.delete(opened)) await closeOpened(opened);
      },
    };
  };
  try {
    await check.run(await openContext());
  } finally {
    await Promise.all([...openedStores].map(closeOpened));
  }
}

async function closeOpened({ store, peer, dispose }: OpenedSessionStore): Promise<void> {
  await Promise.all([store.close(), peer?.close()]);
  await dispose?.();
}
