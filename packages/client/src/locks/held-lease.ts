import { setTimeout as sleep } from "node:timers/promises";
import { SessiondError } from "../error.js";

/** What keeps a lease. All times are of this machine's `performance.now()`. */
export interface LeaseOptions {
  readonly name: string;
  readonly ttlMs: number;
  /** When the lease was asked for. It began then or later. */
  readonly askedMs: number;
  /** Renews the lease for another ttl. */
  readonly renew: (call: {
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  }) => Promise<unknown>;
}

/** A lease that is being kept. */
export interface HeldLease {
  /** Resolves once the lease is known to last a while; rejects where it is lost already. */
  readonly begun: Promise<void>;
  /** Aborts once the lease is lost, or must be taken to be; the reason is LOCK_NOT_HELD. */
  readonly lost: AbortSignal;
  throwIfLost(): void;
  /** Renews no more. */
  stop(): void;
}

/** The lease is renewed when this part of it is over: two renewals may fail without harm. */
const RENEW_AT = 1 / 3;

/**
 * The lease is taken to be lost this part of it before its end: what runs
 * under it needs time to stop, and no two clocks run equally fast.
 */
const MARGIN = 1 / 10;
const MAX_MARGIN_MS = 5_000;

/** How long a renewal may take before another is tried, at most this part of the lease. */
const RENEWAL_TIMEOUT = 1 / 3;
/** The rest between renewals that fail, at most this part of the lease. */
const PAUSE = 1 / 30;
const MAX_PAUSE_MS = 1_000;

/** Keeps a lease until `stop`, or until it is lost. */
export function holdLease({ name, ttlMs, askedMs, renew }: LeaseOptions): HeldLease {
  const lost = new AbortController();
  const stopped = new AbortController();
  const ended = AbortSignal.any([lost.signal, stopped.signal]);
  const marginMs = Math.min(ttlMs * MARGIN, MAX_MARGIN_MS);
  let expiry: NodeJS.Timeout | undefined;
  let validUntilMs = 0;

  const lose = (cause: unknown) => {
    clearTimeout(expiry);
    lost.abort(leaseLost(name, cause));
  };
  let failure: unknown;
  const extend = (sinceMs: number) => {
    validUntilMs = sinceMs + ttlMs - marginMs;
    clearTimeout(expiry);
    expiry = setTimeout(() => lose(failure), validUntilMs - performance.now());
  };

  /** Renews until it works. Leaves off where the lease is lost, or not needed any more. */
  const renewOnce = async () => {
    while (!ended.aborted) {
      const sentMs = performance.now();
      // Also after the process was stopped, when this may come before the timer.
      if (sentMs >= validUntilMs) return lose(failure);
      const timeoutMs = Math.min(validUntilMs - sentMs, ttlMs * RENEWAL_TIMEOUT);
      try {
        await renew({ timeoutMs: Math.max(1, timeoutMs), signal: ended });
        return extend(sentMs);
      } catch (error) {
        if (isFinal(error)) return lose(error);
        failure = error;
      }
      await pause(Math.min(ttlMs * PAUSE, MAX_PAUSE_MS), ended);
    }
  };

  const begin = async () => {
    const tookMs = performance.now() - askedMs;
    if (tookMs < ttlMs * RENEW_AT) return extend(askedMs);
    // When in that time it began is not known, after a long wait for the lock. A renewal's
    // beginning is.
    validUntilMs = performance.now() + ttlMs - marginMs;
    await renewOnce();
    lost.signal.throwIfAborted();
  };

  const keep = async () => {
    while (!ended.aborted) {
      const renewAtMs = validUntilMs + marginMs - ttlMs * (1 - RENEW_AT);
      await pause(renewAtMs - performance.now(), ended);
      await renewOnce();
    }
  };

  const begun = begin();
  // Its failure is that of `begun`.
  begun.then(keep).catch(() => {});
  return {
    begun,
    lost: lost.signal,
    throwIfLost: () => {
      // The timer may be late, as after the process was stopped.
      if (performance.now() >= validUntilMs) lose(failure);
      lost.signal.throwIfAborted();
    },
    stop: () => {
      clearTimeout(expiry);
      stopped.abort();
    },
  };
}

/** Whether there is no point in trying once more. */
function isFinal(error: unknown): boolean {
  if (!(error instanceof SessiondError)) return true;
  return error.reason === "LOCK_NOT_HELD" || error.reason === "INVALID_ARGUMENT";
}

function leaseLost(name: string, cause: unknown): SessiondError {
  const isSaid = cause instanceof SessiondError && cause.reason === "LOCK_NOT_HELD";
  const why = isSaid ? "its lease has ended" : "its lease could not be renewed in time";
  return new SessiondError("LOCK_NOT_HELD", `the lock ${JSON.stringify(name)} is lost: ${why}`, {
    cause,
  });
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(Math.max(0, ms), undefined, { signal }).catch(() => {});
}
