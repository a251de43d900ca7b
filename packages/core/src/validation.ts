import { isIP } from "node:net";
import { invalidArgument } from "./errors.js";
import type { JsonObject, JsonValue, SessionClient } from "./sessions/session.js";
import { isChosenId, isGeneratedId } from "./sessions/session-id.js";
import { SESSION_TOKEN_PREFIX } from "./sessions/session-token.js";

/** The limits of the contract, as the comments in the .proto files state them. */
export const LIMITS = {
  userIdBytes: 256,
  displayNameBytes: 256,
  roles: 64,
  roleBytes: 128,
  ipBytes: 64,
  userAgentBytes: 1024,
  deviceBytes: 256,
  dataBytes: 16 * 1024,
  dataDepth: 32,
  reasonBytes: 256,
  lockNameBytes: 256,
  rateLimitKeyBytes: 256,
  etagBytes: 64,
  pageTokenBytes: 1024,
  resumeTokenBytes: 8192,
  pageSize: 1000,
  batchSize: 1000,
} as const;

const REQUEST_ID = /^[A-Za-z0-9._~:@-]{1,128}$/;
const LOCK_ID = /^[A-Za-z0-9._~:@-]{16,128}$/;

/** Throws INVALID_ARGUMENT unless `value` can name a user. */
export function checkUserId(field: string, value: string): void {
  checkRequired(field, value);
  checkText(field, value, LIMITS.userIdBytes);
  if (hasControlCharacter(value)) {
    throw invalidArgument(field, "expected no control characters");
  }
}

/** Throws INVALID_ARGUMENT unless `value` can name whose attempts are counted. */
export function checkRateLimitKey(field: string, value: string): void {
  checkRequired(field, value);
  checkText(field, value, LIMITS.rateLimitKeyBytes);
  if (hasControlCharacter(value)) {
    throw invalidArgument(field, "expected no control characters");
  }
}

/** Throws INVALID_ARGUMENT unless `value` can name a lock. */
export function checkLockName(field: string, value: string): void {
  checkRequired(field, value);
  checkText(field, value, LIMITS.lockNameBytes);
  if (hasControlCharacter(value)) {
    throw invalidArgument(field, "expected no control characters");
  }
}

/** Throws INVALID_ARGUMENT unless `fence` can be that of a lock's holder. */
export function checkFence(
  field: string,
  fence: { readonly lock: string; readonly token: number },
): void {
  checkLockName(`${field}.lock`, fence.lock);
  if (!Number.isSafeInteger(fence.token) || fence.token < 1) {
    throw invalidArgument(`${field}.token`, "expected the fencing token of an acquisition");
  }
}

/** Throws INVALID_ARGUMENT unless `value` can be the nonce that a lock's holder is known by. */
export function checkLockId(field: string, value: string): void {
  if (!LOCK_ID.test(value)) {
    throw invalidArgument(field, "expected 16 to 128 characters out of A-Z a-z 0-9 . _ ~ : @ -");
  }
}

/** Throws INVALID_ARGUMENT unless `value` can be the id of a session, made or chosen. */
export function checkSessionId(field: string, value: string): void {
  checkRequired(field, value);
  checkNoToken(field, value);
  if (!isGeneratedId(value) && !isChosenId(value)) {
    throw invalidArgument(
      field,
      "expected 64 lowercase hex digits, or 1 to 128 characters out of A-Z a-z 0-9 . _ ~ : @ -",
    );
  }
}

/** Throws INVALID_ARGUMENT unless a caller may choose `value` for a new session. */
export function checkChosenId(field: string, value: string): void {
  checkNoToken(field, value);
  if (!isChosenId(value)) {
    throw invalidArgument(
      field,
      "expected 1 to 128 characters out of A-Z a-z 0-9 . _ ~ : @ - and not 64 hex digits",
    );
  }
}

/** Throws INVALID_ARGUMENT unless `value` can name a request. */
export function checkRequestId(field: string, value: string): void {
  if (!REQUEST_ID.test(value)) {
    throw invalidArgument(field, "expected 1 to 128 characters out of A-Z a-z 0-9 . _ ~ : @ -");
  }
}

/**
 * A token has the characters of an id. Ids are logged and tokens never are, so
 * that a token passed as an id by mistake must not become one.
 */
function checkNoToken(field: string, value: string): void {
  if (value.startsWith(SESSION_TOKEN_PREFIX)) {
    throw invalidArgument(field, "expected a session id, got what looks like a session token");
  }
}

