import { ConnectError } from "@connectrpc/connect";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SessiondError, type SessiondErrorReason } from "../error.js";
import type { UnaryMethod } from "./methods.js";
import { backoffMs, mayRetry } from "./retry.js";

const methods = [SessionService, LockService, RateLimitService]
  .flatMap((service) => service.methods)
  .filter(({ methodKind }) => methodKind === "unary")
  .map(({ localName }) => localName as UnaryMethod);
const once: UnaryMethod[] = ["updateSession", "rotateSessionToken", "checkRateLimit"];

/** What connect-node throws, down to the error of the system call that failed. */
function unavailable(...failures: { syscall: string; code: string }[]): SessiondError {
  const errors = failures.map((props) => Object.assign(new Error(props.code), props));
  const cause = errors.length === 1 ? errors[0] : new AggregateError(errors);
  const wrapped = new ConnectError("unavailable", 14, undefined, undefined, cause);
  return new SessiondError("UNAVAILABLE", "unavailable", { cause: wrapped });
}

const refused = { syscall: "connect", code: "ECONNREFUSED" };
const reset = { syscall: "read", code: "ECONNRESET" };

describe("a call that may have had an effect", () => {
  test.each(methods)("%s is made again only if that does no harm", (method) => {
    const harmless = !once.includes(method);
    expect(mayRetry(method, unavailable(reset))).toBe(harmless);
    expect(mayRetry(method, new SessiondError("UNAVAILABLE", "connection lost"))).toBe(harmless);
    expect(mayRetry(method, new SessiondError("STORE_UNAVAILABLE", "no store"))).toBe(harmless);
  });
});

describe("a call that certainly had none", () => {
  test.each(methods)("%s is made again", (method) => {
    expect(mayRetry(method, new SessiondError("OVERLOADED", "busy"))).toBe(true);
    expect(mayRetry(method, new SessiondError("ISSUER_UNAVAILABLE", "no keys"))).toBe(true);
    expect(mayRetry(method, unavailable(refused))).toBe(true);
    expect(mayRetry(method, unavailable(refused, refused))).toBe(true);
    expect(mayRetry(method, unavailable({ syscall: "getaddrinfo", code: "EAI_AGAIN" }))).toBe(true);
  });

  test("is one for which every address refused the connection, not just some", () => {
    expect(mayRetry("updateSession", unavailable(refused, reset))).toBe(false);
  });
});

test("an answer that another attempt would not change is final", () => {
  const reasons: SessiondErrorReason[] = [
    "SESSION_NOT_FOUND",
    "INVALID_ARGUMENT",
    "SESSION_ALREADY_EXISTS",
    "REQUEST_ID_REUSED",
    "ETAG_MISMATCH",
    "SESSION_LIMIT_REACHED",
    "SESSION_UNREADABLE",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "DEADLINE_EXCEEDED",
    "CANCELED",
    "INTERNAL",
    "UNKNOWN",
  ];
  for (const reason of reasons) {
    expect(mayRetry("getSession", new SessiondError(reason, "final"))).toBe(false);
  }
});

describe("a backoff", () => {
  const plain = new SessiondError("UNAVAILABLE", "lost");
  const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

  test("begins anywhere from 0 to 100 ms and doubles", () => {
    expect(backoffMs(1, plain, 0)).toBe(0);
    expect(backoffMs(1, plain, 0.5)).toBe(50);
    expect(backoffMs(2, plain, 0.5)).toBe(100);
    expect(backoffMs(3, plain, 0.5)).toBe(200);
  });

  test("never exceeds a second", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2000 }), fraction, (failures, random) => {
        const waitMs = backoffMs(failures, plain, random);
        expect(waitMs).toBeGreaterThanOrEqual(0);
        expect(waitMs).toBeLessThan(1000);
      }),
    );
  });

  test("is never shorter than the server asks for", () => {
    fc.assert(
      fc.property(fc.nat(60_000), fc.integer({ min: 1, max: 10 }), fraction, (ms, n, random) => {
        const error = new SessiondError("OVERLOADED", "busy", { retryAfterMs: ms });
        expect(backoffMs(n, error, random)).toBeGreaterThanOrEqual(ms);
      }),
    );
  });
});
