import { readFileSync } from "node:fs";
import { ConnectError } from "@connectrpc/connect";
import { type ErrorReason, invalidArgument, SessiondError } from "@sessiond/core";
import { describe, expect, test } from "vitest";
import { DEFAULT_EDGE_LIMITS } from "../edge/edge-limits.js";
import { codeName, failureOf } from "../testing/outcome.js";
import { toConnectError, toStatus } from "./rpc-error.js";

const CONTRACT = new URL("../../../../proto/sessiond/v1/session_service.proto", import.meta.url);
const [COMMENT = ""] = readFileSync(CONTRACT, "utf8").split("service SessionService");

const MAX_MIB = DEFAULT_EDGE_LIMITS.maxMessageBytes / 1024 ** 2;

interface Documented {
  readonly reason: ErrorReason;
  readonly code: string;
  readonly text: string;
}

/** The reasons that the contract's comment lists, each with its code and what else it says. */
function documentedReasons(): readonly Documented[] {
  const reasons = COMMENT.matchAll(/^\/\/ {3}([A-Z_]+) +([A-Z_]+) +(.*(?:\n\/\/ {4,}.*)*)/gm);
  return [...reasons].map(([, reason, code = "", text = ""]) => {
    return { reason: reason as ErrorReason, code, text };
  });
}

function failureFrom(error: unknown) {
  // As its caller gets it, where details are bytes.
  return failureOf(Promise.reject(toConnectError(error)));
}

describe("the contract's list of reasons", () => {
  const reasons = documentedReasons();

  test("is complete, and comes with the limit on what is sent", () => {
    expect(reasons.length).toBeGreaterThanOrEqual(14);
    expect(COMMENT).toContain(`RESOURCE_EXHAUSTED for a request of more than ${MAX_MIB} MiB`);
  });

  test.each(reasons)("$reason is sent as $code", async ({ reason, code, text }) => {
    const failure = await failureFrom(new SessiondError(reason, "why", { metadata: { a: "b" } }));
    expect(failure).toMatchObject({ code, message: "why", reason, domain: "sessiond" });
    if (text.includes("RetryInfo")) expect(failure.retryDelayMs).toBeGreaterThan(0);
    if (text.includes("BadRequest")) expect(failure.violations).toHaveLength(1);
    else expect(failure.violations).toBeUndefined();

    const status = toStatus(new SessiondError(reason, "why"));
    expect(codeName(status.code)).toBe(code);
    expect(status.message).toBe("why");
    expect(status.details[0]?.typeUrl).toBe("type.googleapis.com/google.rpc.ErrorInfo");
  });
});

test("a refused field is named in the message, the BadRequest and the metadata", async () => {
  expect(await failureFrom(invalidArgument("page_size", "expected at most 1000"))).toMatchObject({
    message: "page_size: expected at most 1000",
    metadata: { field: "page_size", description: "expected at most 1000" },
    violations: [{ field: "page_size", description: "expected at most 1000" }],
  });
});

test.each([
  ["an Error", new TypeError("secret")],
  ["text", "secret"],
  ["nothing", undefined],
])("%s that nobody expected tells the caller nothing", async (_, error) => {
  expect(await failureFrom(error)).toEqual({ code: "INTERNAL", message: "internal error" });
  expect(toConnectError(error).cause).toBe(error);
});

test("an error of Connect's own keeps its code and its message", async () => {
  const error = new ConnectError("the operation timed out", 4);
  expect(toConnectError(error)).toBe(error);
  expect(await failureFrom(error)).toEqual({
    code: "DEADLINE_EXCEEDED",
    message: "the operation timed out",
  });
});
