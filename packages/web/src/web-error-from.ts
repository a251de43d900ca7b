import { SessiondError } from "@sessiond/client";
import { statusByReason, WebError } from "./web-error.js";

/** `Retry-After` if sessiond named no time: a server that restarts is back by then. */
const DEFAULT_RETRY_AFTER_MS = 2_000;

/** The `WebError` for an error of the SDK. Undefined for any other. */
export function webErrorFrom(cause: unknown, { isPage = false } = {}): WebError | undefined {
  if (!(cause instanceof SessiondError)) return undefined;
  const { reason, retryAfterMs = DEFAULT_RETRY_AFTER_MS } = cause;
  const seconds = Math.max(1, Math.ceil(retryAfterMs / 1000));
  const headers = statusByReason[reason] === 503 ? { "Retry-After": String(seconds) } : {};
  return new WebError(reason, { cause, headers, isPage });
}
