import type { AcquiredLock } from "./lock-store.js";

/** A call that waits for a lock. */
export interface Waiter {
  readonly lockId: string;
  readonly ttlMs: number;
  readonly triesOnce: boolean;
  /** Whose place it has. Undefined for one that cannot wait. */
  readonly placeOf: string | undefined;
  /** The error if one try was not enough. */
  readonly refusal: () => Error;
  /** Whether this server made the lock id, so that no caller can retry with it. */
  readonly isIdOurs: boolean;
  /** Whether the store was asked, and so may hold a queue position or the lock for it. */
  hasAsked: boolean;
  /** Whether an answer was lost: the store may still give it the lock. */
  isInDoubt: boolean;
  /** Whether its caller may retry with the lock id and expect the lock. */
  mayReturn: boolean;
  /** Settles the call. */
  readonly resolve: (lock: AcquiredLock) => void;
  readonly reject: (error: unknown) => void;
}

/** This server's queue of calls that wait for one lock. */
export class LockQueue {
  readonly name: string;
  readonly waiters = new Set<Waiter>();
  /** The waiter that the store is being asked for. */
  asking: Waiter | undefined;
  /** Resolves once the queue is empty. */
  served: Promise<void> = Promise.resolve();
  #isWoken = false;
  #wake: (() => void) | undefined;

  constructor(name: string) {
    this.name = name;
  }

  /** Lets the first waiter try again. */
  wake(): void {
    this.#isWoken = true;
    this.#wake?.();
  }

  /** A `wake` from now on ends the next `sleep`, also if the wake comes before the sleep. */
  expectWake(): void {
    this.#isWoken = false;
  }

  /** Returns after `ms`, or once woken. */
  async sleep(ms: number): Promise<void> {
    if (this.#isWoken) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const timer = setTimeout(resolve, ms);
    await promise;
    clearTimeout(timer);
    this.#wake = undefined;
  }
}
