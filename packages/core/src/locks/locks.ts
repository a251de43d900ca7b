import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { lockNotHeld, lockTimeout, SessiondError, storeUnavailable } from "../errors.js";
import {
  checkLockId,
  checkLockName,
  checkTtl,
  checkWaitTimeout,
  LOCK_BOUNDS,
} from "./lock-checks.js";
import { LockQueue, type Waiter } from "./lock-queue.js";
import type { AcquiredLock, HeldLock, LockStore, OccupiedLock } from "./lock-store.js";

/** What `Locks.acquire` takes. */
export interface AcquireLock {
  /** 1 to 256 bytes, no control characters. */
  readonly name: string;
  /** How long the lease lasts: 100 ms to 1 h, 30 s by default. */
  readonly ttlMs?: number | undefined;
  /** How long to wait: up to 1 h, 20 s by default. 0 tries once. */
  readonly waitTimeoutMs?: number | undefined;
  /**
   * A lock id of the caller's making, never used before: 16 to 128 characters that
   * nobody can guess. The call can then be made again when its answer was lost.
   */
  readonly lockId?: string | undefined;
  /** Ends the wait at once; it then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** How often a lock is tried without a reason to: hints get lost. */
const POLL_INTERVAL_MS = 1_000;
/** How much a poll is earlier or later, at most, so that servers do not poll in step. */
const POLL_JITTER = 0.25;
/** How long a place at the store outlives a try: some polls, and the store's own time limit. */
const QUEUE_FOR_MS = 4_000;
/** How many calls wait in one server, for all locks. */
const MAX_WAITERS = 10_000;
/** How often a lock that nobody may be holding is tried to be given back; it ends by itself, too. */
const MAX_GIVE_BACK_ATTEMPTS = 4;
const GIVE_BACK_PAUSE_MS = 1_000;
/** How many are given back at a time. Beyond that, while a store is down, they end by themselves. */
const MAX_GIVEN_BACK = 1_000;

/**
 * Named locks for whoever calls: leases that end by themselves, so that nothing stays
 * locked when its holder dies.
 *
 * What a lease promises: before it ends, the store gives the lock to nobody else.
 * What it cannot promise: that its holder knows when it ends. A process that
 * was stopped, paused by its garbage collector or cut off may go on beside the next
 * holder, and no renewal helps, since it may stop right after it. So every
 * acquisition has a fencing token, higher than all before, to be given along with what
 * is written; whatever takes the writes refuses a token lower than the highest it
 * has seen, as `Sessions.update` does with its `fence`. (Kleppmann, "How to do distributed
 * locking", 2016.)
 *
 * There is no Redlock, for the same reason. It asks several independent Redis servers so
 * that one may fail; but it rests on clocks and pauses being bounded, has no
 * token that grows, and is no safer than one store when a holder outlives its lease.
 * Here, a failover may lose the last acquisitions: for a moment two may hold one
 * lock, and the tokens, which are never below the time, tell the later one.
 *
 * Who waits: first come, first served among the callers of one server, of whom only the
 * first asks the store. Servers that share a Redis take turns: while a server's
 * first waits, each other one gets the lock at most once (a waiter that is nth in its
 * queue is overtaken by at most n turns of each other server), as long as the server
 * comes for a lock within a quarter of a second after it became free. Processes that share an
 * SQLite file compete, with no such promise.
 *
 * A waiter tries when a release is heard of, when the lease ends, and about every second.
 * Every method may throw STORE_UNAVAILABLE, and INVALID_ARGUMENT naming the field.
 */
export class Locks {
  readonly #store: LockStore;
  readonly #queues = new Map<string, LockQueue>();
  #waiterCount = 0;
  readonly #givenBack = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #stopListening: (() => void) | undefined;

  /** The store is closed by whoever opened it, after `close`. */
  constructor(options: { readonly store: LockStore }) {
    this.#store = options.store;
  }

