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
]);

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
  // The keys in the data are the caller's own.
  if (field.includes("data.")) return field;
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
