import {
  create,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { type ErrorReason, SessiondError, withoutSecrets } from "@sessiond/core";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import { type Status, StatusSchema } from "@sessiond/proto/google/rpc/status";
import type { MalformedField } from "./malformed-field.js";

/** The `domain` of every `google.rpc.ErrorInfo` that sessiond sends. */
export const ERROR_DOMAIN = "sessiond";

/** Ends streams and lock waits when the server stops. */
export const SERVER_STOPPING = new ConnectError("the server is stopping", Code.Unavailable);

/** Ends watches that are as old as connections may be. */
export const WATCH_MOVES = new ConnectError(
  "the watch has lasted as long as it may; continue it with its last resume_token",
  Code.Unavailable,
);

/** Ends a call whose client left before the answer. Only the log shows it. */
export const CLIENT_GONE = new ConnectError("the client has gone", Code.Canceled);

/** The delay in `RetryInfo`, unless the error knows better. */
const RETRY_DELAY_MS = 500;

/** The RPC code of every reason. A new reason does not compile without a code. */
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

/** The same call may succeed a little later. */
const TRANSIENT: ReadonlySet<ErrorReason> = new Set([
  "ISSUER_UNAVAILABLE",
  "STORE_UNAVAILABLE",
  "OVERLOADED",
]);

/** Protobuf's complaint may quote a key or text of any length. In characters. */
const MAX_DESCRIPTION_LENGTH = 256;
/** The JSON form of the types that protobuf's complaint names. */
const JSON_FORMS: ReadonlyMap<string | undefined, string> = new Map([
  ["Duration", 'seconds such as "900s"'],
  ["Timestamp", 'a time such as "2026-01-31T12:00:00Z"'],
]);

/**
 * The error that callers get, the same on both ports: code, message, `ErrorInfo`, and `BadRequest`
 * or `RetryInfo` where they apply. An unknown error becomes "internal error"; its cause is for the
 * log.
 */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return describeMalformed(withoutQuotedSecrets(error));
  if (!(error instanceof SessiondError)) {
    return new ConnectError("internal error", Code.Internal, undefined, undefined, error);
  }
  const { reason, message } = error;
  const connectError = new ConnectError(message, CODES[reason], undefined, detailsOf(error), error);
  // RFC 6750, 3.
  if (reason === "UNAUTHENTICATED") {
    connectError.metadata.set("www-authenticate", 'Bearer error="invalid_token"');
  }
  return connectError;
}

/**
 * Adds the contract's details and the field's path to Connect's error about a malformed message.
 * Changes the error in place: Connect may already be sending it.
 */
export function describeMalformed(error: ConnectError, field?: MalformedField): ConnectError {
  if (error.code !== Code.InvalidArgument || error.details.length > 0) return error;
  Object.assign(error, { rawMessage: explain(error.rawMessage) });
  if (field === undefined) {
    error.details.push(errorInfo("INVALID_ARGUMENT", {}));
    return error;
  }
  const violation = { field: field.path, description: error.rawMessage };
  error.details.push(errorInfo("INVALID_ARGUMENT", violation), badRequest(violation));
  // The log cuts an unknown field's name, the caller's text, out of the description only.
  if (field.isKnown) Object.assign(error, { rawMessage: `${field.path}: ${error.rawMessage}` });
  return error;
}

/**
 * Connect and protobuf quote what they refuse: a header, or a value of JSON. Callers write errors into
 * their logs, so a token in the wrong place must not come back. Changes the error in place.
 */
export function withoutQuotedSecrets(error: ConnectError): ConnectError {
  // Our own errors quote with care, and they name issuers in full.
  if (error.cause instanceof SessiondError) return error;
  return Object.assign(error, { rawMessage: withoutSecrets(error.rawMessage) });
}

/** Cuts protobuf's complaint to its bound, and adds the expected form. */
function explain(message: string): string {
  const isLong = message.length > MAX_DESCRIPTION_LENGTH;
  const cut = isLong ? `${message.slice(0, MAX_DESCRIPTION_LENGTH).toWellFormed()}…` : message;
  const form = JSON_FORMS.get(/ google\.protobuf\.(\w+) from JSON/.exec(cut)?.[1]);
  return form === undefined ? cut : `${cut}; expected ${form}`;
}

/** The same error as one result of a batch. */
export function toStatus(error: SessiondError): Status {
  return create(StatusSchema, {
    code: CODES[error.reason],
    message: error.message,
    details: detailsOf(error).map(({ desc, value }) => anyPack(desc, value)),
  });
}

function detailsOf({ reason, metadata, retryAfterMs = RETRY_DELAY_MS }: SessiondError) {
  const details = [errorInfo(reason, metadata)];
  if (reason === "INVALID_ARGUMENT") {
    const { field = "", description = "" } = metadata;
    details.push(badRequest({ field, description }));
  }
  if (TRANSIENT.has(reason)) {
    details.push(detail(RetryInfoSchema, { retryDelay: durationFromMs(Math.ceil(retryAfterMs)) }));
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
