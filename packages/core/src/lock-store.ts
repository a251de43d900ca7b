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

/** That somebody else has the lock. */
export interface OccupiedLock {
  readonly occupied: true;
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
   */
  acquire(name: string, lockId: string, ttlMs: number): Promise<HeldLock | OccupiedLock>;

  /** Lets the lease of `lockId` end in `ttlMs` from now. Undefined where it does not have the lock. */
  renew(name: string, lockId: string, ttlMs: number): Promise<HeldLock | undefined>;

  /** Gives the lock back, if `lockId` has it. Answers whether it did. */
  release(name: string, lockId: string): Promise<boolean>;

  /** The lock, if anybody has it. Never says who. */
  get(name: string): Promise<HeldLock | undefined>;

  /**
   * Calls `listener` with the name of a lock soon after it was released, through
   * whichever server. A hint: it may come too often or not at all, and a lease that ends by
   * itself gives none. Answers how to stop.
   */
  onRelease(listener: (name: string) => void): () => void;
}
