import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { rejection, startClient } from "../testing/session-server.js";

test("a refusal is an answer that says when to try again", async () => {
  const refusal = () => ({
    allowed: false,
    limit: 5,
    remaining: 0,
    retryAfter: durationFromMs(12_500),
    resetTime: timestampFromMs(1_700_000_000_000),
    window: durationFromMs(60_000),
  });
  const { server, client } = await startClient({ checkRateLimit: refusal, getRateLimit: refusal });
  const { rateLimits } = client;
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
  const checks = server.requests("checkRateLimit");
  expect(checks).toMatchObject([
    { policy: "login", key: "203.0.113.7" },
    { policy: "login", key: "203.0.113.7", cost: 3 },
  ]);
  // Absent and not 0, which would count nothing.
  expect(checks[0]?.cost).toBeUndefined();
});

test("a reset names the policy and the key", async () => {
  const { server, client } = await startClient({ resetRateLimit: () => ({}) });
  await client.rateLimits.reset("login", "203.0.113.7");
  expect(server.requests("resetRateLimit")).toMatchObject([
    { policy: "login", key: "203.0.113.7" },
  ]);
});

test.each([0.5, Number.NaN, 2 ** 31])("a cost of %s is refused before it is sent", async (cost) => {
  const { server, client } = await startClient({});
  expect(await rejection(client.rateLimits.check("login", "ann", { cost }))).toMatchObject({
    reason: "INVALID_ARGUMENT",
    fieldViolations: [{ field: "cost" }],
  });
  expect(server.calls).toEqual([]);
});