  /**
   * Takes a lock, and waits for it where another has it. Throws LOCK_TIMEOUT where it
   * could not be had in time, and OVERLOADED where too many wait or the store is full.
   *
   * A call that fails leaves no lock behind: it is given back where it was had too late, or
   * where that is not known. With a lock id of the caller's, only after LOCK_TIMEOUT: after
   * any other failure the caller may be trying again, and have the lock by then.
   */
  async acquire(request: AcquireLock): Promise<AcquiredLock> {
    const { name, lockId, signal } = request;
    const { ttlMs = LOCK_BOUNDS.defaultTtlMs } = request;
    const { waitTimeoutMs = LOCK_BOUNDS.defaultWaitTimeoutMs } = request;
    checkLockName("name", name);
    checkTtl(ttlMs);
    checkWaitTimeout(waitTimeoutMs);
    if (lockId !== undefined) checkLockId("lock_id", lockId);
    signal?.throwIfAborted();
    if (lockId !== undefined && this.#queues.has(name)) {
      // A call made again does not wait behind those who wait for the lock that it has.
      const held = await this.#store.get(name, lockId);
      if (held !== undefined) return { ...held, lockId };
      signal?.throwIfAborted();
    }
    return this.#wait(name, { lockId, ttlMs, waitTimeoutMs, signal });
  }

  /** Lets the lease end `ttlMs` from now, 30 s by default. Throws LOCK_NOT_HELD once it has ended. */
  async renew(
    name: string,
    lockId: string,
    ttlMs: number = LOCK_BOUNDS.defaultTtlMs,
  ): Promise<HeldLock> {
    checkLockName("name", name);
    checkLockId("lock_id", lockId);
    checkTtl(ttlMs);
    const held = await this.#store.renew(name, lockId, ttlMs);
    if (held === undefined) throw lockNotHeld();
    return held;
  }

  /** Gives a lock back. Throws LOCK_NOT_HELD where `lockId` does not have it. */
  async release(name: string, lockId: string): Promise<void> {
    checkLockName("name", name);
    checkLockId("lock_id", lockId);
    if (!(await this.#store.release(name, lockId))) throw lockNotHeld();
    // The store's own hint may come later, or be lost.
    this.#queues.get(name)?.wake();
  }

  /** The lock, if anybody has it. Never says who. */
  async get(name: string): Promise<HeldLock | undefined> {
    checkLockName("name", name);
    return this.#store.get(name);
  }

  /**
   * Ends all waiting with STORE_UNAVAILABLE, and returns once nothing is under
   * way any more. Locks that are held stay so.
   */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#stopListening?.();
    const queues = [...this.#queues.values()];
    for (const queue of queues) {
      for (const waiter of [...queue.waiters]) this.#leave(queue, waiter, serverStops());
    }
    await Promise.all(queues.map(({ served }) => served));
    await Promise.all(this.#givenBack);
  }

  async #wait(
    name: string,
    call: {
      readonly lockId: string | undefined;
      readonly ttlMs: number;
      readonly waitTimeoutMs: number;
      readonly signal: AbortSignal | undefined;
    },
  ): Promise<AcquiredLock> {
    const { lockId = randomBytes(32).toString("base64url"), ttlMs, waitTimeoutMs, signal } = call;
    const triesOnce = waitTimeoutMs === 0;
    if (this.#closing.signal.aborted) throw serverStops();
    // Those who wait already are first in any case.
    if (triesOnce && this.#queues.has(name)) throw lockTimeout();
    if (this.#waiterCount >= MAX_WAITERS) {
      throw new SessiondError("OVERLOADED", `${MAX_WAITERS} calls wait for locks here already`);
    }

    const { promise, resolve, reject } = Promise.withResolvers<AcquiredLock>();
    const isIdOurs = call.lockId === undefined;
    const waiter: Waiter = {
      ...{ lockId, ttlMs, triesOnce, isIdOurs, resolve, reject },
      hasAsked: false,
      isInDoubt: false,
      mayReturn: false,
    };
    const queue = this.#join(name, waiter);
    const timer = triesOnce
      ? undefined
      : setTimeout(() => this.#leave(queue, waiter, lockTimeout()), waitTimeoutMs);
    const onAbort = () => this.#leave(queue, waiter, signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  #join(name: string, waiter: Waiter): LockQueue {
    this.#waiterCount++;
    const existing = this.#queues.get(name);
    if (existing !== undefined) {
      existing.waiters.add(waiter);
      return existing;
    }
    const queue = new LockQueue(name);
    queue.waiters.add(waiter);
    this.#queues.set(name, queue);
    queue.served = this.#serve(queue);
    return queue;
  }

  /** Removes a waiter from its queue. Answers whether it was still in it. */
  #remove(queue: LockQueue, waiter: Waiter): boolean {
    if (!queue.waiters.delete(waiter)) return false;
    this.#waiterCount--;
    return true;
  }

  /** A waiter gives up: its call fails now, and nothing is left of it. */
  #leave(queue: LockQueue, waiter: Waiter, error: unknown): void {
    if (!this.#remove(queue, waiter)) return;
    waiter.mayReturn = !waiter.isIdOurs && !isTimeout(error);
    waiter.reject(error);
    // What becomes of a question under way is seen to when it is answered.
    if (queue.asking === waiter || !waiter.hasAsked) return;
    this.#giveBack(queue.name, waiter);
    // Whoever is first now needs a place at the store.
    queue.wake();
  }

  /** Asks for the first of a queue until nobody is left. */
  async #serve(queue: LockQueue): Promise<void> {
    for (;;) {
      const [first] = queue.waiters;
      if (first === undefined) break;
      queue.expectWake();
      const answer = await this.#ask(queue, first);
      if (answer === undefined) continue;
      if (first.triesOnce) {
        this.#leave(queue, first, lockTimeout());
      } else if (queue.waiters.size > 0) {
        this.#listen();
        await queue.sleep(untilNextTry(answer));
      }
    }
    this.#queues.delete(queue.name);
  }

  /** Asks the store for a waiter. Answers what stands in its way if it has to wait. */
  async #ask(queue: LockQueue, waiter: Waiter): Promise<OccupiedLock | undefined> {
    const { lockId, ttlMs, triesOnce } = waiter;
    waiter.hasAsked = true;
    queue.asking = waiter;
    try {
      const queueForMs = triesOnce ? 0 : QUEUE_FOR_MS;
      const answer = await this.#store.acquire(queue.name, lockId, ttlMs, queueForMs);
      const isOccupied = "occupied" in answer;
      if (isOccupied && queue.waiters.has(waiter)) return answer;
      if (isOccupied || !this.#remove(queue, waiter)) {
        // It left meanwhile.
        this.#giveBack(queue.name, waiter);
      } else {
        waiter.resolve({ ...answer, lockId });
      }
    } catch (error) {
      waiter.isInDoubt = isStoreUnavailable(error);
      queue.asking = undefined;
      if (queue.waiters.has(waiter)) this.#leave(queue, waiter, error);
      else this.#giveBack(queue.name, waiter);
    } finally {
      queue.asking = undefined;
    }
    return undefined;
  }

  /** Gives back, in the background, what the store may have for a waiter that is gone. */
  #giveBack(name: string, waiter: Waiter): void {
    if (waiter.mayReturn || this.#givenBack.size >= MAX_GIVEN_BACK) return;
    const givenBack = this.#tryToGiveBack(name, waiter).finally(() => {
      this.#givenBack.delete(givenBack);
    });
    this.#givenBack.add(givenBack);
  }

