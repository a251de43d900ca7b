import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import type { Status } from "@sessiond/proto/google/rpc/status";
import {
  codeByReason,
  SessiondError,
  type SessiondErrorOptions,
  type SessiondErrorReason,
} from "../error.js";
import { connectionHint } from "./connection-hint.js";

/**
 * The reason for an error without one that this package knows, as from a newer server or a proxy.
 *
 * A code that could mean several reasons is UNKNOWN; we do not guess. NOT_FOUND alone is not
 * SESSION_NOT_FOUND: only sessiond itself may say that a session does not exist.
 */
const reasonByCode: Readonly<Partial<Record<Code, SessiondErrorReason>>> = {
  [Code.Canceled]: "CANCELED",
  [Code.InvalidArgument]: "INVALID_ARGUMENT",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.PermissionDenied]: "PERMISSION_DENIED",
  [Code.Internal]: "INTERNAL",
  [Code.Unavailable]: "UNAVAILABLE",
  [Code.Unauthenticated]: "UNAUTHENTICATED",
};

/** The error of one entry of a batch: the same as if the call had been for this entry alone. */
export function errorFromStatus(status: Status): SessiondError {
  const error = connectErrorFrom(status);
  return answeredError(error) ?? undescribedError(error);
}

/** The error that a transport throws for this status. */
export function connectErrorFrom(status: Status): ConnectError {
  const code: Code = status.code in Code ? status.code : Code.Unknown;
  const error = new ConnectError(status.message, code);
  error.details = status.details.map((detail) => ({
    type: detail.typeUrl.slice(detail.typeUrl.lastIndexOf("/") + 1),
    value: detail.value,
  }));
  return error;
}

/**
 * The error for what a transport threw.
 *
 * @param isFirstContact whether the server has answered no call yet. Default: it has.
 */
export function errorFromTransport(thrown: unknown, isFirstContact = false): SessiondError {
  const error = ConnectError.from(thrown, Code.Internal);
  const answered = answeredError(error);
  if (answered !== undefined) return answered;
  const hint = connectionHint(causes(error), isFirstContact);
  return lostConnection(error, hint) ?? undescribedError(error, hint);
}

/** The error that sessiond answered with. Undefined if no ErrorInfo says that sessiond did. */
function answeredError(error: ConnectError): SessiondError | undefined {
  const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "sessiond");
  if (info === undefined) return undefined;
  const { reason, metadata } = info;
  const details = { code: error.code, metadata, ...detailsOf(error) };
  return isReason(reason)
    ? new SessiondError(reason, error.rawMessage, details)
    : new SessiondError(reasonOf(error.code), `${error.rawMessage} (${reason})`, details);
}

/**
 * The error of a connection that failed or broke. connect-node 2.2.0 reports it in several ways:
 * CANCELED when an HTTP/2 connection closes under a call, ABORTED when a socket is reset, and
 * INTERNAL with a Node.js error as its cause otherwise. If the caller canceled the call itself,
 * RpcCaller reports that in place of this error.
 */
function lostConnection(error: ConnectError, hint?: string): SessiondError | undefined {
  const broke =
    error.code === Code.Canceled || error.code === Code.Aborted || hasNodeErrorCode(error);
  return broke
    ? new SessiondError("UNAVAILABLE", networkMessage(error, hint), { cause: error })
    : undefined;
}

/** The error for an answer without a reason, from a proxy or from this process. */
function undescribedError(error: ConnectError, hint?: string): SessiondError {
  return new SessiondError(reasonOf(error.code), networkMessage(error, hint), {
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

/**
 * An error of OpenSSL: thread, code, library, function, what went wrong, file, line and data, such as
 * `4F2B:error:0A00010B:SSL routines:tls_validate_record_header:wrong version number:tlsany_meth.c:78:`.
 */
const OPENSSL_ERROR = /[\dA-F]+:error:[\dA-F]+:[^:]*:[^:]*:([^:]*):[^:]*:\d+:[^\n]*\n?/g;

function networkMessage(error: ConnectError, hint?: string): string {
  const message = messageOf(error).replace(OPENSSL_ERROR, "$1").trimEnd();
  return hint === undefined ? message : `${message}: ${hint}`;
}

/** The message of an error. Node.js gives an AggregateError none, so we join its parts. */
function messageOf(error: ConnectError): string {
  if (error.rawMessage !== "") return error.rawMessage;
  if (error.cause instanceof AggregateError) {
    return error.cause.errors.map((each) => (each instanceof Error ? each.message : "")).join("; ");
  }
  return Code[error.code] ?? "unknown error";
}

function hasNodeErrorCode(error: unknown): boolean {
  return causes(error).some((each) => "code" in each && typeof each.code === "string");
}

/** How many causes of causes we follow. Real chains have two or three. */
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
  return reasonByCode[code] ?? "UNKNOWN";
}
