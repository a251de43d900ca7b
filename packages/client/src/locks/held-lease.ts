import { SessiondError } from "../error.js";
import { sleep } from "../rpc/sleep.js";

/** The lease to keep. All times are of this machine's `performance.now()`. */
export interface LeaseOptions {
  readonly name: string;
  readonly ttlMs: number;
  /** When the caller asked for the lease. It began then or later. */
  readonly askedMs: number;
  /** Renews the lease for another ttl. */
  readonly renew: (call: {
    readonly timeoutMs: number;
    readonly signal: AbortSignal;
  }) => Promise<unknown>;
}

/** A lease that `holdLease` keeps. */
export interface HeldLease {
  /** Resolves once the lease certainly lasts a while. Rejects if it is lost already. */
  readonly begun: Promise<void>;
  /** Aborts once the lease is lost, or may be lost. The reason is LOCK_NOT_HELD. */
  readonly lost: AbortSignal;
  throwIfLost(): void;
  /** Ends the renewals. */
  stop(): void;
}

/** We renew the lease after this part of it, so that two renewals may fail without harm. */
const RENEW_AT = 1 / 3;

/**
 * We count the lease as lost this part of it before its end, because work under the lease needs
 * time to stop and no two clocks have the same speed.
 */
const MARGIN = 1 / 10;
const MAX_MARGIN_MS = 5_000;

/** How long a renewal may take before we try another, as a part of the lease. */
const RENEWAL_TIMEOUT = 1 / 3;
/** The pause after a failed renewal, as a part of the lease. */
const PAUSE = 1 / 30;
const MAX_PAUSE_MS = 1_000;

/** Keeps a lease until `stop`, or until it is lost. */
export function holdLease({ name, ttlMs, askedMs, renew }: LeaseOptions): HeldLease {
  const lost = new AbortController();
  const stopped = new AbortController();
  const ended = AbortSignal.any([lost.signal, stopped.signal]);
  const marginMs = Math.min(ttlMs * MARGIN, MAX_MARGIN_MS);
  let expiry = new AbortController();
  let validUntilMs = 0;

  const lose = (cause: unknown) => {
    expiry.abort();
    lost.abort(leaseLost(name, cause));
  };
  let failure: unknown;
  const extend = (sinceMs: number) => {
    validUntilMs = sinceMs + ttlMs - marginMs;
    expiry.abort();
    expiry = new AbortController();
    sleep(validUntilMs - performance.now(), expiry.signal).then(
      () => lose(failure),
      () => {},
    );
  };

  /** Renews until a renewal works, the lease is lost, or nobody needs it any more. */
  const renewOnce = async () => {
    while (!ended.aborted) {
      const sentMs = performance.now();
      // After a stop of the process this may run before the timer.
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
    // After a long wait for the lock we do not know when the lease began. For a renewal we do.
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
  // The caller gets a failure from `begun` itself.
  begun.then(keep).catch(() => {});
  return {
    begun,
    lost: lost.signal,
    throwIfLost: () => {
      // After a stop of the process the timer may be late.
      if (performance.now() >= validUntilMs) lose(failure);
      lost.signal.throwIfAborted();
    },
    stop: () => {
      expiry.abort();
      stopped.abort();
    },
  };
}

/** Whether another renewal would fail the same way. */
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
  await sleep(ms, signal).catch(() => {});
}
