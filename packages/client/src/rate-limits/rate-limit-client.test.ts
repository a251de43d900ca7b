import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type {
  CheckRateLimitRequest,
  ResetRateLimitRequest,
} from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { afterEach, expect, test } from "vitest";
import { createSessionClient } from "../client.js";
import { type Handlers, startSessionServer, storeUnavailable } from "../testing/session-server.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(handlers: Handlers) {
  const server = await startSessionServer("grpc", handlers);
  cleanups.push(() => server[Symbol.asyncDispose]());
  const client = createSessionClient({ baseUrl: server.baseUrl, token: "token" });
  cleanups.push(() => client.close());
  return { server, rateLimits: client.rateLimits };
}

const REFUSED = {
  allowed: false,
  limit: 5,
  remaining: 0,
  retryAfter: durationFromMs(12_500),
  resetTime: timestampFromMs(1_700_000_000_000),
  window: durationFromMs(60_000),
};

test("a refusal is an answer that says when to come again", async () => {
  const asked: Pick<CheckRateLimitRequest, "policy" | "key" | "cost">[] = [];
  const check = (request: CheckRateLimitRequest) => {
    asked.push(request);
    return REFUSED;
  };
  const { rateLimits } = await start({ checkRateLimit: check, getRateLimit: () => REFUSED });
  const expected = {
    allowed: false,
    limit: 5,
    remaining: 0,
    retryAfterMs: 12_500,
    resetTime: new Date(1_700_000_000_000),
    windowMs: 60_000,
  };
  expect(await rateLimits.check("login", "203.0.113.7")).toEqual(expected);
  expect(await rateLimits.check("login", "203.0.113.7", { cost: 3 })).toEqual(expected);
  expect(await rateLimits.get("login", "203.0.113.7")).toEqual(expected);
  expect(asked).toMatchObject([
    { policy: "login", key: "203.0.113.7" },
    { policy: "login", key: "203.0.113.7", cost: 3 },
  ]);
  // Absent and not 0, which would count nothing.
  expect(asked[0]?.cost).toBeUndefined();
});

test("an attempt that may have been counted is not counted again", async () => {
  const { server, rateLimits } = await start({
    checkRateLimit: () => {
      throw storeUnavailable();
    },
  });
  await expect(rateLimits.check("login", "203.0.113.7")).rejects.toMatchObject({
    reason: "STORE_UNAVAILABLE",
  });
  expect(server.calls).toHaveLength(1);
});

test("a reset names the policy and the key", async () => {
  const asked: ResetRateLimitRequest[] = [];
  const reset = (request: ResetRateLimitRequest) => {
    asked.push(request);
    return {};
  };
  const { rateLimits } = await start({ resetRateLimit: reset });
  await rateLimits.reset("login", "203.0.113.7");
  expect(asked).toMatchObject([{ policy: "login", key: "203.0.113.7" }]);
});

test.each([0.5, Number.NaN, 2 ** 31])("a cost of %s is refused before it is sent", async (cost) => {
  const { server, rateLimits } = await start({});
  await expect(rateLimits.check("login", "203.0.113.7", { cost })).rejects.toMatchObject({
    reason: "INVALID_ARGUMENT",
    fieldViolations: [{ field: "cost" }],
  });
  expect(server.calls).toEqual([]);
});
