import {
  create,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { type ErrorReason, SessiondError } from "@sessiond/core";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import { type Status, StatusSchema } from "@sessiond/proto/google/rpc/status";
import type { MalformedField } from "./malformed-field.js";

/** The `domain` of every `google.rpc.ErrorInfo` that sessiond sends. */
export const ERROR_DOMAIN = "sessiond";

/** What calls that do not end by themselves are told when the server stops. */
export const SERVER_STOPPING = new ConnectError("the server is stopping", Code.Unavailable);

/** How a call ends whose client left before it was answered. Only the log is told. */
export const CLIENT_GONE = new ConnectError("the client has gone", Code.Canceled);

/** How long callers are told to wait before they try again. */
const RETRY_DELAY_MS = 500;

/** The RPC code of every reason. A new reason does not compile until it has one. */
const CODES = {
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
} as const satisfies Record<ErrorReason, Code>;

/** The reasons after which the same call may well succeed a little later. */
const TRANSIENT: ReadonlySet<ErrorReason> = new Set([
  "ISSUER_UNAVAILABLE",
  "STORE_UNAVAILABLE",
  "OVERLOADED",
]);

/** How much is told of why a message cannot be parsed, in characters. */
const MAX_DESCRIPTION_LENGTH = 256;
/** What protobuf says was not found, and how JSON has it. */
const JSON_FORMS: ReadonlyMap<string | undefined, string> = new Map([
  ["Duration", 'seconds such as "900s"'],
  ["Timestamp", 'a time such as "2026-01-31T12:00:00Z"'],
]);

/**
 * The error as callers see it, on every wire: code, message, `ErrorInfo`, and
 * `BadRequest` or `RetryInfo` where they apply. What is not ours becomes
 * "internal error"; its cause is for the log.
 */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return describeMalformed(error);
  if (!(error instanceof SessiondError)) {
    return new ConnectError("internal error", Code.Internal, undefined, undefined, error);
  }
  const { reason, message } = error;
  const connectError = new ConnectError(message, CODES[reason], undefined, detailsOf(error), error);
  // RFC 6750, 3: what a refused bearer of an HTTP resource is told.
  if (reason === "UNAUTHENTICATED") {
    connectError.metadata.set("www-authenticate", 'Bearer error="invalid_token"');
  }
  return connectError;
}

/**
 * Completes Connect's own complaint about a message that cannot be parsed, which has no details,
 * and whose field, where it is known, is at best the last word of its path. The error stays the
 * same one: it may be on its way to the caller.
 */
export function describeMalformed(error: ConnectError, field?: MalformedField): ConnectError {
  if (error.code !== Code.InvalidArgument || error.details.length > 0) return error;
  Object.assign(error, { rawMessage: explain(error.rawMessage) });
  if (field === undefined) {
    error.details.push(errorInfo("INVALID_ARGUMENT", {}));
    return error;
  }
  const { rawMessage: description } = error;
  const violation = { field: field.path, description };
  error.details.push(errorInfo("INVALID_ARGUMENT", violation), badRequest(violation));
  // A field that there is not is named by the description, which keeps it out of the log.
  if (field.isKnown) Object.assign(error, { rawMessage: `${field.path}: ${description}` });
  return error;
}

/** With what was expected; and cut, since it may quote a key or text as long as its caller likes. */
function explain(message: string): string {
  const isLong = message.length > MAX_DESCRIPTION_LENGTH;
  const cut = isLong ? `${message.slice(0, MAX_DESCRIPTION_LENGTH).toWellFormed()}…` : message;
  const form = JSON_FORMS.get(/ google\.protobuf\.(\w+) from JSON/.exec(cut)?.[1]);
  return form === undefined ? cut : `${cut}; expected ${form}`;
}

/** The same for one result of a batch. */
export function toStatus(error: SessiondError): Status {
  return create(StatusSchema, {
    code: CODES[error.reason],
    message: error.message,
    details: detailsOf(error).map(({ desc, value }) => anyPack(desc, value)),
  });
}

function detailsOf({ reason, metadata }: SessiondError) {
  const details = [errorInfo(reason, metadata)];
  if (reason === "INVALID_ARGUMENT") {
    const { field = "", description = "" } = metadata;
    details.push(badRequest({ field, description }));
  }
  if (TRANSIENT.has(reason)) {
    details.push(detail(RetryInfoSchema, { retryDelay: durationFromMs(RETRY_DELAY_MS) }));
  }
  return details;
}

function badRequest(violation: { readonly field: string; readonly description: string }) {
  return detail(BadRequestSchema, { fieldViolations: [violation] });
}

function errorInfo(reason: ErrorReason, metadata: SessiondError["metadata"]) {
  return detail(ErrorInfoSchema, { reason, domain: ERROR_DOMAIN, metadata: { ...metadata } });
}

function detail<Desc extends DescMessage>(
  desc: Desc,
  init: MessageInitShape<Desc>,
): { readonly desc: DescMessage; readonly value: MessageShape<DescMessage> } {
  return { desc, value: create(desc, init) };
}
