import { randomUUID } from "node:crypto";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { SessiondError, type SessiondErrorReason } from "../error.js";
import type { CallOptions } from "../options.js";
import { dateFrom, duration, text } from "../rpc/fields.js";
import type { RpcCaller } from "../rpc/rpc-caller.js";
import { holdLease } from "./held-lease.js";

/** Options of `acquire`. */
export interface AcquireLockOptions extends CallOptions {
  /**
   * How long the lease lasts unless it is renewed, in milliseconds: at most an
   * hour. 30 000 by default: others wait no longer for a holder that died, and one
   * that lives has time for several renewals.
   */
  ttlMs?: number | undefined;

  /**
   * How long to wait for the lock, in milliseconds: at most an hour. 20 000 by
   * default; 0 tries once.
   */
  waitTimeoutMs?: number | undefined;

  /**
   * How long the call may take, in milliseconds. By default the client's
   * `timeoutMs` in addition to the wait.
   */
  timeoutMs?: number | undefined;
}

/** Options of `renew`. */
export interface RenewLockOptions extends CallOptions {
  /** How long the lease lasts from now on, in milliseconds; 30 000 when left out. */
  ttlMs?: number | undefined;
}

/** Options of `withLock`; `signal` cancels the wait, and after that aborts the work's signal. */
export interface WithLockOptions extends Omit<AcquireLockOptions, "timeoutMs"> {}

/** Names a lock and proves to hold it. */
export interface LockHandle {
  readonly name: string;

  /** A secret: whoever knows it can renew and release the lock. */
  readonly lockId: string;
}

/** A lock that was acquired. */
export interface HeldLock extends LockHandle {
  /**
   * Higher than that of every earlier holder. Give it along with what is written
   * under the lock; whoever takes it refuses one lower than the highest seen.
   */
  readonly fencingToken: number;

  /** When the lease ends unless it is renewed, by the server's clock. */
  readonly expireTime: Date;
}

/** What is known of a lock that somebody has. */
export type LockState = Omit<HeldLock, "lockId">;

/** What work under a lock is given. */
export interface LockedWork {
  /** As in `HeldLock`; `{ lock: name, token: fencingToken }` is a fence for `updateSession`. */
  readonly name: string;
  readonly fencingToken: number;

  /**
   * Aborts when the lock is lost, or must be taken to be: stop as soon as you can.
   * The reason is a SessiondError, LOCK_NOT_HELD.
   */
  readonly signal: AbortSignal;
}

const DEFAULT_TTL_MS = 30_000;
const DEFAULT_WAIT_TIMEOUT_MS = 20_000;

/** What a call can fail with that leaves open whether the lock was acquired. */
const UNKNOWN_OUTCOMES: ReadonlySet<SessiondErrorReason> = new Set([
  "DEADLINE_EXCEEDED",
  "CANCELED",
  "UNAVAILABLE",
  "STORE_UNAVAILABLE",
  "INTERNAL",
  "UNKNOWN",
]);

/**
 * Locks that all who call the same sessiond share: the `locks` of a
 * `SessionClient`.
 *
 * A lock is a lease and ends by itself. A process that was stopped or cut off
 * may go on although its lease is over; where that would do harm, write with
 * the fencing token, as `updateSession` does with `fence`.
 *
 * Every method rejects with a `SessiondError` and nothing else, `withLock` also with
 * what its work throws.
 */
export class LockClient {
  readonly #rpc: RpcCaller;

  /** @internal */
  constructor(rpc: RpcCaller) {
    this.#rpc = rpc;
  }

  /**
   * Does something while no one else does, and answers its result:
   *
   * ```ts
   * await client.locks.withLock("invoices", { ttlMs: 10_000 }, async ({ signal }) => …);
   * ```
   *
   * Renews the lease at a third of its ttl for as long as the work takes, and
   * gives the lock back when it is done, whatever came of it. Aborts the work's
   * `signal` once the lock is lost, or when no renewal was answered until shortly
   * before the lease ends: by this machine's clock, counted from before the last
   * renewal was sent.
   *
   * Fails with LOCK_TIMEOUT where the lock could not be had, and with LOCK_NOT_HELD
   * where it was lost before the work was done: it may then have been done beside another's.
   */
  async withLock<T>(
    name: string,
    options: WithLockOptions,
    work: (held: LockedWork) => T | Promise<T>,
  ): Promise<T> {
    const { ttlMs = DEFAULT_TTL_MS } = options;
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
      // Where it cannot be given back it ends by itself; that undoes no work.
      await this.release(lock).catch(() => {});
    }
  }

  /**
   * Takes a lock, and waits for it if another has it. Its lease ends by itself:
   * renew it, or use `withLock`, which does.
   *
   * Fails with LOCK_TIMEOUT where it could not be had in time. Made again when it
   * is not known whether it took effect, by a lock id that makes the second attempt
   * find what the first has done. Where it fails without an answer, the lock is given
   * back in case it was had.
   */
  async acquire(name: string, options: AcquireLockOptions = {}): Promise<HeldLock> {
    const { ttlMs = DEFAULT_TTL_MS, waitTimeoutMs = DEFAULT_WAIT_TIMEOUT_MS } = options;
    const handle = { name: text(name, "name"), lockId: randomUUID() };
    const waitUntilMs = performance.now() + waitTimeoutMs;
    const ttl = duration(ttlMs, "ttl");
    const request = () => {
      const waitMs = Math.max(0, waitUntilMs - performance.now());
      // As it was asked for where it cannot be right, for the server to refuse.
      const wait = waitTimeoutMs < 0 ? waitTimeoutMs : Math.min(waitTimeoutMs, Math.ceil(waitMs));
      return { ...handle, ttl, waitTimeout: duration(wait, "wait_timeout") };
    };
    const { timeoutMs = this.#rpc.timeoutMs + Math.max(0, waitTimeoutMs), signal } = options;
    try {
      const answer = await this.#rpc.call("acquireLock", request, { timeoutMs, signal });
      return { ...handle, lockId: answer.lockId, ...leaseFrom(answer) };
    } catch (error) {
      if (error instanceof SessiondError && UNKNOWN_OUTCOMES.has(error.reason)) {
        // In the background: whoever canceled does not wait for it.
        this.release(handle).catch(() => {});
      }
      throw error;
    }
  }

  /**
   * Lets the lease end one ttl from now. Fails with LOCK_NOT_HELD once it has
   * ended.
   */
  async renew(lock: LockHandle, options: RenewLockOptions = {}): Promise<HeldLock> {
    const { ttlMs = DEFAULT_TTL_MS, ...call } = options;
    const handle = handleFrom(lock);
    const request = { ...handle, ttl: duration(ttlMs, "ttl") };
    const answer = await this.#rpc.call("renewLock", request, call);
    return { ...handle, ...leaseFrom(answer) };
  }

  /**
   * Gives a lock back. Fails with LOCK_NOT_HELD where its lease has ended, also
   * when the answer to a first attempt, which gave it back, was lost.
   */
  async release(lock: LockHandle, options?: CallOptions): Promise<void> {
    await this.#rpc.call("releaseLock", handleFrom(lock), options);
  }

  /**
   * What is known of a lock, or undefined if nobody has it. By the time of the
   * answer it may be otherwise: to decide on it what to do is a race.
   */
  async get(name: string, options?: CallOptions): Promise<LockState | undefined> {
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
    // Below 2^53, as the contract has it.
    fencingToken: Number(answer.fencingToken),
    expireTime: dateFrom(answer.expireTime, "expire_time"),
  };
}
