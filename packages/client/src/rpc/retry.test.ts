import { ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { codeByReason, SessiondError, type SessiondErrorReason } from "../error.js";
import { METHODS, type UnaryMethod } from "./methods.js";
import { backoffMs, mayRetry } from "./retry.js";

const methods = Object.values(METHODS)
  .filter(({ methodKind }) => methodKind === "unary")
  .map(({ localName }) => localName as UnaryMethod);
const once: UnaryMethod[] = ["updateSession", "checkRateLimit"];

/** What connect-node throws, down to the error of the system call that failed. */
function unavailable(...failures: { syscall?: string; code: string; message?: string }[]) {
  const errors = failures.map((props) => Object.assign(new Error(props.code), props));
  const cause = errors.length === 1 ? errors[0] : new AggregateError(errors);
  const wrapped = new ConnectError("unavailable", 14, undefined, undefined, cause);
  return new SessiondError("UNAVAILABLE", "unavailable", { cause: wrapped });
}

const refused = { syscall: "connect", code: "ECONNREFUSED" };
const reset = { syscall: "read", code: "ECONNRESET" };

test.each(methods)("%s is repeated after a possible effect only if that does no harm", (method) => {
  const harmless = !once.includes(method);
  expect(mayRetry(method, unavailable(reset))).toBe(harmless);
  expect(mayRetry(method, new SessiondError("UNAVAILABLE", "connection lost"))).toBe(harmless);
  expect(mayRetry(method, new SessiondError("STORE_UNAVAILABLE", "no store"))).toBe(harmless);
});

test.each(methods)("%s is repeated if it certainly had no effect", (method) => {
  expect(mayRetry(method, new SessiondError("OVERLOADED", "busy"))).toBe(true);
  expect(mayRetry(method, new SessiondError("ISSUER_UNAVAILABLE", "no keys"))).toBe(true);
  expect(mayRetry(method, new SessiondError("TOKEN_UNAVAILABLE", "no token"))).toBe(true);
  expect(mayRetry(method, unavailable(refused))).toBe(true);
  expect(mayRetry(method, unavailable(refused, refused))).toBe(true);
  expect(mayRetry(method, unavailable({ syscall: "getaddrinfo", code: "EAI_AGAIN" }))).toBe(true);
});

test.each([
  ["REFUSED_STREAM", true],
  ["CANCEL", false],
  ["INTERNAL_ERROR", false],
])("a stream that a server closes with %s certainly had no effect: %s", (name, isCertain) => {
  const message = `Stream closed with error code NGHTTP2_${name}`;
  const error = unavailable({ code: "ERR_HTTP2_STREAM_ERROR", message });
  for (const method of once) expect(mayRetry(method, error)).toBe(isCertain);
});

test("a call had no effect only if every address refused the connection", () => {
  expect(mayRetry("updateSession", unavailable(refused, reset))).toBe(false);
});

test("all other errors are final", () => {
  const retried = [
    "ISSUER_UNAVAILABLE",
    "OVERLOADED",
    "STORE_UNAVAILABLE",
    "TOKEN_UNAVAILABLE",
    "UNAVAILABLE",
  ];
  const reasons = Object.keys(codeByReason) as SessiondErrorReason[];
  const mayBe = reasons.filter((reason) => mayRetry("getSession", new SessiondError(reason, "")));
  expect(mayBe.toSorted()).toEqual(retried);
});

describe("a backoff", () => {
  const plain = new SessiondError("UNAVAILABLE", "lost");

  test("begins between 0 and 100 ms, and doubles up to a second", () => {
    expect(backoffMs(1, plain, 0)).toBe(0);
    const waits = [1, 2, 3, 4, 5, 2000].map((failures) => backoffMs(failures, plain, 0.5));
    expect(waits).toEqual([50, 100, 200, 400, 500, 500]);
  });

  test("is added to what the server asks for", () => {
    const busy = new SessiondError("OVERLOADED", "busy", { retryAfterMs: 60_000 });
    expect(backoffMs(1, busy, 0)).toBe(60_000);
    expect(backoffMs(2, busy, 0.5)).toBe(60_100);
  });
});
