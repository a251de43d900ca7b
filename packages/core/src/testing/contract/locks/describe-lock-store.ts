import { describe, test } from "vitest";
import { commonLockStoreChecks, tellingLockStoreChecks } from "./lock-checks.js";
import { type OpenLockStore, runLockStoreCheck } from "./lock-store-check.js";

/** Enough for the model check where the store is slow. */
const TIMEOUT_MS = 90_000;

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
    for (const check of commonLockStoreChecks) {
      test(check.title, { timeout: TIMEOUT_MS }, () => runLockStoreCheck(check, open));
    }
    for (const check of tellingLockStoreChecks) {
      test(check.title, ({ skip }) => {
        // The report of the run says why.
        skip(tellsNobody !== undefined, tellsNobody);
        return runLockStoreCheck(check, open);
      });
    }
  });
}
