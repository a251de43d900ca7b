import { NotProcessedError } from "@sessiond/connect-grpc-js";
import type { SessiondError } from "../error.js";
import type { UnaryMethod } from "./methods.js";
import { causes } from "./received-error.js";

/**
 * Whether a call may be made again when its outcome is unknown. A second `repeatable` call does
 * no harm. A second `once` call could, so we repeat it only if the first certainly changed nothing.
 */
type Repetition = "repeatable" | "once";

const repetitionByMethod = {
  // Every creation has a request id, so a second call answers what the first one did.
  createSession: "repeatable",
  verifySession: "repeatable",
  batchVerifySessions: "repeatable",
  getSession: "repeatable",
  batchGetSessions: "repeatable",
  listSessions: "repeatable",
  countSessions: "repeatable",
  // A late second call would overwrite a newer update. With an etag it would report a mismatch
  // with the change that the first call made.
  updateSession: "once",
  refreshSession: "repeatable",
  // Every rotation has a request id, too.
  rotateSessionToken: "repeatable",
  // A second revocation ends nothing more, but answers `false` or 0 where the lost answer did not.
  revokeSession: "repeatable",
  revokeUserSessions: "repeatable",
  // This package makes the lock id, so a second call answers what the first one did.
  acquireLock: "repeatable",
  renewLock: "repeatable",
  // A second release gives nothing else back, but answers LOCK_NOT_HELD.
  releaseLock: "repeatable",
  getLock: "repeatable",
  // A second check might count twice, and lock out a user who tried once.
  checkRateLimit: "once",
  getRateLimit: "repeatable",
  resetRateLimit: "repeatable",
} satisfies Record<UnaryMethod, Repetition>;

/** The first backoff is at most this long. */
const BASE_BACKOFF_MS = 100;

/** No backoff is longer than this. */
const MAX_BACKOFF_MS = 1000;

/** Until this long after its start, a call that no server took is retried without counting attempts. */
const UNTAKEN_MS = 1000;

/** Whether a call that failed with `error` may be made again. */
export function mayRetry(method: UnaryMethod, error: SessiondError): boolean {
  switch (error.reason) {
    case "OVERLOADED":
    case "ISSUER_UNAVAILABLE":
      // The server refused the call before it changed anything.
      return true;
    case "TOKEN_UNAVAILABLE":
      // Nothing was sent.
      return true;
    case "STORE_UNAVAILABLE":
      return repetitionByMethod[method] === "repeatable";
    case "UNAVAILABLE":
      return repetitionByMethod[method] === "repeatable" || wasNotProcessed(error);
    default:
      return false;
  }
}

/**
 * Whether a failed attempt does not count against `maxAttempts`: no server took the call, and the call
 * began less than a second ago. A server that restarts is back by then, and an attempt takes none of
 * that time: while grpc-js waits before it connects again, all attempts fail at once.
 */
export function isUntaken(error: SessiondError, elapsedMs: number): boolean {
  return elapsedMs < UNTAKEN_MS && error.reason === "UNAVAILABLE" && wasNotProcessed(error);
}

/**
 * The wait before the next attempt, in milliseconds: what the server asked for, plus exponential
 * backoff with full jitter, so that callers that failed together do not come back together
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
 * Whether the server certainly did not see the request. The transport for gRPC says so. Others have
 * errors of Node.js: it names the system call that failed, and writes a request only after `connect`
 * succeeded. If it tried several addresses, every attempt must have failed this way. A server refuses
 * the streams that a connection opens after the server said GOAWAY (RFC 9113, 8.7): it is about to
 * stop, or the connection is old.
 */
function wasNotProcessed(error: SessiondError): boolean {
  return causes(error).some(
    (cause) =>
      cause instanceof NotProcessedError ||
      isConnectFailure(cause) ||
      isRefusedStream(cause) ||
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

function isRefusedStream(error: Error): boolean {
  const isOfStream = "code" in error && error.code === "ERR_HTTP2_STREAM_ERROR";
  return isOfStream && error.message.endsWith("NGHTTP2_REFUSED_STREAM");
}
