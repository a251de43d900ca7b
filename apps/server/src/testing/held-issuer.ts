import { vi } from "vitest";
import type { TestIssuer } from "./test-issuer.js";

/** An issuer that does not answer until it is let go. */
export interface HeldIssuer {
  /** Resolves once a call waits for the issuer, and so is under way for as long as the test likes. */
  asked(): Promise<void>;
  /** Answers every call that waits, and from now on at once. */
  release(): void;
}

/**
 * Keeps the keys of an issuer back. The first call of each server needs them, so
 * that a test can have a call under way without relying on time.
 */
export function holdKeys(issuer: TestIssuer): HeldIssuer {
  const waiting: (() => void)[] = [];
  let isAsked = false;
  issuer.respond = (_, response) => {
    isAsked = true;
    waiting.push(() => response.end(issuer.jwks));
  };
  return {
    asked: () =>
      vi.waitUntil(() => isAsked, { timeout: 10_000, interval: 5 }).then(() => undefined),
    release: () => {
      issuer.respond = undefined;
      for (const answer of waiting.splice(0)) answer();
    },
  };
}
