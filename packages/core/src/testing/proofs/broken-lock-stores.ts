import type { HeldLock, LockStore } from "../../locks/lock-store.js";
import type { OpenLockStore } from "../contract/locks/lock-store-check.js";
import { type BrokenStore, overriding, type Shifted, shiftable } from "./broken-store.js";

/** Describes a broken store by the methods in which it differs; it has a state of its own. */
function broken(
  fault: string,
  caughtBy: readonly string[],
  differ: (store: LockStore, shifted: Shifted) => Partial<LockStore>,
): BrokenStore<OpenLockStore> {
  return {
    fault,
    caughtBy,
    open: (openCorrect) => async (options) => {
      const { now, shifted } = shiftable(options.now);
      const { store, peer = store, dispose } = await openCorrect({ now });
      const wrap = (one: LockStore) => overriding(one, differ(one, shifted));
      return { store: wrap(store), peer: wrap(peer), dispose };
    },
  };
}

const AGAIN = "acquiring a lock again under the same lock id answers it as it is";
const HOLDER = "nobody but its holder renews a lock or gives it back";
const MODEL = "through any calls and deadlines one at most has a lock, and tokens grow";

/** They prove that the suite catches what it should. */
export const brokenLockStores: readonly BrokenStore<OpenLockStore>[] = [
  broken(
    "ends a lease a millisecond early",
    ["a free lock is given for as long as asked, by the store's clock"],
    (store) => ({
      acquire: (name, lockId, ttlMs, queueForMs) =>
        store.acquire(name, lockId, ttlMs - 1, queueForMs),
    }),
  ),
  broken(
    "holds on to a lock at the end of its lease",
    [
      "a lock is refused to others until just before its lease ends, and free then",
      "a lease that has ended is not renewed, whether or not another has the lock",
      MODEL,
    ],
    (store, shifted) => ({
      acquire: (...call) => shifted(-1, () => store.acquire(...call)),
      renew: (...call) => shifted(-1, () => store.renew(...call)),
      get: (...call) => shifted(-1, () => store.get(...call)),
    }),
  ),
  broken(
    "has one namespace for all",
    [
      "locks of the same name in different namespaces are different locks",
      "listeners hear of releases in their own namespace only",
    ],
    (store) => ({ namespace: () => store }),
  ),
  broken("begins a new lease when its holder acquires it again", [AGAIN, MODEL], (store) => ({
    acquire: async (name, lockId, ttlMs, queueForMs) =>
      (await store.renew(name, lockId, ttlMs)) ?? store.acquire(name, lockId, ttlMs, queueForMs),
  })),
  broken(
    "looks whether a lock is free, and takes it then",
    ["of those who race for a lock exactly one gets it"],
    (store) => ({
      acquire: async (name, lockId, ttlMs, queueForMs) => {
        const free = (await store.get(name)) === undefined;
        const answer = await store.acquire(name, lockId, ttlMs, queueForMs);
        if (!free || !("occupied" in answer)) return answer;
        const { readTimeMs } = answer;
        return { name, fencingToken: readTimeMs, expireTimeMs: readTimeMs + ttlMs, readTimeMs };
      },
    }),
  ),
  broken(
    "takes names that differ in case for the same",
    ["locks of different names are different locks, however alike the names are"],
    (store) => ({ acquire: (name, ...rest) => store.acquire(name.toLowerCase(), ...rest) }),
  ),
  broken(
    "takes the time for the token",
    [
      "every acquisition has a higher token, never below the time, though the clock is set back",
      MODEL,
    ],
    (store) => ({
      acquire: async (name, lockId, ttlMs, queueForMs) => {
        const answer = await store.acquire(name, lockId, ttlMs, queueForMs);
        if ("occupied" in answer) return answer;
        return { ...answer, fencingToken: answer.expireTimeMs - ttlMs };
      },
    }),
  ),
  broken(
    "renews for longer only",
    ["renewing lets the lease end one ttl from now, under the same token", MODEL],
    (store) => ({
      renew: async (name, lockId, ttlMs) => {
        const held = await store.get(name, lockId);
        const leftMs = held ? held.expireTimeMs - held.readTimeMs : 0;
        return store.renew(name, lockId, Math.max(ttlMs, leftMs));
      },
    }),
  ),
  broken("renews for anybody", [HOLDER, MODEL], (store) => ({
    renew: async (name, lockId, ttlMs) =>
      (await store.renew(name, lockId, ttlMs)) ?? store.get(name),
  })),
  broken(
    "says twice that it gave back",
    ["a lock that was given back is free at once, and given back once", HOLDER],
    (store) => ({
      release: async (...call) => {
        await store.release(...call);
        return true;
      },
    }),
  ),
  broken(
    "says who has a lock",
    ["a caller that asks for a lock learns whether it is held, and never by whom"],
    (store) => {
      const holders = new Map<string, string>();
      return {
        acquire: async (name, lockId, ...rest) => {
          holders.set(name, lockId);
          return store.acquire(name, lockId, ...rest);
        },
        get: async (name, lockId) => {
          const held: HeldLock | undefined = await store.get(name, lockId);
          return held && { ...held, lockId: holders.get(name) };
        },
      };
    },
  ),
  broken(
    "tells nobody",
    [
      "listeners hear of a lock that is given back, until they stop",
      "another server's listeners hear of it, too",
    ],
    () => ({ onRelease: () => () => {} }),
  ),
  broken(
    "has no queue",
    [
      "a lock that is given back is kept for the one that has waited longest",
      "a lock whose lease has ended is kept for the one that has waited longest",
      "a lock is not kept for long for one that does not come, which then waits from the start",
    ],
    (store) => ({ acquire: (name, lockId, ttlMs) => store.acquire(name, lockId, ttlMs) }),
  ),
  broken(
    "keeps in the queue those who do not ask again, and those who give up",
    [
      "a caller that does not ask again in time, or asks only once, is not in the queue",
      "a caller that gives up waiting leaves the queue",
    ],
    (store) => ({
      acquire: (name, lockId, ttlMs, queueForMs = 0) =>
        store.acquire(name, lockId, ttlMs, queueForMs * 10),
      release: async (name, lockId) =>
        (await store.get(name, lockId)) !== undefined && store.release(name, lockId),
    }),
  ),
];
