import { randomUUID } from "node:crypto";
import { durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { parseRateLimitPolicies } from "@sessiond/core";
import { startRedisServer } from "@sessiond/core/testing";
import type { CheckRateLimitResponse } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { describe, expect, test } from "vitest";
import { failureOf } from "../testing/outcome.js";
import { GRPC, PROTOCOLS, rateLimitsOver } from "../testing/protocols.js";
import { startTestServer, useTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const MINUTE_MS = 60_000;
const config = {
  rateLimits: parseRateLimitPolicies(
    "login: 3 per 15m; both: 5 per 1m, 6 per 1h; lenient: 3 per 1h (allow when unavailable)",
  ),
};

const newAttempt = (policy: string) => ({ policy, key: `203.0.113.7/${randomUUID()}` });

/** An answer with its times as plain numbers. */
function plain({ retryAfter, resetTime, window, ...rest }: CheckRateLimitResponse) {
  return {
    ...rest,
    retryAfterMs: retryAfter ? durationMs(retryAfter) : Number.NaN,
    resetMs: resetTime ? timestampMs(resetTime) : Number.NaN,
    windowMs: window && durationMs(window),
  };
}

describe.each(STORES)("on $name", ({ open }) => {
  const limits = rateLimitsOver(GRPC, useTestServer({ open, config }));
  const check = async (attempt: Parameters<typeof limits.checkRateLimit>[0]) =>
    plain(await limits.checkRateLimit(attempt));

  test("attempts are allowed up to the limit, and the answers say what is left, and until when", async () => {
    const attempt = newAttempt("login");
    for (const remaining of [2, 1, 0]) {
      const answer = await check(attempt);
      expect(answer).toMatchObject({ allowed: true, limit: 3, remaining, retryAfterMs: 0 });
      expect(answer.windowMs).toBe(15 * MINUTE_MS);
      expect(Math.abs(answer.resetMs - Date.now() - 15 * MINUTE_MS)).toBeLessThan(5_000);
    }
    const refused = await check(attempt);
    expect(refused).toMatchObject({ allowed: false, remaining: 0 });
    expect(refused.retryAfterMs).toBeGreaterThan(14.9 * MINUTE_MS);
    expect(refused.retryAfterMs).toBeLessThanOrEqual(15 * MINUTE_MS);
    // The attempts of another key, and under another policy, are counted apart.
    expect(await check(newAttempt("login"))).toMatchObject({ remaining: 2 });
    // Of several windows, the answer is about the one that leaves least.
    const minute = { limit: 5, remaining: 4, windowMs: MINUTE_MS };
    expect(await check({ ...attempt, policy: "both" })).toMatchObject(minute);
  });

  test("to look counts nothing, and a reset forgets", async () => {
    const attempt = newAttempt("login");
    const expectRemaining = async (remaining: number) =>
      expect(await limits.getRateLimit(attempt)).toMatchObject({
        ...{ allowed: remaining > 0, remaining },
      });
    for (let i = 0; i < 5; i++) await expectRemaining(3);
    await check({ ...attempt, cost: 3 });
    await expectRemaining(0);
    await limits.resetRateLimit(attempt);
    await expectRemaining(3);
  });

  test.each([
    ["policy", { policy: "unheard-of", key: "x" }],
    ["key", { policy: "login", key: "" }],
    ["cost", { policy: "login", key: "x", cost: 4 }],
  ])("a request that is refused names its field: %s", async (field, request) => {
    const calls: Promise<unknown>[] = [check(request), limits.getRateLimit(request)];
    if (field !== "cost") calls.push(limits.resetRateLimit(request));
    const expected = { code: "INVALID_ARGUMENT", reason: "INVALID_ARGUMENT" };
    for (const failure of await Promise.all(calls.map(failureOf))) {
      expect(failure).toMatchObject({ ...expected, violations: [{ field }] });
    }
  });
});

test("while the store is down, attempts pass only under a policy that says so, and the log tells", async () => {
  await using redis = await startRedisServer();
  await using server = await startTestServer({ store: redis.url, config });
  await redis.kill();
  const unavailable = { code: "UNAVAILABLE", reason: "STORE_UNAVAILABLE" };
  for (const protocol of PROTOCOLS) {
    const limits = rateLimitsOver(protocol, server);
    const refused = await failureOf(limits.checkRateLimit(newAttempt("login")));
    expect(refused).toMatchObject({ ...unavailable, retryDelayMs: expect.any(Number) });
    const lenient = newAttempt("lenient");
    const passed = { allowed: true, remaining: 3 };
    expect(await limits.checkRateLimit(lenient)).toMatchObject(passed);
    expect(await failureOf(limits.resetRateLimit(lenient))).toMatchObject(unavailable);
  }
  const told = server.logs.filter(({ msg }) => msg === "attempt not counted");
  expect(told).toHaveLength(PROTOCOLS.length);
  expect(told[0]).toMatchObject({ policy: "lenient", error: expect.stringContaining("store") });
});
