import { invalidArgument } from "../errors.js";
import { checkName, checkRequired, checkText, LIMITS } from "../validation.js";
import { MOVED_IN_ID_PREFIX } from "./credential.js";
import { canonicalIp } from "./ip-address.js";
import type { JsonObject, JsonValue } from "./session.js";
import { isChosenId, isGeneratedId } from "./session-id.js";
import type { Fence } from "./session-store.js";
import { SESSION_TOKEN_PREFIX } from "./session-token.js";

const REQUEST_ID = /^[A-Za-z0-9._~:@-]{1,128}$/;

/** Throws INVALID_ARGUMENT unless `value` can name a user. */
export function checkUserId(field: string, value: string): void {
  checkName(field, value, LIMITS.userIdBytes);
}

/** Throws INVALID_ARGUMENT unless `value` can name a request. */
export function checkRequestId(field: string, value: string): void {
  if (!REQUEST_ID.test(value)) {
    throw invalidArgument(field, "expected 1 to 128 characters out of A-Z a-z 0-9 . _ ~ : @ -");
  }
}

/** Throws INVALID_ARGUMENT unless `fence` names a lock and a possible fencing token. */
export function checkFence(field: string, fence: Fence): void {
  checkName(`${field}.lock`, fence.lock, LIMITS.lockNameBytes);
  if (!Number.isSafeInteger(fence.token) || fence.token < 1) {
    throw invalidArgument(`${field}.token`, "expected the fencing token of an acquisition");
  }
}

/** Throws INVALID_ARGUMENT unless `value` can be a session id, generated or chosen. */
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
  if (value.startsWith(MOVED_IN_ID_PREFIX)) {
    throw invalidArgument(field, `expected an id that does not begin with ${MOVED_IN_ID_PREFIX}`);
  }
  if (!isChosenId(value)) {
    throw invalidArgument(
      field,
      "expected 1 to 128 characters out of A-Z a-z 0-9 . _ ~ : @ - and not 64 hex digits",
    );
  }
}

/** Ids are logged, tokens never are: a token that is passed as an id must fail here. */
function checkNoToken(field: string, value: string): void {
  if (value.startsWith(SESSION_TOKEN_PREFIX)) {
    throw invalidArgument(field, "expected a session id, got what looks like a session token");
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

/** An IP address in the form in which it is stored. Throws INVALID_ARGUMENT if `value` is none. */
export function parseIp(field: string, value: string): string {
  const ip = canonicalIp(value);
  if (ip === undefined) {
    throw invalidArgument(field, "expected an IPv4 or IPv6 address without a port");
  }
  return ip;
}

/** Throws INVALID_ARGUMENT unless `data` is JSON within the limits of size and depth. */
export function checkData(field: string, data: JsonObject): void {
  checkJson(field, data, LIMITS.dataDepth);
  const bytes = Buffer.byteLength(JSON.stringify(data));
  if (bytes > LIMITS.dataBytes) {
    throw invalidArgument(
      field,
      `expected at most ${LIMITS.dataBytes} bytes as JSON in all, got ${bytes}`,
    );
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