  async #tryToGiveBack(name: string, { lockId, isInDoubt }: Waiter): Promise<void> {
    const { signal } = this.#closing;
    for (let attempt = 1; ; attempt++) {
      try {
        const isReleased = await this.#store.release(name, lockId);
        if (isReleased) this.#queues.get(name)?.wake();
        // What is still on its way to the store may arrive after this.
        if (isReleased || !isInDoubt) return;
      } catch {
        // There is nobody to answer to. The lease ends by itself.
      }
      if (attempt === MAX_GIVE_BACK_ATTEMPTS || signal.aborted) return;
      await sleep(GIVE_BACK_PAUSE_MS * attempt, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  /** Hears of releases from the first time that anybody has to wait. */
  #listen(): void {
    if (this.#closing.signal.aborted) return;
    this.#stopListening ??= this.#store.onRelease((name) => this.#queues.get(name)?.wake());
  }
}

/** How long to wait for a lock to become free, with nothing heard of it. */
function untilNextTry({ expireTimeMs, readTimeMs }: OccupiedLock): number {
  const jitter = 1 + POLL_JITTER * (2 * Math.random() - 1);
  return Math.max(1, Math.min(expireTimeMs - readTimeMs, POLL_INTERVAL_MS * jitter));
}

function serverStops(): SessiondError {
  return storeUnavailable("this server stops");
}

function isStoreUnavailable(error: unknown): boolean {
  return error instanceof SessiondError && error.reason === "STORE_UNAVAILABLE";
}

function isTimeout(error: unknown): boolean {
  return error instanceof SessiondError && error.reason === "LOCK_TIMEOUT";
}
