import { SessiondError, type SessiondErrorReason } from "@sessiond/client";
import { retryAfter, statusByReason, WebError } from "./web-error.js";

/** `Retry-After` if sessiond named no time: a server that restarts is back by then. */
const DEFAULT_RETRY_AFTER_MS = 2_000;

/** The `WebError` for an error of the SDK. Undefined for any other. */
export function webErrorFrom(cause: unknown, { isPage = false } = {}): WebError | undefined {
  if (!(cause instanceof SessiondError)) return undefined;
  const { reason, retryAfterMs = DEFAULT_RETRY_AFTER_MS } = cause;
  const headers = statusByReason[reason] === 503 ? retryAfter(retryAfterMs) : {};
  return new WebError(reason, { cause, headers, isPage });
}

/** Whether it is the SDK's error of this reason. */
export function isReason(error: unknown, reason: SessiondErrorReason): boolean {
  return error instanceof SessiondError && error.reason === reason;
}
