import type { HeldLock, LockStore, OccupiedLock } from "../../locks/lock-store.js";
import type { OpenLockStore } from "../contract/locks/lock-store-check.js";

/** A store that breaks a promise of the contract on purpose. */
export interface BrokenLockStore {
  /** What it does wrong: "a store that …". */
  readonly fault: string;
  /** The titles of the checks that must see it; others may as well. */
  readonly caughtBy: readonly string[];
  /** Opens it on top of a correct store. */
  readonly open: (openCorrect: OpenLockStore) => OpenLockStore;
}

/** The methods in which a broken store differs from a correct one; it has a state of its own. */
type Differ = (
  store: LockStore,
  clock: {
    readonly now: () => number;
    /** Makes a call this much later, or earlier. */
    readonly shifted: <T>(byMs: number, call: () => Promise<T>) => Promise<T>;
  },
) => Partial<LockStore>;

function broken(fault: string, caughtBy: readonly string[], differ: Differ): BrokenLockStore {
  return {
    fault,
    caughtBy,
    open: (openCorrect) => async (options) => {
      let shiftMs = 0;
      const now = () => options.now() + shiftMs;
      const opened = await openCorrect({ now });
      const shifted = async <T>(byMs: number, call: () => Promise<T>) => {
        shiftMs = byMs;
        try {
          return await call();
        } finally {
          shiftMs = 0;
        }
      };
      const wrap = (store: LockStore): LockStore => ({
        acquire: (...call) => store.acquire(...call),
        renew: (...call) => store.renew(...call),
        release: (...call) => store.release(...call),
        get: (...call) => store.get(...call),
        onRelease: (listener) => store.onRelease(listener),
        ...differ(store, { now: options.now, shifted }),
      });
      return {
        store: wrap(opened.store),
        peer: wrap(opened.peer ?? opened.store),
        dispose: () => opened.dispose(),
      };
    },
  };
}

/** Changes what an acquisition answers. */
function answering(
  change: (held: HeldLock, ttlMs: number) => HeldLock | OccupiedLock,
): (store: LockStore) => Partial<LockStore> {
  return (store) => ({
    acquire: async (name, lockId, ttlMs, queueForMs) => {
      const answer = await store.acquire(name, lockId, ttlMs, queueForMs);
      return "occupied" in answer ? answer : change(answer, ttlMs);
    },
  });
}

const FREE = "a free lock is given for as long as asked, by the store's clock";
const EDGE = "a lock is refused to others until just before its lease ends, and free from then on";
const AGAIN = "acquiring a lock again under the same lock id answers it as it is";
const RACE = "of those who race for a lock exactly one gets it";
const NAMES = "locks of different names are different locks, however alike the names are";
const HIGHER = "every acquisition has a higher token, also in the same millisecond";
const TIME = "a token is never below the time, so that one that was forgotten does no harm";
const SET_BACK = "tokens grow though the clock is set back";
const RENEW =
  "renewing lets the lease end one ttl from now, later or earlier, under the same token";
const RENEW_ENDED = "a lease that has ended is not renewed, whether or not another has the lock";
const RENEW_OTHER = "nobody but its holder renews a lock";
const RELEASE = "a lock that was given back is free at once, and given back once";
const RELEASE_OTHER = "nobody but its holder gives a lock back";
const WHO = "who asks for a lock learns whether it is held, and never by whom";
const HEAR = "listeners hear of a lock that is given back, until they stop";
const PEER_HEARS = "another server's listeners hear of it, too";
const KEPT = "a lock that is given back is kept for the one who has waited longest";
const KEPT_ENDED = "a lock whose lease has ended is kept for the one who has waited longest";
const NOT_LONG = "a lock is not kept for long for one who does not come, who has to wait anew";
const GIVEN_UP = "who gives up a place is waited for no more";
const LAPSED = "who does not ask again in time, or asks only once, has no place";
const MODEL = "through any sequence of calls and deadlines one at most has a lock, and tokens grow";

