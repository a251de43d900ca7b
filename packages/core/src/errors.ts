/**
 * Why a call failed: a closed set, sent as the reason of a `google.rpc.ErrorInfo`.
 * `proto/sessiond/v1/session_service.proto` explains each reason at `SessionService`.
 */
export type ErrorReason =
  | "SESSION_NOT_FOUND"
  | "INVALID_ARGUMENT"
  | "SESSION_ALREADY_EXISTS"
  | "REQUEST_ID_REUSED"
  | "ETAG_MISMATCH"
  | "SESSION_LIMIT_REACHED"
  | "LOCK_TIMEOUT"
  | "LOCK_NOT_HELD"
  | "SESSION_UNREADABLE"
  | "UNAUTHENTICATED"
  | "PERMISSION_DENIED"
  | "ISSUER_UNAVAILABLE"
  | "STORE_UNAVAILABLE"
  | "OVERLOADED";

/** Details of an error. */
export interface SessiondErrorOptions extends ErrorOptions {
  /** Facts for machines, sent to the caller. Never a secret, never session data. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Which of a reason's causes it was: a word out of a closed set, for metrics. Not sent. */
  readonly detail?: string;
  /** When the caller may try again, in ms, where that is known. */
  readonly retryAfterMs?: number | undefined;
}

/** What can be full when a call is refused with OVERLOADED: the error's `detail`. */
export const SHED_DETAILS = [
  /** Too many calls are under way. */
  "in_flight",
  /** Too many calls of one caller are under way. */
  "caller_in_flight",
  /** The caller has used up its quota of calls. */
  "caller_quota",
  /** The caller has used too many names of locks and keys of rate limits. */
  "caller_names",
  /** The store has no room for more. */
  "store_full",
  /** Too many servers update one session at once. */
  "update_conflicts",
  /** All places for watches are taken. */
  "watches",
  /** A watcher reads too slowly. */
  "slow_watcher",
  /** All places for calls that wait for locks are taken. */
  "lock_waiters",
] as const;

/** The one error class of this package. The message is meant for the caller. */
export class SessiondError extends Error {
  override readonly name = "SessiondError";
  readonly reason: ErrorReason;
  readonly metadata: Readonly<Record<string, string>>;
  readonly detail: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(reason: ErrorReason, message: string, options: SessiondErrorOptions = {}) {
    super(message, options);
    this.reason = reason;
    this.metadata = options.metadata ?? {};
    this.detail = options.detail;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/**
 * The same answer for a missing, expired or revoked session and for a wrong or malformed token, so
 * that a caller cannot tell them apart.
 */
export function sessionNotFound(): SessiondError {
  return new SessiondError("SESSION_NOT_FOUND", "session not found");
}

/** The chosen id belongs to a session that is active or still within its retention. */
export function sessionAlreadyExists(): SessiondError {
  return new SessiondError("SESSION_ALREADY_EXISTS", "session_id: a session with this id exists");
}

/** The request id was used before, for something else. Nothing was changed. */
export function requestIdReused(): SessiondError {
  return new SessiondError(
    "REQUEST_ID_REUSED",
    "request_id: it was used before, for a request with other contents",
  );
}

/** The user has as many active sessions as the policy `reject` allows. */
export function sessionLimitReached(maxSessionsPerUser: number): SessiondError {
  return new SessiondError(
    "SESSION_LIMIT_REACHED",
    `the user has ${maxSessionsPerUser} active sessions already, which is the limit`,
  );
}

/** The lock did not become free while the caller waited. */
export function lockTimeout(): SessiondError {
  return new SessiondError("LOCK_TIMEOUT", "the lock is held by another");
}

/** The caller does not hold the lock, or not any more. */
export function lockNotHeld(
  description = "its lease has ended, or it was released",
): SessiondError {
  return new SessiondError("LOCK_NOT_HELD", `the lock is not held: ${description}`);
}

/** A session that moves in would have ended already, by one of its times. Nothing was changed. */
export function movedInTooLate(field: "create_time" | "expire_time"): SessiondError {
  const expected = {
    create_time: "expected a session whose lifetime, counted from create_time, is not over",
    expire_time: "expected a time in the future",
  };
  return invalidArgument(field, expected[field]);
}

/** The session has the tokens of as many locks as it may. Nothing was changed. */
export function tooManyFences(maxFences: number): SessiondError {
  return invalidArgument(
    "fence.lock",
    `the session was updated under ${maxFences} other locks, which is the limit`,
  );
}

/** The store has no room for more. Nothing was changed. */
export function storeFull(cause?: unknown): SessiondError {
  return overloaded("store_full", "the session store is full", { cause });
}

/** Refuses a call because something is full. */
export function overloaded(
  detail: (typeof SHED_DETAILS)[number],
  message: string,
  options: Pick<SessiondErrorOptions, "cause" | "retryAfterMs"> = {},
): SessiondError {
  return new SessiondError("OVERLOADED", message, { detail, ...options });
}

/** Refuses a field of a request: `invalidArgument("page_size", "expected at most 1000")`. */
export function invalidArgument(field: string, description: string): SessiondError {
  return new SessiondError("INVALID_ARGUMENT", `${field}: ${description}`, {
    metadata: { field, description },
  });
}

/** The store gave no usable answer. Nobody knows whether the change was made. */
export function storeUnavailable(description: string, cause?: unknown): SessiondError {
  const message = `the session store is unavailable: ${description}`;
  return new SessiondError("STORE_UNAVAILABLE", message, { cause });
}

/**
 * The result of `task`, or its error. For batches: one failed entry must not fail the others, but
 * an unavailable store fails all of them.
 */
export async function settle<T>(task: () => T | Promise<T>): Promise<T | SessiondError> {
  try {
    return await task();
  } catch (error) {
    if (error instanceof SessiondError && error.reason !== "STORE_UNAVAILABLE") return error;
    throw error;
  }
}

const MAX_QUOTED_LENGTH = 64;

/**
 * A caller's text for a message, quoted and cut. gRPC sends messages in a header, and a header that
 * is too long for the client ends its whole connection.
 */
export function quote(text: string, maxLength: number = MAX_QUOTED_LENGTH): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return JSON.stringify(cut.toWellFormed());
}

const LOGIN = /:\/\/.*@/s;
/** Texts that may be keys or tokens: long, and of the characters of base64 and percent-encoding. */
const LONG_WORD = /[\w+/=~%-]{16,}/g;
/** Words of people hardly ever have these. */
const NOT_SPELT = /[\d+=~%]|[A-Z]{2}/;

/**
 * A text for a message, without what may be a secret in the wrong place: the login of a URL, and
 * long words with digits or several capitals in a row. Of such a word, only the length is told.
 */
export function withoutSecrets(text: string): string {
  return text
    .replace(LOGIN, "://[login]@")
    .replace(LONG_WORD, (word) => (NOT_SPELT.test(word) ? `[${word.length} characters]` : word));
}
