import type { SessionStore, StoredSession } from "../../sessions/session-store.js";
import type { EventLog } from "../../watch/session-event.js";
import { ACTIVE, EVERYTHING, listAll } from "../contract/sessions/fixtures.js";
import type {
  OpenSessionStore,
  OpenSessionStoreOptions,
} from "../contract/sessions/session-store-check.js";
import { type BrokenStore, overriding, type Shifted, shiftable } from "./broken-store.js";

export type BrokenSessionStore = BrokenStore<OpenSessionStore>;

/** What a broken store is made of. */
export interface CorrectSessionStore extends OpenSessionStoreOptions {
  readonly store: SessionStore;
  readonly shifted: Shifted;
  /** All sessions, ended ones too, in the order of creation. */
  readonly everything: () => Promise<readonly StoredSession[]>;
  /** The active sessions of a user, in the order of creation. */
  readonly activeOf: (userId: string) => Promise<readonly StoredSession[]>;
}

/** The methods in which a broken store differs from a correct one. */
export type Differ = (correct: CorrectSessionStore) => Partial<SessionStore>;

/**
 * Describes a broken store by the methods in which it differs from a correct one. With
 * `differPeer` there is a peer beside it, which differs in its own way.
 */
export function broken(
  fault: string,
  caughtBy: readonly string[],
  differ: Differ,
  differPeer?: Differ,
): BrokenSessionStore {
  return {
    fault,
    caughtBy,
    open: (openCorrect) => async (options) => {
      const { now, shifted } = shiftable(options.now);
      const opened = await openCorrect({ ...options, now });
      const wrap = (how: Differ, store: SessionStore) => {
        const everything = () => listAll(store, EVERYTHING);
        const activeOf = (userId: string) => listAll(store, { ...ACTIVE, userId });
        return overriding(store, how({ ...options, store, shifted, everything, activeOf }));
      };
      return {
        ...opened,
        store: wrap(differ, opened.store),
        ...(differPeer && { peer: wrap(differPeer, opened.peer ?? opened.store) }),
      };
    },
  };
}

/** Describes a broken store by the methods in which its log of events differs. */
export function logging(
  fault: string,
  caughtBy: readonly string[],
  differ: (log: EventLog, correct: CorrectSessionStore) => Partial<EventLog>,
): BrokenSessionStore {
  return broken(fault, caughtBy, (correct) => {
    const log = correct.store.events;
    return { events: overriding(log, differ(log, correct)) };
  });
}

/** Describes a broken store by how the sessions that it lists differ. */
export function listing(
  fault: string,
  caughtBy: readonly string[],
  different: (sessions: readonly StoredSession[]) => readonly StoredSession[],
): BrokenSessionStore {
  return broken(fault, caughtBy, ({ store }) => ({
    async list(query) {
      const page = await store.list(query);
      return { ...page, sessions: different(page.sessions) };
    },
  }));
}
