/** A lock as its holder sees it. */
export interface HeldLock {
  readonly name: string;
  /**
   * Grows with every acquisition of this name and never repeats: at least the store's time in ms at
   * the acquisition. Below 2^53.
   */
  readonly fencingToken: number;
  /** When the lease ends, in ms since the Unix epoch, by the store's clock. Free at that time. */
  readonly expireTimeMs: number;
  /** The moment of this answer, by the store's clock. */
  readonly readTimeMs: number;
}

/** A lock, for its holder. */
export interface AcquiredLock extends HeldLock {
  /** A secret: anybody who has it can renew and release the lock. */
  readonly lockId: string;
}

/** Another caller has the lock, or the store keeps the lock for a caller that waits. */
export interface OccupiedLock {
  readonly occupied: true;
  /** When it becomes free at the latest, unless the lease is renewed. */
  readonly expireTimeMs: number;
  readonly readTimeMs: number;
}

/**
 * Keeps named locks: leases with one owner each, known by a nonce. These comments are the contract;
 * one suite holds every store to it. `Locks` explains what a lease promises.
 *
 * The store's clock decides. Every method is one atomic step. All may throw STORE_UNAVAILABLE: the
 * caller then does not know whether the change was made.
 */
export interface LockStore {
  /**
   * The locks of a namespace, which have nothing to do with locks of the same names elsewhere, as
   * `SessionStore.namespace` says.
   */
  namespace(name: string): LockStore;

  /**
   * Takes the lock for `lockId` for `ttlMs`, if it is free. A lock that `lockId` already has is
   * answered as it is, so a call with a lost answer can be repeated. Throws OVERLOADED if the store
   * is full.
   *
   * With `queueForMs`, a refused `lockId` gets a position in the store's queue for this time, and
   * for longer if it asks again. A store that announces releases to other servers keeps a free lock
   * for the first in the queue for a moment, so that servers closer to the store cannot pass a
   * distant one for ever. A store without such announcements has no queue.
   */
  acquire(
    name: string,
    lockId: string,
    ttlMs: number,
    queueForMs?: number,
  ): Promise<HeldLock | OccupiedLock>;

  /**
   * Lets the lease of `lockId` end `ttlMs` from now. Undefined if it does not have the lock. May
   * throw OVERLOADED if the store is full.
   */
  renew(name: string, lockId: string, ttlMs: number): Promise<HeldLock | undefined>;

  /** Gives up `lockId`'s lock and queue position. Answers whether it had the lock. */
  release(name: string, lockId: string): Promise<boolean>;

  /** The lock, if anybody has it, or if `lockId` has it. Never says who. */
  get(name: string, lockId?: string): Promise<HeldLock | undefined>;

  /**
   * Calls `listener` with the name of a lock soon after its release, from any server if the store
   * can. Only a hint: it may come too often or not at all, and never for a lease that ends by
   * itself. Answers a function that unsubscribes.
   */
  onRelease(listener: (name: string) => void): () => void;
}

/**
 * How long a store remembers the last fencing token of a lock after the end of its last lease, or
 * after the token itself if it is ahead of the time. Callers choose the names, so these must not pile
 * up. Tokens are never below the time, so they grow even if the last token is forgotten, unless a
 * clock was set back by more than this.
 */
export const FENCE_RETENTION_MS = 3_600_000;
