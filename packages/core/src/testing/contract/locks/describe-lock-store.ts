import { describe, test } from "vitest";
import { lockStoreChecks } from "./lock-checks.js";
import { type OpenLockStore, runLockStoreCheck } from "./lock-store-check.js";

/**
 * Holds a store to the contract: one vitest test for each of its promises.
 * `tellsNobody` is why a store does not tell other servers of a release, and so has no queue of
 * those who wait.
 */
export function describeLockStore(
  name: string,
  open: OpenLockStore,
  { tellsNobody }: { readonly tellsNobody?: string } = {},
): void {
  describe(`${name} keeps the contract of locks:`, () => {
    for (const check of lockStoreChecks) {
      const options = check.timeoutMs === undefined ? {} : { timeout: check.timeoutMs };
      test(check.title, options, ({ skip }) => {
        // The report of the run says why.
        skip(check.isOfTellers === true && tellsNobody !== undefined, tellsNobody);
        return runLockStoreCheck(check, open);
      });
    }
  });
}
