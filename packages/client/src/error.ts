import { Code } from "@connectrpc/connect";

/** The Connect code of each reason. */
export const codeByReason = {
  // Sent by the server. `SessionService` in `sessiond/v1/session_service.proto` explains each.
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
  // This package's own, for failures that no server described:
  /** The `token` function failed or took too long, so nothing was sent. */
  TOKEN_UNAVAILABLE: Code.Unavailable,
  /** No answer within the call's timeout. The server may or may not have made the change. */
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  /** The caller's `signal` was aborted, or the client closed. */
  CANCELED: Code.Canceled,
  /** The server was not reached, or the connection was lost before it answered. */
  UNAVAILABLE: Code.Unavailable,
  /** A fault of the server, or an answer that breaks the contract. */
  INTERNAL: Code.Internal,
  /** Anything else, such as a reason that only a newer server knows; see `code`. */
  UNKNOWN: Code.Unknown,
} satisfies Record<string, Code>;

/** Why a call failed. The set is closed, so the compiler can check that a `switch` is complete. */
export type SessiondErrorReason = keyof typeof codeByReason;

/**
 * The HTTP status of each reason: what a web application answers to its own client.
 *
 * A fault between the application and sessiond is no fault of the application's client. So a
 * missing permission of the application is 500 and never 403, an overloaded sessiond is 503 and
 * never 429, and 401 says only that the user must log in.
 */
export const httpStatusByReason = {
  SESSION_NOT_FOUND: 401,
  INVALID_ARGUMENT: 400,
  SESSION_ALREADY_EXISTS: 409,
  REQUEST_ID_REUSED: 409,
  ETAG_MISMATCH: 409,
  // Waiting does not help, but to log out elsewhere does.
  SESSION_LIMIT_REACHED: 409,
  LOCK_TIMEOUT: 503,
  LOCK_NOT_HELD: 409,
  SESSION_UNREADABLE: 500,
  UNAUTHENTICATED: 500,
  PERMISSION_DENIED: 500,
  ISSUER_UNAVAILABLE: 503,
  STORE_UNAVAILABLE: 503,
  OVERLOADED: 503,
  TOKEN_UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
  // The client of the application has gone, or the application stops.
  CANCELED: 503,
  UNAVAILABLE: 503,
  INTERNAL: 500,
  UNKNOWN: 500,
} satisfies Record<SessiondErrorReason, number>;

/** One field of a request that was refused. */
export interface FieldViolation {
  /** The field as the RPC contract names it, such as `idle_timeout`. */
  readonly field: string;
  readonly description: string;
}

/** What an error has besides its reason and message. */
export interface SessiondErrorOptions extends ErrorOptions {
  /** Default: the code of the reason. */
  readonly code?: Code | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly fieldViolations?: readonly FieldViolation[] | undefined;
  readonly retryAfterMs?: number | undefined;
}

/**
 * The only error class of this package: every method rejects with it and with nothing else.
 * Neither its message nor its fields contain a token.
 */
export class SessiondError extends Error {
  override readonly name = "SessiondError";

  readonly reason: SessiondErrorReason;

  /** The Connect code, which is also the gRPC status code. */
  readonly code: Code;

  /**
   * The HTTP status that a web application answers to its own client when it fails because of this
   * error: 401 if the user must log in, 400 or 409 if the request is at fault, 503 or 504 if a
   * later attempt may succeed, otherwise 500. The message is for the application, not for its
   * client.
   */
  readonly httpStatus: number;

  /** Facts for programs, sent by the server. */
  readonly metadata: Readonly<Record<string, string>>;

  /** The fields that were refused. Empty unless the reason is INVALID_ARGUMENT. */
  readonly fieldViolations: readonly FieldViolation[];

  /** How long the server asks to wait before trying again, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  /**
   * `options.cause` is what the connection or the `token` function threw. An error that the
   * server described in full has no cause.
   */
  constructor(reason: SessiondErrorReason, message: string, options: SessiondErrorOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.reason = reason;
    this.code = options.code ?? codeByReason[reason];
    this.httpStatus = httpStatusByReason[reason];
    this.metadata = options.metadata ?? {};
    this.fieldViolations = options.fieldViolations ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Arguments whose name differs from the contract's in more than the camel case. */
const RENAMED_ARGUMENTS: ReadonlyMap<string, string> = new Map([
  ["idle_timeout", "idleTimeoutMs"],
  ["lifetime", "lifetimeMs"],
  ["update_mask", "update"],
  ["read_mask", "fields"],
  ["ttl", "ttlMs"],
  ["wait_timeout", "waitTimeoutMs"],
  ["grace", "graceMs"],
  ["order_by", "order"],
]);

/** In the paths of these fields, what follows is a key of the data, which the caller chose. */
const DATA_PATH = /^((?:set_|delete_)?data)([.[].*)$/s;

/**
 * Refuses an argument before it is sent. `field` is the contract's name for it, as in the
 * server's own refusals, so that programs need to know only one name. The message is for the
 * author of the call and uses the name in this package.
 */
export function invalidArgument(field: string, description: string): SessiondError {
  return new SessiondError("INVALID_ARGUMENT", `${argumentName(field)}: ${description}`, {
    fieldViolations: [{ field, description }],
  });
}

function argumentName(field: string): string {
  const [, head, keys] = DATA_PATH.exec(field) ?? [];
  if (head !== undefined) return `${argumentName(head)}${keys}`;
  const camelCase = field.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return RENAMED_ARGUMENTS.get(field) ?? camelCase;
}

/** The error for an answer that breaks the contract. Nothing in such an answer is reliable. */
export function malformedAnswer(description: string): SessiondError {
  return new SessiondError("INTERNAL", `the server's answer is malformed: ${description}`);
}

/** The kind of a value, for messages. Never the value itself, which may be a secret. */
export function nameOf(value: unknown): string {
  if (typeof value === "number" && !Number.isFinite(value)) {
    return Number.isNaN(value) ? "NaN" : "an infinite number";
  }
  if (value === null) return "null";
  return typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
}
