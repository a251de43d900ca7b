import { invalidArgument } from "./errors.js";

/** The limits of the contract. The comments in the .proto files state them too. */
export const LIMITS = {
  userIdBytes: 256,
  displayNameBytes: 256,
  roles: 64,
  roleBytes: 128,
  userAgentBytes: 1024,
  deviceBytes: 256,
  dataBytes: 16 * 1024,
  dataDepth: 32,
  reasonBytes: 256,
  changedByBytes: 256,
  lockNameBytes: 256,
  rateLimitKeyBytes: 256,
  etagBytes: 64,
  pageTokenBytes: 1024,
  resumeTokenBytes: 8192,
  pageSize: 1000,
  batchSize: 1000,
} as const;

/** Throws INVALID_ARGUMENT if a required text is empty. */
export function checkRequired(field: string, value: string): void {
  if (value === "") throw invalidArgument(field, "required");
}

/** Throws INVALID_ARGUMENT unless `value` is well-formed Unicode of at most `maxBytes` in UTF-8. */
export function checkText(field: string, value: string, maxBytes: number): void {
  if (!value.isWellFormed()) throw invalidArgument(field, "expected well-formed Unicode");
  // UTF-8 is never shorter than UTF-16, so a huge text need not be measured.
  const bytes = value.length > maxBytes ? value.length : Buffer.byteLength(value);
  if (bytes > maxBytes) {
    throw invalidArgument(field, `expected at most ${maxBytes} bytes`);
  }
}

/** Throws INVALID_ARGUMENT if `value` is empty, too long or has control characters. */
export function checkName(field: string, value: string, maxBytes: number): void {
  checkRequired(field, value);
  checkText(field, value, maxBytes);
  if (hasControlCharacter(value)) throw invalidArgument(field, "expected no control characters");
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

/** Throws INVALID_ARGUMENT unless a batch has 1 to `LIMITS.batchSize` entries. */
export function checkBatchSize(field: string, size: number): void {
  if (size < 1 || size > LIMITS.batchSize) {
    throw invalidArgument(field, `expected 1 to ${LIMITS.batchSize} entries, got ${size}`);
  }
}

function hasControlCharacter(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return true;
  }
  return false;
}
