/** A lock as its holder sees it. */
export interface HeldLock {
  readonly name: string;
  /**
   * Grows with every acquisition of this name and never repeats, whatever became of
   * the earlier ones: at least the store's time in ms at the acquisition. Below 2^53.
   */
  readonly fencingToken: number;
  /** When the lease ends, by the store's clock, in ms since the Unix epoch. Held before it, free at it. */
  readonly expireTimeMs: number;
  /** When all this was so, by the store's clock. */
  readonly readTimeMs: number;
}

/** A lock, for its holder. */
export interface AcquiredLock extends HeldLock {
  /** A secret: with it anybody can renew and release the lock. */
  readonly lockId: string;
}

/** That somebody else has the lock, or that it is kept for somebody else who waits for it. */
export interface OccupiedLock {
  readonly occupied: true;
  /** When it will be free unless something happens before. */
  readonly expireTimeMs: number;
  readonly readTimeMs: number;
}

/**
 * Keeps named locks: leases, each of one owner, who is known by a nonce. These
 * comments are the contract; one suite holds every store to it.
 *
 * A lease promises no more than that the store gives the lock to nobody else
 * before it ends. A holder that was stopped or cut off may not know that its lease is
 * over; what it then writes is refused only where the fencing token is checked.
 *
 * Time is the store's. Every method is one atomic step. All may throw
 * STORE_UNAVAILABLE; whether a change was made is then not known.
 */
export interface LockStore {
  /**
   * Takes the lock for `lockId`, if it is free, for `ttlMs`. One that `lockId`
   * has already is answered as it is: a call whose answer was lost can be made again.
   * Throws OVERLOADED where the store is full.
   *
   * With `queueForMs`, a `lockId` that is refused gets a place among those who wait,
   * and keeps it for so long, or longer if it asks again. A store that tells other
   * servers of releases keeps a lock that has become free for the first of them, for
   * a moment: so none is passed over for ever by servers that are nearer. One that
   * does not tell them has no such places.
   */
  acquire(
    name: string,
    lockId: string,
    ttlMs: number,
    queueForMs?: number,
  ): Promise<HeldLock | OccupiedLock>;

  /** Lets the lease of `lockId` end in `ttlMs` from now. Undefined where it does not have the lock. */
  renew(name: string, lockId: string, ttlMs: number): Promise<HeldLock | undefined>;

  /**
   * Gives the lock back, if `lockId` has it, and its place among those who wait.
   * Answers whether it had the lock.
   */
  release(name: string, lockId: string): Promise<boolean>;

  /** The lock, if anybody has it or, when `lockId` is given, if that one has. Never says who. */
  get(name: string, lockId?: string): Promise<HeldLock | undefined>;

  /**
   * Calls `listener` with the name of a lock soon after it was released, through
   * whichever server where the store can tell. A hint: it may come too often or not at
   * all, and a lease that ends by itself gives none. Answers how to stop.
   */
  onRelease(listener: (name: string) => void): () => void;
}

/**
 * How long a store remembers the last fencing token of a lock after its last lease
 * has ended. Names are the callers', and must not pile up for ever; the tokens grow
 * even when the last one is forgotten, since they are never below the time.
 */
export const FENCE_RETENTION_MS = 30 * 24 * 3_600_000;
