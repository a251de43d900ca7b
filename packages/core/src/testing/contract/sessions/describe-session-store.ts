import { describe, test } from "vitest";
import { type OpenSessionStore, runSessionStoreCheck } from "./session-store-check.js";
import { sessionStoreChecks } from "./session-store-checks.js";

/** Holds a store to the contract: one vitest test for each of its promises. */
export function describeSessionStore(name: string, open: OpenSessionStore): void {
  describe(`${name} keeps the store contract:`, () => {
    for (const check of sessionStoreChecks) {
      const timeout = check.timeoutMs === undefined ? {} : { timeout: check.timeoutMs };
      test(check.title, timeout, () => runSessionStoreCheck(check, open));
    }
  });
}
