import type { AcquiredLock } from "./lock-store.js";

/** A call that waits for a lock. */
export interface Waiter {
  readonly lockId: string;
  readonly ttlMs: number;
  readonly triesOnce: boolean;
  /** Whether only this server knows the lock id: nobody comes back with it. */
  readonly isIdOurs: boolean;
  /** Whether the store was asked, and so may have a place or even the lock for it. */
  hasAsked: boolean;
  /** Whether an answer was lost, so that the store may yet give it the lock. */
  isInDoubt: boolean;
  /** Whether its caller may come back with the lock id, and want what it has. */
  mayReturn: boolean;
  /** Settles the call. */
  readonly resolve: (lock: AcquiredLock) => void;
  readonly reject: (error: unknown) => void;
}

/** The calls of this server that wait for one lock, in the order in which they came. */
export class LockQueue {
  readonly name: string;
  readonly waiters = new Set<Waiter>();
  /** The waiter that the store is being asked for. */
  asking: Waiter | undefined;
  /** Resolves once nobody waits any more. */
  served: Promise<void> = Promise.resolve();
  #isWoken = false;
  #wake: (() => void) | undefined;

  constructor(name: string) {
    this.name = name;
  }

  /** Something happened: the first waiter tries again. */
  wake(): void {
    this.#isWoken = true;
    this.#wake?.();
  }

  /** What happens from now on wakes the next `sleep`, also before it begins. */
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
