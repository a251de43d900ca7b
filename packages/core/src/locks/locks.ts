import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  lockNotHeld,
  lockTimeout,
  overloaded,
  SessiondError,
  storeUnavailable,
} from "../errors.js";
import { Places, Share } from "../places.js";
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
   * A new lock id that the caller makes: 16 to 128 characters that nobody can guess. With it the
   * caller can repeat a call whose answer was lost.
   */
  readonly lockId?: string | undefined;
  /** Who asks, for the bound of each caller. */
  readonly caller?: string;
  /** Ends the wait at once. The call then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** How often the first waiter tries without a hint, because hints get lost. */
const POLL_INTERVAL_MS = 1_000;
/** The jitter of a poll in either direction, so that servers do not poll in step. */
const POLL_JITTER = 0.25;
/** How long a queue position at the store outlives a try: some polls and the store's time limit. */
const QUEUE_FOR_MS = 4_000;
/** How many calls of a namespace that is alone wait in one server, for all locks. */
export const MAX_WAITERS = 10_000;
/** How many calls without a place ask the store at a time. None of them waits for a lock. */
const MAX_TRIES = 1_000;
/** How often the release of an abandoned lock is tried. Its lease also ends by itself. */
const MAX_GIVE_BACK_ATTEMPTS = 4;
const GIVE_BACK_PAUSE_MS = 1_000;
/**
 * How many abandoned locks are released at a time. If there are more, their leases end by
 * themselves.
 */
const MAX_GIVEN_BACK = 1_000;

/**
 * The named locks of a namespace: leases that end by themselves, so that nothing stays locked when its holder dies.
 *
 * Before a lease ends, the store gives the lock to nobody else. But its holder may not know that
 * the lease has ended: a process that was paused or cut off may go on beside the next holder, and
 * renewing does not help. So every acquisition has a fencing token, higher than all before. The
 * holder sends it with its writes, and the target refuses a token lower than the highest it has
 * seen, as `Sessions.update` does with its `fence`. (Kleppmann, "How to do distributed locking",
 * 2016.)
 *
 * There is no Redlock: it relies on bounded clocks and pauses, has no growing token, and is no
 * safer than one store when a holder outlives its lease. A failover may lose the last acquisitions,
 * and then two callers hold one lock for a moment. The tokens show which is the later holder.
 *
 * Callers of one server are served in order, and only the first of them asks the store. Servers
 * that share a Redis take turns: while a server's first caller waits, each other server gets the
 * lock at most once, so the nth caller is overtaken at most n times by each. The waiting server
 * must ask within a quarter of a second after the lock became free. Processes that share an SQLite
 * file compete without this promise.
 *
 * A waiter tries after a hint of a release, at the lease's end, and about every second. Every
 * method may throw STORE_UNAVAILABLE, and INVALID_ARGUMENT naming the field.
 */
export class Locks {
  readonly #store: LockStore;
  readonly #queues = new Map<string, LockQueue>();
  readonly #share: Share;
  readonly #givenBack = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #stopListening: (() => void) | undefined;

  /** The acquisitions under way, whether they wait or not. */
  #acquiring = 0;
  /** Those of them that cannot wait. */
  #tries = 0;

  /** The store's opener closes it after `close`. */
  constructor(options: {
    readonly store: LockStore;
    /** Whose locks these are, as `isNamespace` has it. "" by default. */
    readonly namespace?: string;
    /** The server's places for calls that wait. By default a namespace has its own. */
    readonly places?: Places;
  }) {
    this.#store = options.store.namespace(options.namespace ?? "");
    this.#share = new Share(options.places ?? new Places(MAX_WAITERS));
  }

  /** Whether no call is pending. Then `close` fails nobody. */
  get isIdle(): boolean {
    return this.#acquiring === 0 && this.#queues.size === 0 && this.#givenBack.size === 0;
  }

  /**
   * Takes a lock, and waits while another caller has it. Throws LOCK_TIMEOUT when the wait is over,
   * and OVERLOADED if the lock is not free and too many wait already, or if the store is full.
   *
   * A failed call leaves no lock behind: this server releases a lock that the call may have got too
   * late. With the caller's own lock id it does so only after LOCK_TIMEOUT. After any other failure
   * the caller may retry with that id and have the lock by then.
   */
  async acquire(request: AcquireLock): Promise<AcquiredLock> {
    const { name, lockId, caller = "", signal } = request;
    const { ttlMs = LOCK_BOUNDS.defaultTtlMs } = request;
    const { waitTimeoutMs = LOCK_BOUNDS.defaultWaitTimeoutMs } = request;
    checkLockName("name", name);
    checkTtl(ttlMs);
    checkWaitTimeout(waitTimeoutMs);
    if (lockId !== undefined) checkLockId("lock_id", lockId);
    signal?.throwIfAborted();
    this.#acquiring++;
    try {
      if (lockId !== undefined && this.#queues.has(name)) {
        // A repeated call must not queue behind callers that wait for the lock it already has.
        const held = await this.#store.get(name, lockId);
        if (held !== undefined) return { ...held, lockId };
        signal?.throwIfAborted();
      }
      return await this.#wait(name, { lockId, ttlMs, waitTimeoutMs, caller, signal });
    } finally {
      this.#acquiring--;
    }
  }

