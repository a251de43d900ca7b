import { randomUUID } from "node:crypto";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { SessiondError, type SessiondErrorReason } from "../error.js";
import { known, type NamesOf } from "../known-names.js";
import { CALL_OPTIONS, type CallOptions, MAX_TIMEOUT_MS } from "../options.js";
import { dateFrom, duration, text } from "../rpc/fields.js";
import type { RpcCaller } from "../rpc/rpc-caller.js";
import { holdLease } from "./held-lease.js";

/** Options of `acquire`. */
export interface AcquireLockOptions extends CallOptions {
  /**
   * How long the lease lasts without a renewal, in milliseconds, at most an hour.
   *
   * Default: 30 000. Others wait no longer than that for a holder that died, and a holder that
   * lives has time for several renewals.
   */
  ttlMs?: number | undefined;

  /**
   * How long to wait for the lock, in milliseconds, at most an hour. 0 tries once. Default: 20 000.
   */
  waitTimeoutMs?: number | undefined;

  /** How long the call may take, in milliseconds. Default: the wait + the client's `timeoutMs`. */
  timeoutMs?: number | undefined;
}

/** Options of `renew`. */
export interface RenewLockOptions extends CallOptions {
  /** How long the lease lasts from now on, in milliseconds. Default: 30 000. */
  ttlMs?: number | undefined;
}

/** Options of `withLock`. `signal` cancels the wait, or during the work aborts the work's signal. */
export interface WithLockOptions extends Omit<AcquireLockOptions, "timeoutMs"> {}

/** Names a lock and proves that the caller holds it. */
export interface LockHandle {
  readonly name: string;

  /** A secret: anybody who knows it can renew and release the lock. */
  readonly lockId: string;
}

/** A lock that was acquired. */
export interface HeldLock extends LockHandle {
  /**
   * Higher than every earlier holder's token. Send it with each write under the lock, so that the
   * receiver can refuse a token lower than the highest it has seen.
   */
  readonly fencingToken: number;

  /** When the lease ends without a renewal, by the server's clock. */
  readonly expireTime: Date;
}

/** The public facts about a lock that somebody holds. */
export type LockState = Omit<HeldLock, "lockId">;

/** The argument of the work under a lock. */
export interface LockedWork {
  /** As in `HeldLock`; `{ lock: name, token: fencingToken }` is a fence for `updateSession`. */
  readonly name: string;
  readonly fencingToken: number;

  /**
   * Aborts when the lock is lost, or may be lost. Stop as soon as you can. The reason is a
   * SessiondError, LOCK_NOT_HELD.
   */
  readonly signal: AbortSignal;
}

const RENEW_OPTIONS = { ...CALL_OPTIONS, ttlMs: true } satisfies NamesOf<RenewLockOptions>;
const ACQUIRE_OPTIONS = {
  ...RENEW_OPTIONS,
  waitTimeoutMs: true,
} satisfies NamesOf<AcquireLockOptions>;
const WITH_LOCK_OPTIONS = {
  signal: true,
  ttlMs: true,
  waitTimeoutMs: true,
} satisfies NamesOf<WithLockOptions>;

const DEFAULT_TTL_MS = 30_000;
const DEFAULT_WAIT_TIMEOUT_MS = 20_000;

/** After these failures of `acquire` the caller may or may not hold the lock. */
const UNKNOWN_OUTCOMES: ReadonlySet<SessiondErrorReason> = new Set([
  "DEADLINE_EXCEEDED",
  "CANCELED",
  "UNAVAILABLE",
  "STORE_UNAVAILABLE",
  "INTERNAL",
  "UNKNOWN",
]);

/**
 * Locks that all callers of one sessiond share: the `locks` of a `SessionClient`.
 *
 * A lock is a lease and ends by itself. A process that was stopped or cut off may continue after
 * the end of its lease. If that would do harm, write with the fencing token, as `updateSession`
 * does with `fence`.
 *
 * Every method rejects with a `SessiondError` and nothing else. `withLock` also rejects with what
 * its work throws.
 */
export class LockClient {
  readonly #rpc: RpcCaller;

  /** @internal */
  constructor(rpc: RpcCaller) {
    this.#rpc = rpc;
  }

