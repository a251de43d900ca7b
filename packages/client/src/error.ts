import type { Any } from "@bufbuild/protobuf/wkt";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import type { Status } from "@sessiond/proto/google/rpc/status";

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

/**
 * The reason for an error that came without one this package knows: from a
 * newer server, or from a proxy in between.
 *
 * A code that could mean several reasons is UNKNOWN rather than a guess. Above
 * all, NOT_FOUND alone is not SESSION_NOT_FOUND: only sessiond itself says that
 * there is no session.
 */
const reasonByCode = {
  [Code.Canceled]: "CANCELED",
  [Code.Unknown]: "UNKNOWN",
  [Code.InvalidArgument]: "INVALID_ARGUMENT",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.NotFound]: "UNKNOWN",
  [Code.AlreadyExists]: "UNKNOWN",
  [Code.PermissionDenied]: "PERMISSION_DENIED",
  [Code.ResourceExhausted]: "UNKNOWN",
  [Code.FailedPrecondition]: "UNKNOWN",
  [Code.Aborted]: "UNKNOWN",
  [Code.OutOfRange]: "UNKNOWN",
  [Code.Unimplemented]: "UNKNOWN",
  [Code.Internal]: "INTERNAL",
  [Code.Unavailable]: "UNAVAILABLE",
  [Code.DataLoss]: "UNKNOWN",
  [Code.Unauthenticated]: "UNAUTHENTICATED",
} satisfies Record<Code, SessiondErrorReason>;

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

/** The error of one entry of a batch, as if its session had been asked for alone. */
export function errorFromStatus(status: Status): SessiondError {
  const error = new ConnectError(status.message, isCode(status.code) ? status.code : Code.Unknown);
  error.details = status.details.map((detail) => ({
    type: messageName(detail),
    value: detail.value,
  }));
  return answeredError(error) ?? undescribedError(error);
}

/** The error for whatever a transport threw. */
export function errorFromTransport(thrown: unknown): SessiondError {
  const error = ConnectError.from(thrown, Code.Internal);
  return answeredError(error) ?? lostConnection(error) ?? undescribedError(error);
}

/** The error that sessiond itself answered with, if it did: its ErrorInfo says so. */
function answeredError(error: ConnectError): SessiondError | undefined {
  const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "sessiond");
  if (info === undefined) {
    return undefined;
  }
  const { reason, metadata } = info;
  const details = { code: error.code, metadata, ...detailsOf(error) };
  return isReason(reason)
    ? new SessiondError(reason, error.rawMessage, details)
    : new SessiondError(reasonOf(error.code), `${error.rawMessage} (${reason})`, details);
}

/**
 * A connection that could not be made or broke, which connect-node reports in
 * several ways (tried with 2.2.0): CANCELED when an HTTP/2 connection closes
 * under a call, ABORTED when a socket is reset, INTERNAL with a Node.js error
 * as its cause for anything else. Whether the caller canceled is known before
 * this is asked, so here CANCELED is never the caller's doing.
 */
function lostConnection(error: ConnectError): SessiondError | undefined {
  const broke =
    error.code === Code.Canceled || error.code === Code.Aborted || hasNodeErrorCode(error);
  if (!broke) {
    return undefined;
  }
  return new SessiondError("UNAVAILABLE", networkMessage(error), { cause: error });
}

/** An error without a reason: from a proxy, or from this side of the wire. */
function undescribedError(error: ConnectError): SessiondError {
  return new SessiondError(reasonOf(error.code), networkMessage(error), {
    code: error.code,
    cause: error,
    ...detailsOf(error),
  });
}

function detailsOf(
  error: ConnectError,
): Pick<SessiondErrorOptions, "fieldViolations" | "retryAfterMs"> {
  const [retryInfo] = error.findDetails(RetryInfoSchema);
  const delay = retryInfo?.retryDelay;
  return {
    fieldViolations: error
      .findDetails(BadRequestSchema)
      .flatMap((badRequest) => badRequest.fieldViolations)
      .map(({ field, description }) => ({ field, description })),
    retryAfterMs: delay === undefined ? undefined : Math.max(0, durationMs(delay)),
  };
}

/** What happened, in words. Node.js gives an AggregateError no message of its own. */
function networkMessage(error: ConnectError): string {
  if (error.rawMessage !== "") {
    return error.rawMessage;
  }
  if (error.cause instanceof AggregateError) {
    return error.cause.errors.map((each) => (each instanceof Error ? each.message : "")).join("; ");
  }
  return Code[error.code] ?? "unknown error";
}

function hasNodeErrorCode(error: unknown): boolean {
  for (const each of causes(error)) {
    if ("code" in each && typeof each.code === "string") {
      return true;
    }
  }
  return false;
}

/** How many causes of causes are followed; real chains have two or three. */
const MAX_CAUSES = 8;

/** An error and its causes, outermost first. */
export function causes(error: unknown): Error[] {
  const chain: Error[] = [];
  let next = error;
  while (next instanceof Error && chain.length < MAX_CAUSES) {
    chain.push(next);
    next = next.cause;
  }
  return chain;
}

function isReason(reason: string): reason is SessiondErrorReason {
  return Object.hasOwn(codeByReason, reason);
}

function reasonOf(code: Code): SessiondErrorReason {
  return isCode(code) ? reasonByCode[code] : "UNKNOWN";
}

function isCode(code: number): code is Code {
  return Object.hasOwn(reasonByCode, code);
}

function messageName(detail: Any): string {
  return detail.typeUrl.slice(detail.typeUrl.lastIndexOf("/") + 1);
}