/** They prove that the suite catches what it should. */
export const brokenLockStores: readonly BrokenLockStore[] = [
  broken("ends a lease a millisecond early", [FREE], (store) => ({
    acquire: (name, lockId, ttlMs, queueForMs) =>
      store.acquire(name, lockId, ttlMs - 1, queueForMs),
  })),
  broken("holds on to a lock at the end of its lease", [EDGE, MODEL], (store, { shifted }) => ({
    acquire: (...call) => shifted(-1, () => store.acquire(...call)),
  })),
  broken("shows a lock that is free at the end of its lease", [EDGE], (store, { shifted }) => ({
    get: (...call) => shifted(-1, () => store.get(...call)),
  })),
  broken("refuses a lock to its holder, whose answer was lost", [AGAIN, MODEL], (store) => ({
    acquire: async (name, lockId, ttlMs, queueForMs) => {
      const held = await store.get(name);
      if (held === undefined) return store.acquire(name, lockId, ttlMs, queueForMs);
      const { expireTimeMs, readTimeMs } = held;
      return { occupied: true, expireTimeMs, readTimeMs };
    },
  })),
  broken("begins a new lease when its holder acquires it again", [AGAIN, MODEL], (store) => ({
    acquire: async (name, lockId, ttlMs, queueForMs) =>
      (await store.renew(name, lockId, ttlMs)) ?? store.acquire(name, lockId, ttlMs, queueForMs),
  })),
  broken("looks whether a lock is free, and takes it then", [RACE], (store) => ({
    acquire: async (name, lockId, ttlMs, queueForMs) => {
      const free = (await store.get(name)) === undefined;
      const answer = await store.acquire(name, lockId, ttlMs, queueForMs);
      if (!free || !("occupied" in answer)) return answer;
      const { readTimeMs } = answer;
      return { name, fencingToken: readTimeMs, expireTimeMs: readTimeMs + ttlMs, readTimeMs };
    },
  })),
  broken("takes names that differ in case for the same", [NAMES], (store) => ({
    acquire: (name, ...rest) => store.acquire(name.toLowerCase(), ...rest),
  })),
  broken("stops names at a brace", [NAMES], (store) => ({
    acquire: (name, ...rest) => store.acquire(name.split("}")[0] ?? "", ...rest),
  })),
  broken(
    "takes the time for the token",
    [HIGHER, SET_BACK, MODEL],
    answering((held, ttlMs) => ({ ...held, fencingToken: held.expireTimeMs - ttlMs })),
  ),
  broken("counts from one", [TIME, MODEL], (store) => {
    const tokens = new Map<number, number>();
    const counted = (held: HeldLock) => {
      const count = tokens.get(held.fencingToken) ?? tokens.size + 1;
      tokens.set(held.fencingToken, count);
      return { ...held, fencingToken: count };
    };
    return {
      ...answering(counted)(store),
      get: async (...call) => {
        const held = await store.get(...call);
        return held && counted(held);
      },
    };
  }),
  broken("renews for longer only", [RENEW, MODEL], (store) => ({
    renew: async (name, lockId, ttlMs) => {
      const held = await store.get(name, lockId);
      const leftMs = held ? held.expireTimeMs - held.readTimeMs : 0;
      return store.renew(name, lockId, Math.max(ttlMs, leftMs));
    },
  })),
  broken("gives a renewed lock another token", [RENEW], (store) => ({
    renew: async (...call) => {
      const held = await store.renew(...call);
      return held && { ...held, fencingToken: held.fencingToken + 1 };
    },
  })),
  broken("renews what has ended, if nobody has it", [RENEW_ENDED, MODEL], (store) => ({
    renew: async (name, lockId, ttlMs) => {
      const answer = await store.acquire(name, lockId, ttlMs);
      if ("occupied" in answer) return undefined;
      return store.renew(name, lockId, ttlMs);
    },
  })),
  broken("renews for anybody", [RENEW_OTHER, MODEL], (store) => ({
    renew: async (name, lockId, ttlMs) =>
      (await store.renew(name, lockId, ttlMs)) ?? store.get(name),
  })),
  broken(
    "says of a renewal at the end of the lease that it came in time",
    [RENEW_ENDED],
    (store, { shifted }) => ({
      renew: (...call) => shifted(-1, () => store.renew(...call)),
    }),
  ),
  broken("does not give back", [RELEASE, MODEL], (store) => ({
    release: async (name, lockId) => (await store.get(name, lockId)) !== undefined,
  })),
  broken("says twice that it gave back", [RELEASE, RELEASE_OTHER], (store) => ({
    release: async (...call) => {
      await store.release(...call);
      return true;
    },
  })),
  broken("says who has a lock", [WHO], (store) => {
    const holders = new Map<string, string>();
    return {
      acquire: async (name, lockId, ttlMs, queueForMs) => {
        holders.set(name, lockId);
        return store.acquire(name, lockId, ttlMs, queueForMs);
      },
      get: async (name, lockId) => {
        const held = await store.get(name, lockId);
        return held && { ...held, lockId: holders.get(name) };
      },
    };
  }),
  broken("answers a lock to whoever asks whether it is theirs", [WHO], (store) => ({
    get: (name) => store.get(name),
  })),
  broken("tells nobody", [HEAR, PEER_HEARS], () => ({ onRelease: () => () => {} })),
  broken("tells until the end those who stopped", [HEAR], (store) => ({
    onRelease: (listener) => {
      store.onRelease(listener);
      return () => {};
    },
  })),
  broken("keeps no places", [KEPT, KEPT_ENDED, NOT_LONG], (store) => ({
    acquire: (name, lockId, ttlMs) => store.acquire(name, lockId, ttlMs),
  })),
  broken("gives a new place to whoever asks again", [KEPT], (store) => ({
    acquire: async (name, lockId, ttlMs, queueForMs) => {
      const answer = await store.acquire(name, lockId, ttlMs, 0);
      if (!("occupied" in answer) || !queueForMs) return answer;
      if ((await store.get(name)) !== undefined) await store.release(name, lockId);
      return store.acquire(name, lockId, ttlMs, queueForMs);
    },
  })),
  broken("keeps a place for those who try once", [LAPSED], (store) => ({
    acquire: (name, lockId, ttlMs, queueForMs = 0) =>
      store.acquire(name, lockId, ttlMs, Math.max(queueForMs, 1_000_000)),
  })),
  broken("keeps the places of those who do not ask again", [LAPSED], (store) => ({
    acquire: (name, lockId, ttlMs, queueForMs = 0) =>
      store.acquire(name, lockId, ttlMs, queueForMs * 10),
  })),
  broken("keeps the place of who gave it up", [GIVEN_UP], (store) => ({
    release: async (name, lockId) =>
      (await store.get(name, lockId)) !== undefined && store.release(name, lockId),
  })),
];