  /** Lets the lease end `ttlMs` from now, 30 s by default. Throws LOCK_NOT_HELD if it has ended. */
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

  /** Releases a lock. Throws LOCK_NOT_HELD if `lockId` does not have it. */
  async release(name: string, lockId: string): Promise<void> {
    checkLockName("name", name);
    checkLockId("lock_id", lockId);
    if (!(await this.#store.release(name, lockId))) throw lockNotHeld();
    // The store's own hint may come later or get lost.
    this.#queues.get(name)?.wake();
  }

  /** The lock, if anybody has it. Never says who. */
  async get(name: string): Promise<HeldLock | undefined> {
    checkLockName("name", name);
    return this.#store.get(name);
  }

  /**
   * Ends all waits with STORE_UNAVAILABLE and returns once no call is pending. Held locks stay
   * held.
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
      readonly caller: string;
      readonly signal: AbortSignal | undefined;
    },
  ): Promise<AcquiredLock> {
    const { lockId = randomBytes(32).toString("base64url"), ttlMs, waitTimeoutMs, signal } = call;
    const isTry = waitTimeoutMs === 0;
    if (this.#closing.signal.aborted) throw serverStops();
    // The waiting callers come first, so one try cannot succeed.
    if (isTry && this.#queues.has(name)) throw lockTimeout();
    // Without a place it can still have a lock that is free.
    const hasPlace = !isTry && this.#share.take(call.caller);
    if (!isTry && !hasPlace && this.#queues.has(name)) throw tooManyWaiters();
    if (!hasPlace && this.#tries >= MAX_TRIES) throw tooManyWaiters();
    const triesOnce = !hasPlace;
    if (triesOnce) this.#tries++;

    const { promise, resolve, reject } = Promise.withResolvers<AcquiredLock>();
    const isIdOurs = call.lockId === undefined;
    const waiter: Waiter = {
      ...{ lockId, ttlMs, triesOnce, isIdOurs, resolve, reject },
      placeOf: hasPlace ? call.caller : undefined,
      refusal: isTry ? lockTimeout : tooManyWaiters,
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

  /** Removes a waiter from its queue. Answers whether it was still there. */
  #remove(queue: LockQueue, waiter: Waiter): boolean {
    if (!queue.waiters.delete(waiter)) return false;
    if (waiter.placeOf === undefined) this.#tries--;
    else this.#share.giveBack(waiter.placeOf);
    return true;
  }

  /** Fails a waiter's call now, and releases what the store may have for it. */
  #leave(queue: LockQueue, waiter: Waiter, error: unknown): void {
    if (!this.#remove(queue, waiter)) return;
    waiter.mayReturn = !waiter.isIdOurs && !isTimeout(error);
    waiter.reject(error);
    // `#ask` handles the answer of a pending question.
    if (queue.asking === waiter || !waiter.hasAsked) return;
    this.#giveBack(queue.name, waiter);
    // The next waiter needs a queue position at the store.
    queue.wake();
  }

  /** Asks the store for the first waiter until the queue is empty. */
  async #serve(queue: LockQueue): Promise<void> {
    for (;;) {
      const [first] = queue.waiters;
      if (first === undefined) break;
      queue.expectWake();
      const answer = await this.#ask(queue, first);
      if (answer === undefined) continue;
      if (first.triesOnce) {
        this.#leave(queue, first, first.refusal());
      } else if (queue.waiters.size > 0) {
        this.#listen();
        await queue.sleep(untilNextTry(answer));
      }
    }
    this.#queues.delete(queue.name);
  }

  /** Asks the store for a waiter. Answers the occupied lock if the waiter has to wait. */
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
        // The waiter left meanwhile.
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

  /** Releases, in the background, what the store may have for a waiter that is gone. */
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
        // A lost acquisition may still reach the store after this release.
        if (isReleased || !isInDoubt) return;
      } catch {
        // No caller waits for this. The lease ends by itself.
      }
      if (attempt === MAX_GIVE_BACK_ATTEMPTS || signal.aborted) return;
      await sleep(GIVE_BACK_PAUSE_MS * attempt, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  /** Starts to listen for releases when a caller first has to wait. */
  #listen(): void {
    if (this.#closing.signal.aborted) return;
    this.#stopListening ??= this.#store.onRelease((name) => this.#queues.get(name)?.wake());
  }
}

/** How long to wait without a hint, in ms. */
function untilNextTry({ expireTimeMs, readTimeMs }: OccupiedLock): number {
  const jitter = 1 + POLL_JITTER * (2 * Math.random() - 1);
  return Math.max(1, Math.min(expireTimeMs - readTimeMs, POLL_INTERVAL_MS * jitter));
}

function tooManyWaiters(): SessiondError {
  return overloaded(
    "lock_waiters",
    "the lock is not free, and too many calls wait for locks on this server, or calls of this caller",
  );
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
