import type { Any } from "@bufbuild/protobuf/wkt";
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
