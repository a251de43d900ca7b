import { invalidArgument } from "../errors.js";
import { checkName, LIMITS } from "../validation.js";

/** The bounds and defaults of `Locks`. */
export const LOCK_BOUNDS = {
  /** A shorter lease would end before its holder hears of it. */
  minTtlMs: 100,
  maxTtlMs: 3_600_000,
  /** After a holder's death others wait this long. */
  defaultTtlMs: 30_000,
  maxWaitTimeoutMs: 3_600_000,
  defaultWaitTimeoutMs: 20_000,
} as const;

const LOCK_ID = /^[A-Za-z0-9._~:@-]{16,128}$/;

/** Throws INVALID_ARGUMENT unless `value` can name a lock. */
export function checkLockName(field: string, value: string): void {
  checkName(field, value, LIMITS.lockNameBytes);
}

/** Throws INVALID_ARGUMENT unless `value` can be a lock id. */
export function checkLockId(field: string, value: string): void {
  if (!LOCK_ID.test(value)) {
    throw invalidArgument(field, "expected 16 to 128 characters out of A-Z a-z 0-9 . _ ~ : @ -");
  }
}

/** Throws INVALID_ARGUMENT unless a lease can last this long. */
export function checkTtl(ttlMs: number): void {
  const { minTtlMs, maxTtlMs } = LOCK_BOUNDS;
  if (!Number.isInteger(ttlMs) || ttlMs < minTtlMs || ttlMs > maxTtlMs) {
    throw invalidArgument("ttl", `expected ${minTtlMs} ms to ${maxTtlMs / 3_600_000} h`);
  }
}

/** Throws INVALID_ARGUMENT unless a call can wait this long. */
export function checkWaitTimeout(waitTimeoutMs: number): void {
  const { maxWaitTimeoutMs } = LOCK_BOUNDS;
  if (!Number.isInteger(waitTimeoutMs) || waitTimeoutMs < 0 || waitTimeoutMs > maxWaitTimeoutMs) {
    throw invalidArgument("wait_timeout", `expected 0 to ${maxWaitTimeoutMs / 3_600_000} h`);
  }
}
