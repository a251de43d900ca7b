import { describe, test } from "vitest";
import { rateLimitStoreChecks } from "./rate-limit-checks.js";
import { type OpenRateLimitStore, runRateLimitStoreCheck } from "./rate-limit-store-check.js";

/** Holds a store to the contract: one vitest test for each of its promises. */
export function describeRateLimitStore(name: string, open: OpenRateLimitStore): void {
  describe(`${name} keeps the contract of rate limits:`, () => {
    for (const check of rateLimitStoreChecks) {
      test(check.title, () => runRateLimitStoreCheck(check, open));
    }
  });
}
