import type { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import type { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import type { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import type { SessiondError } from "../error.js";
import { causes } from "./received-error.js";

type Methods = (typeof SessionService)["method"] &
  (typeof LockService)["method"] &
  (typeof RateLimitService)["method"];

/** An RPC with one answer, as its stub names it. No two services have one of the same name. */
export type UnaryMethod = {
  [M in keyof Methods]: Methods[M] extends { methodKind: "unary" } ? M : never;
}[keyof Methods];

/**
 * Whether a call may be made again when it is not known what became of it.
 *
 * - `repeatable`: doing it twice is as good as doing it once.
 * - `once`: a second one could do harm, so it is made again only when the first
 *   certainly changed nothing.
 */
type Repetition = "repeatable" | "once";

const repetitionByMethod = {
  // Its request id, which every creation has, makes a second one answer what the
  // first did.
  createSession: "repeatable",
  verifySession: "repeatable",
  batchVerifySessions: "repeatable",
  getSession: "repeatable",
  batchGetSessions: "repeatable",
  listSessions: "repeatable",
  countSessions: "repeatable",
  // Late, it would overwrite a newer update; with an etag it would report a
  // mismatch with the change it made itself.
  updateSession: "once",
  refreshSession: "repeatable",
  // The first call's new token would be lost, and the old one is dead.
  rotateSessionToken: "once",
  // A repeated revocation ends nothing more, but answers `false` or 0 where the
  // lost answer said otherwise.
  revokeSession: "repeatable",
  revokeUserSessions: "repeatable",
  // Its lock id, which is this package's own, makes a second one answer what the
  // first did.
  acquireLock: "repeatable",
  renewLock: "repeatable",
  // A repeated release gives nothing else back, but answers LOCK_NOT_HELD.
  releaseLock: "repeatable",
  getLock: "repeatable",
  // A second one might count a second time, and lock out who tried once.
  checkRateLimit: "once",
  getRateLimit: "repeatable",
  resetRateLimit: "repeatable",
} satisfies Record<UnaryMethod, Repetition>;

/** The first backoff is at most this long. */
const BASE_BACKOFF_MS = 100;

/** No backoff is longer than this, however many came before. */
const MAX_BACKOFF_MS = 1000;

/** Whether a call that failed with `error` may be made again. */
export function mayRetry(method: UnaryMethod, error: SessiondError): boolean {
  switch (error.reason) {
    case "OVERLOADED":
    case "ISSUER_UNAVAILABLE":
      // Turned away before anything was changed.
      return true;
    case "STORE_UNAVAILABLE":
      return repetitionByMethod[method] === "repeatable";
    case "UNAVAILABLE":
      return repetitionByMethod[method] === "repeatable" || wasNeverSent(error);
    default:
      return false;
  }
}

/**
 * How long to wait before the next attempt, in milliseconds: exponential backoff
 * with full jitter, on top of what the server asked for.
 *
 * Full jitter, because callers that failed together must not come back together
 * (Brooker, "Exponential Backoff And Jitter", 2015).
 *
 * @param failures how many attempts have failed so far, at least 1
 * @param random from 0 to below 1
 */
export function backoffMs(failures: number, error: SessiondError, random: number): number {
  const ceilingMs = Math.min(MAX_BACKOFF_MS, BASE_BACKOFF_MS * 2 ** (failures - 1));
  return (error.retryAfterMs ?? 0) + random * ceilingMs;
}

/**
 * Whether the request certainly never left this machine: no address was found,
 * or no connection was made. Node.js names the system call that failed; a
 * request is written only after `connect` succeeded. Where several addresses
 * were tried, each of them must have failed so.
 */
function wasNeverSent(error: SessiondError): boolean {
  return causes(error).some(
    (cause) =>
      isConnectFailure(cause) ||
      (cause instanceof AggregateError &&
        cause.errors.length > 0 &&
        cause.errors.every(isConnectFailure)),
  );
}

function isConnectFailure(error: unknown): boolean {
  return (
    error instanceof Error &&
    "syscall" in error &&
    (error.syscall === "connect" || error.syscall === "getaddrinfo")
  );
}
