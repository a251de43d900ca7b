import type {
  NewSession,
  SessionLimit,
  SessionStore,
  StoredSession,
} from "../../sessions/session-store.js";
import type { EventLog } from "../../watch/session-event.js";
import { EVERYTHING, listAll } from "../contract/sessions/fixtures.js";
import type {
  OpenedSessionStore,
  OpenSessionStore,
  OpenSessionStoreOptions,
} from "../contract/sessions/session-store-check.js";

/** A store that breaks a promise of the contract on purpose. */
export interface BrokenSessionStore {
  /** What it does wrong: "a store that …". */
  readonly fault: string;
  /** The titles of the checks that must see it; others may as well. */
  readonly caughtBy: readonly string[];
  /** Opens it on top of a correct store. */
  readonly open: (openCorrect: OpenSessionStore) => OpenSessionStore;
}

/** What a broken store is made of. */
export interface CorrectSessionStore extends OpenSessionStoreOptions {
  readonly store: SessionStore;
  /** Makes a call at another time: this much later, or earlier. */
  readonly shifted: <T>(shiftMs: number, call: () => Promise<T>) => Promise<T>;
  /** All sessions there are, ended ones too, in the order of creation. */
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
      let shiftMs = 0;
      const opened = await openCorrect({ ...options, now: () => options.now() + shiftMs });
      const shifted = async <T>(byMs: number, call: () => Promise<T>) => {
        shiftMs = byMs;
        try {
          return await call();
        } finally {
          shiftMs = 0;
        }
      };
      const wrap = (how: Differ) => (store: SessionStore) =>
        overriding(store, how({ ...options, store, shifted, ...lookups(store) }));
      if (differPeer === undefined) return withStores(opened, wrap(differ));
      const peer = wrap(differPeer)(opened.peer ?? opened.store);
      return { ...opened, store: wrap(differ)(opened.store), peer };
    },
  };
}

function withStores(
  opened: OpenedSessionStore,
  wrap: (store: SessionStore) => SessionStore,
): OpenedSessionStore {
  return {
    ...opened,
    store: wrap(opened.store),
    ...(opened.peer && { peer: wrap(opened.peer) }),
  };
}

function lookups(store: SessionStore): Pick<CorrectSessionStore, "everything" | "activeOf"> {
  return {
    everything: () => listAll(store, EVERYTHING),
    activeOf: (userId) =>
      listAll(store, { userId, showExpired: false, showRevoked: false, order: "asc" }),
  };
}

/** A store that answers by its own methods where it has them, and by another store's otherwise. */
function overriding(store: SessionStore, own: Partial<SessionStore>): SessionStore {
  return new Proxy(store, {
    get(target, name) {
      const method: unknown = Reflect.get(own, name) ?? Reflect.get(target, name);
      return typeof method === "function" && !(name in own) ? method.bind(target) : method;
    },
  });
}

/** An event log that answers by its own methods where it has them. */
export function overridingLog(log: EventLog, own: Partial<EventLog>): EventLog {
  return {
    end: (userId) => log.end(userId),
    read: (cursor, limit) => log.read(cursor, limit),
    subscribe: (listener) => log.subscribe(listener),
    ...own,
  };
}

/** A limit that lets everything pass. */
export const UNLIMITED: SessionLimit = { maxSessionsPerUser: 1_000_000, policy: "reject" };

/** The session that creating `session` now would answer, in a store that does not keep it. */
export function pretended(session: NewSession, nowMs: number): StoredSession {
  const { key, userId, record, tokenHash, idleTimeoutMs, lifetimeMs } = session;
  return {
    id: key.id,
    userId,
    record,
    tokenHash,
    idleTimeoutMs,
    createTimeMs: nowMs,
    authenticateTimeMs: nowMs,
    lastAccessTimeMs: nowMs,
    expireTimeMs: nowMs + Math.min(idleTimeoutMs, lifetimeMs),
    absoluteExpireTimeMs: nowMs + lifetimeMs,
    version: 1,
    readTimeMs: nowMs,
  };
}
