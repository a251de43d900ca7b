import { Code } from "@connectrpc/connect";

/**
 * Why a call failed: a closed set, so that a `switch` over it can be checked
 * for completeness.
 *
 * The first group is sent by the server; what each means stands at
 * `SessionService` in `sessiond/v1/session_service.proto`. The second group is
 * this package's own, for failures that no server described.
 */
export type SessiondErrorReason =
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
  | "OVERLOADED"
  // This package's own:
  /** No answer within the call's timeout. Whether a change was made is not known. */
  | "DEADLINE_EXCEEDED"
  /** The caller's `signal` was aborted, or the client closed. */
  | "CANCELED"
  /** The server was not reached, or the connection was lost before it answered. */
  | "UNAVAILABLE"
  /** A fault of the server, or an answer that breaks the contract. */
  | "INTERNAL"
  /** Anything else, such as a reason that only a newer server knows; see `code`. */
  | "UNKNOWN";

/** The Connect code that belongs to each reason. */
export const codeByReason = {
  SESSION_NOT_FOUND: Code.NotFound,
  INVALID_ARGUMENT: Code.InvalidArgument,
  SESSION_ALREADY_EXISTS: Code.AlreadyExists,
  REQUEST_ID_REUSED: Code.AlreadyExists,
  ETAG_MISMATCH: Code.Aborted,
  SESSION_LIMIT_REACHED: Code.ResourceExhausted,
  LOCK_TIMEOUT: Code.DeadlineExceeded,
  LOCK_NOT_HELD: Code.FailedPrecondition,
  SESSION_UNREADABLE: Code.DataLoss,
  UNAUTHENTICATED: Code.Unauthenticated,
  PERMISSION_DENIED: Code.PermissionDenied,
  ISSUER_UNAVAILABLE: Code.Unavailable,
  STORE_UNAVAILABLE: Code.Unavailable,
  OVERLOADED: Code.ResourceExhausted,
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  CANCELED: Code.Canceled,
  UNAVAILABLE: Code.Unavailable,
  INTERNAL: Code.Internal,
  UNKNOWN: Code.Unknown,
} satisfies Record<SessiondErrorReason, Code>;

/** One field of a request that was refused. */
export interface FieldViolation {
  /** The field as the RPC contract names it, such as `idle_timeout`. */
  readonly field: string;
  readonly description: string;
}

/** What goes with an error, besides its reason and message. */
export interface SessiondErrorOptions extends ErrorOptions {
  /** The code that belongs to the reason when unset. */
  readonly code?: Code | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly fieldViolations?: readonly FieldViolation[] | undefined;
  readonly retryAfterMs?: number | undefined;
}

/**
 * The one error class of this package: every method rejects with it and with
 * nothing else. Neither its message nor its fields contain a token.
 */
export class SessiondError extends Error {
  override readonly name = "SessiondError";

  readonly reason: SessiondErrorReason;

  /** The Connect code, which is also the gRPC status code. */
  readonly code: Code;

  /** Facts for machines that the server sent along. */
  readonly metadata: Readonly<Record<string, string>>;

  /** The fields that were refused, with reason INVALID_ARGUMENT; otherwise empty. */
  readonly fieldViolations: readonly FieldViolation[];

  /** How long the server asks to wait before trying again, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  /**
   * `options.cause` is what the connection or the `token` function threw. An
   * error that the server described in full has none.
   */
  constructor(reason: SessiondErrorReason, message: string, options: SessiondErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.reason = reason;
    this.code = options.code ?? codeByReason[reason];
    this.metadata = options.metadata ?? {};
    this.fieldViolations = options.fieldViolations ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** What this package calls the fields of the contract that it has under another name. */
const argumentNames: ReadonlyMap<string, string> = new Map([
  ["user_id", "userId"],
  ["session_id", "sessionId"],
  ["session_ids", "sessionIds"],
  ["except_session_id", "exceptSessionId"],
  ["request_id", "requestId"],
  ["display_name", "displayName"],
  ["client.user_agent", "client.userAgent"],
  ["idle_timeout", "idleTimeoutMs"],
  ["lifetime", "lifetimeMs"],
  ["update_mask", "update"],
  ["read_mask", "fields"],
  ["page_size", "pageSize"],
  ["page_token", "pageToken"],
  ["filter.create_time_from", "filter.createTimeFrom"],
  ["filter.create_time_to", "filter.createTimeTo"],
  ["filter.last_access_time_from", "filter.lastAccessTimeFrom"],
  ["filter.last_access_time_to", "filter.lastAccessTimeTo"],
  ["resume_token", "resumeToken"],
  ["lock_id", "lockId"],
  ["ttl", "ttlMs"],
  ["wait_timeout", "waitTimeoutMs"],
]);

/**
 * Refuses an argument before it is sent. `field` is the name the RPC contract
 * has for it, so that programs find an argument under one name whoever refuses
 * it. The message is for whoever wrote the call, and has the name used there.
 */
export function invalidArgument(field: string, description: string): SessiondError {
  return new SessiondError("INVALID_ARGUMENT", `${argumentName(field)}: ${description}`, {
    fieldViolations: [{ field, description }],
  });
}

function argumentName(field: string): string {
  const [name = ""] = field.split("[", 1);
  return `${argumentNames.get(name) ?? name}${field.slice(name.length)}`;
}

/** For an answer that breaks the contract. Nothing in it can be relied on. */
export function malformedAnswer(description: string): SessiondError {
  return new SessiondError("INTERNAL", `the server's answer is malformed: ${description}`);
}

/** The kind of a value, for messages: never the value itself. */
export function nameOf(value: unknown): string {
  if (typeof value === "number" && !Number.isFinite(value)) {
    return Number.isNaN(value) ? "NaN" : "an infinite number";
  }
  if (value === null) {
    return "null";
  }
  return typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
}
