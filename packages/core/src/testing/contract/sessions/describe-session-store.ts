import { describe, test } from "vitest";
import { MODEL_TIMEOUT_MS } from "./model-checks.js";
import { type OpenSessionStore, runSessionStoreCheck } from "./session-store-check.js";
import { sessionStoreChecks } from "./session-store-checks.js";

/** Holds a store to the contract: one vitest test for each of its promises. */
export function describeSessionStore(name: string, open: OpenSessionStore): void {
  describe(`${name} keeps the store contract:`, () => {
    for (const check of sessionStoreChecks) {
      test(check.title, { timeout: MODEL_TIMEOUT_MS }, () => runSessionStoreCheck(check, open));
    }
  });
}