/** Throws INVALID_ARGUMENT where a required text is empty. */
export function checkRequired(field: string, value: string): void {
  if (value === "") throw invalidArgument(field, "required");
}

/** Throws INVALID_ARGUMENT unless `value` is well-formed Unicode of at most `maxBytes` in UTF-8. */
export function checkText(field: string, value: string, maxBytes: number): void {
  if (!value.isWellFormed()) throw invalidArgument(field, "expected well-formed Unicode");
  // No UTF-8 is shorter than its UTF-16, so this spares measuring a huge text.
  const bytes = value.length > maxBytes ? value.length : Buffer.byteLength(value);
  if (bytes > maxBytes) {
    throw invalidArgument(field, `expected at most ${maxBytes} bytes`);
  }
}

/** Throws INVALID_ARGUMENT unless `values` can be a session's roles. */
export function checkRoles(field: string, values: readonly string[]): void {
  if (values.length > LIMITS.roles) {
    throw invalidArgument(field, `expected at most ${LIMITS.roles} roles, got ${values.length}`);
  }
  for (const [i, role] of values.entries()) {
    checkRequired(`${field}[${i}]`, role);
    checkText(`${field}[${i}]`, role, LIMITS.roleBytes);
  }
}

/** Throws INVALID_ARGUMENT unless `client` can be a session's client. Absent and empty parts are fine. */
export function checkClient(field: string, client: Partial<SessionClient>): void {
  if (client.ip) checkIp(`${field}.ip`, client.ip);
  if (client.userAgent) checkText(`${field}.user_agent`, client.userAgent, LIMITS.userAgentBytes);
  if (client.device) checkText(`${field}.device`, client.device, LIMITS.deviceBytes);
}

/** Throws INVALID_ARGUMENT unless `value` is an IP address. */
export function checkIp(field: string, value: string): void {
  // The length, because nothing limits that of an IPv6 zone.
  if (value.length > LIMITS.ipBytes || isIP(value) === 0) {
    throw invalidArgument(field, "expected an IPv4 or IPv6 address without a port");
  }
}

/** Throws INVALID_ARGUMENT unless `data` is JSON within the limits of size and depth. */
export function checkData(field: string, data: JsonObject): void {
  checkJson(field, data, LIMITS.dataDepth);
  const bytes = Buffer.byteLength(JSON.stringify(data));
  if (bytes > LIMITS.dataBytes) {
    throw invalidArgument(
      field,
      `expected at most ${LIMITS.dataBytes} bytes as JSON, got ${bytes}`,
    );
  }
}

/** Throws INVALID_ARGUMENT unless `value` is a whole number of milliseconds from 1 to `maxMs`. */
export function checkDuration(field: string, valueMs: number, maxMs: number): void {
  if (!Number.isInteger(valueMs) || valueMs < 1) {
    throw invalidArgument(field, "expected a positive duration of at least 1 ms");
  }
  if (valueMs > maxMs) {
    throw invalidArgument(field, `expected at most ${maxMs / 1000} s, the server's maximum`);
  }
}

/** Throws INVALID_ARGUMENT unless a batch has from 1 to the maximum of entries. */
export function checkBatchSize(field: string, size: number): void {
  if (size < 1 || size > LIMITS.batchSize) {
    throw invalidArgument(field, `expected 1 to ${LIMITS.batchSize} entries, got ${size}`);
  }
}

function checkJson(field: string, value: JsonValue, depth: number): void {
  switch (typeof value) {
    case "boolean":
      return;
    case "string":
      if (!value.isWellFormed()) throw invalidArgument(field, "expected well-formed Unicode");
      return;
    case "number":
      if (!Number.isFinite(value)) throw invalidArgument(field, "expected finite numbers");
      return;
    case "object":
      // Null is a value like any other, and no level.
      if (value === null) return;
      if (depth === 0) {
        throw invalidArgument(field, `expected at most ${LIMITS.dataDepth} levels of nesting`);
      }
      for (const [key, child] of Object.entries(value)) {
        if (!key.isWellFormed()) throw invalidArgument(field, "expected well-formed Unicode");
        checkJson(field, child, depth - 1);
      }
      return;
    default:
      throw invalidArgument(field, `expected JSON, got a ${typeof value}`);
  }
}

function hasControlCharacter(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return true;
  }
  return false;
}