  /**
   * Does work while nobody else holds the lock, and returns its result:
   *
   * ```ts
   * await client.locks.withLock("invoices", { ttlMs: 10_000 }, async ({ signal }) => …);
   * ```
   *
   * Renews the lease at a third of its ttl while the work runs, and releases the lock afterwards,
   * also after a failure. Aborts the work's `signal` once the lock is lost, or if no renewal was
   * answered until shortly before the end of the lease. This machine's clock decides, counted from
   * before the last renewal was sent.
   *
   * Fails with LOCK_TIMEOUT if the lock was not free in time. Fails with LOCK_NOT_HELD if the lock
   * was lost before the work was done: another holder may then have worked at the same time.
   */
  async withLock<T>(
    name: string,
    options: WithLockOptions,
    work: (held: LockedWork) => T | Promise<T>,
  ): Promise<T> {
    const { ttlMs = DEFAULT_TTL_MS } = known(options, WITH_LOCK_OPTIONS);
    const askedMs = performance.now();
    const lock = await this.acquire(name, { ...options, ttlMs });
    const lease = holdLease({
      askedMs,
      ttlMs,
      name,
      renew: ({ timeoutMs, signal }) =>
        this.renew(lock, { ttlMs, signal, timeoutMs: Math.min(timeoutMs, this.#rpc.timeoutMs) }),
    });
    try {
      await lease.begun;
      const signals = options.signal ? [lease.lost, options.signal] : [lease.lost];
      const { fencingToken } = lock;
      const result = await work({ name, fencingToken, signal: AbortSignal.any(signals) });
      lease.throwIfLost();
      return result;
    } finally {
      lease.stop();
      // A lease that cannot be released ends by itself, and the work is done anyway.
      await this.release(lock).catch(() => {});
    }
  }

  /**
   * Takes a lock, and waits if another caller holds it. Its lease ends by itself: renew it, or use
   * `withLock`.
   *
   * Fails with LOCK_TIMEOUT if the lock was not free in time. Retried even if the first attempt may
   * have taken effect: the attempts share a lock id, by which the second finds what the first took.
   * After a failure without an answer it releases the lock in case it was taken.
   */
  async acquire(name: string, options: AcquireLockOptions = {}): Promise<HeldLock> {
    known(options, ACQUIRE_OPTIONS);
    const { ttlMs = DEFAULT_TTL_MS, waitTimeoutMs = DEFAULT_WAIT_TIMEOUT_MS } = options;
    const handle = { name: text(name, "name"), lockId: randomUUID() };
    const waitUntilMs = performance.now() + waitTimeoutMs;
    const ttl = duration(ttlMs, "ttl");
    const request = () => {
      const waitMs = Math.max(0, waitUntilMs - performance.now());
      // We send a negative wait as it is, for the server to refuse.
      const wait = waitTimeoutMs < 0 ? waitTimeoutMs : Math.min(waitTimeoutMs, Math.ceil(waitMs));
      return { ...handle, ttl, waitTimeout: duration(wait, "wait_timeout") };
    };
    // The server refuses a wait that is too long, and says which are not.
    const longestMs = Math.min(this.#rpc.timeoutMs + Math.max(0, waitTimeoutMs), MAX_TIMEOUT_MS);
    const { timeoutMs = longestMs, signal } = options;
    try {
      const answer = await this.#rpc.call("acquireLock", request, { timeoutMs, signal });
      return { ...handle, lockId: answer.lockId, ...leaseFrom(answer) };
    } catch (error) {
      if (error instanceof SessiondError && UNKNOWN_OUTCOMES.has(error.reason)) {
        // In the background: a caller that canceled does not want to wait.
        this.release(handle).catch(() => {});
      }
      throw error;
    }
  }

  /** Moves the end of the lease to one ttl from now. Fails with LOCK_NOT_HELD after its end. */
  async renew(lock: LockHandle, options: RenewLockOptions = {}): Promise<HeldLock> {
    const { ttlMs = DEFAULT_TTL_MS, ...call } = known(options, RENEW_OPTIONS);
    const handle = handleFrom(lock);
    const request = { ...handle, ttl: duration(ttlMs, "ttl") };
    const answer = await this.#rpc.call("renewLock", request, call);
    return { ...handle, ...leaseFrom(answer) };
  }

  /**
   * Releases a lock. Fails with LOCK_NOT_HELD if its lease has ended, also if a first attempt
   * released it and its answer was lost.
   */
  async release(lock: LockHandle, options: CallOptions = {}): Promise<void> {
    known(options, CALL_OPTIONS);
    await this.#rpc.call("releaseLock", handleFrom(lock), options);
  }

  /**
   * The public facts about a lock, or undefined if it is free. They may be outdated when the
   * answer arrives, so a decision based on them is a race.
   */
  async get(name: string, options: CallOptions = {}): Promise<LockState | undefined> {
    known(options, CALL_OPTIONS);
    const answer = await this.#rpc.call("getLock", { name: text(name, "name") }, options);
    return answer.held ? { name, ...leaseFrom(answer) } : undefined;
  }
}

function handleFrom({ name, lockId }: LockHandle): LockHandle {
  return { name: text(name, "name"), lockId: text(lockId, "lock_id") };
}

function leaseFrom(answer: {
  readonly fencingToken: bigint;
  readonly expireTime?: Timestamp | undefined;
}): Pick<HeldLock, "fencingToken" | "expireTime"> {
  return {
    // The contract keeps it below 2^53.
    fencingToken: Number(answer.fencingToken),
    expireTime: dateFrom(answer.expireTime, "expire_time"),
  };
}
