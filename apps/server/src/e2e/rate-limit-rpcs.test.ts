import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { Keyring, parseRateLimitPolicies } from "@sessiond/core";
import { startRedisServer } from "@sessiond/core/testing";
import type { CheckRateLimitResponse } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { failureOf } from "../testing/outcome.js";
import {
  GRPC,
  PROTOBUF_OVER_HTTP,
  PROTOCOLS,
  type RateLimitServiceClient,
  rateLimitsOver,
} from "../testing/protocols.js";
import { startTestIssuer, startTestServer, type TestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const MINUTE_MS = 60_000;
const POLICIES = parseRateLimitPolicies(
  "login: 3 per 15m; quick: 2 per 1s; strict: 2 per 1s (count refused); " +
    "both: 5 per 1m, 6 per 1h; lenient: 3 per 1h (allow when unavailable)",
);

const newKey = () => `203.0.113.7/${randomUUID()}`;

/** An answer with its times as plain numbers. */
function plain({ retryAfter, resetTime, window, ...rest }: CheckRateLimitResponse) {
  const { allowed, limit, remaining } = rest;
  return {
    ...{ allowed, limit, remaining },
    retryAfterMs: retryAfter && durationMs(retryAfter),
    resetMs: resetTime && timestampMs(resetTime),
    windowMs: window && durationMs(window),
  };
}

describe.each(STORES)("on $name", ({ open }) => {
  const opened = new AsyncDisposableStack();
  let server: TestServer;

  beforeAll(async () => {
    const store = opened.use(await open());
    const config = { rateLimits: POLICIES };
    server = opened.use(await startTestServer({ store: store.url, config }));
  });
  afterAll(() => opened.disposeAsync());

  describe.each(PROTOCOLS)("over $name", (protocol) => {
    let limits: RateLimitServiceClient;
    beforeAll(() => {
      limits = rateLimitsOver(protocol, server);
    });

    test("attempts are allowed up to the limit, and the answers say what is left, and until when", async () => {
      const attempt = { policy: "login", key: newKey() };
      for (const remaining of [2, 1, 0]) {
        const answer = plain(await limits.checkRateLimit(attempt));
        expect(answer).toMatchObject({
          ...{ allowed: true, limit: 3, remaining, retryAfterMs: 0 },
          windowMs: 15 * MINUTE_MS,
        });
        expect(Math.abs((answer.resetMs ?? 0) - Date.now() - 15 * MINUTE_MS)).toBeLessThan(5_000);
      }
      const refused = plain(await limits.checkRateLimit(attempt));
      expect(refused).toMatchObject({ allowed: false, remaining: 0 });
      expect(refused.retryAfterMs).toBeGreaterThan(14.9 * MINUTE_MS);
      expect(refused.retryAfterMs).toBeLessThanOrEqual(15 * MINUTE_MS);
      // Another key's attempts, and another policy's, are its own.
      expect(await limits.checkRateLimit({ ...attempt, key: newKey() })).toMatchObject({
        remaining: 2,
      });
      expect(await limits.checkRateLimit({ ...attempt, policy: "both" })).toMatchObject({
        remaining: 4,
      });
    });

    test("to look counts nothing, and a reset forgets", async () => {
      const attempt = { policy: "login", key: newKey() };
      for (let i = 0; i < 5; i++) {
        expect(await limits.getRateLimit(attempt)).toMatchObject({ allowed: true, remaining: 3 });
      }
      for (let i = 0; i < 3; i++) await limits.checkRateLimit(attempt);
      expect(await limits.getRateLimit(attempt)).toMatchObject({ allowed: false, remaining: 0 });
      await limits.resetRateLimit(attempt);
      expect(await limits.getRateLimit(attempt)).toMatchObject({ allowed: true, remaining: 3 });
    });

    test("an attempt may cost more, and is refused where that is not left", async () => {
      const attempt = { policy: "login", key: newKey() };
      expect(await limits.checkRateLimit({ ...attempt, cost: 2 })).toMatchObject({ remaining: 1 });
      expect(await limits.checkRateLimit({ ...attempt, cost: 2 })).toMatchObject({
        allowed: false,
        remaining: 1,
      });
      expect(await limits.checkRateLimit({ ...attempt, cost: 1 })).toMatchObject({
        allowed: true,
        remaining: 0,
      });
    });

    test("of several windows the answer is about the one that leaves least", async () => {
      const attempt = { policy: "both", key: newKey() };
      const answer = plain(await limits.checkRateLimit(attempt));
      expect(answer).toMatchObject({ limit: 5, remaining: 4, windowMs: MINUTE_MS });
    });

    test("once the window is over it is as if nothing had been", async () => {
      const attempt = { policy: "quick", key: newKey() };
      for (let i = 0; i < 2; i++) await limits.checkRateLimit(attempt);
      const { retryAfterMs = 0 } = plain(await limits.checkRateLimit(attempt));
      await sleep(retryAfterMs + 50);
      expect(await limits.checkRateLimit(attempt)).toMatchObject({ allowed: true });
    });

    test.each([
      ["a policy that is not there", { policy: "unheard-of", key: "x" }, "policy"],
      ["no policy", { policy: "", key: "x" }, "policy"],
      ["no key", { policy: "login", key: "" }, "key"],
      ["a key that is too long", { policy: "login", key: "x".repeat(257) }, "key"],
      ["a key with a line break", { policy: "login", key: "a\nb" }, "key"],
      ["a cost of nothing", { policy: "login", key: "x", cost: 0 }, "cost"],
      ["a cost below nothing", { policy: "login", key: "x", cost: -1 }, "cost"],
      ["a cost that no window has room for", { policy: "login", key: "x", cost: 4 }, "cost"],
    ])("%s is refused, by its field", async (_, request, field) => {
      const calls = [limits.checkRateLimit(request), limits.getRateLimit(request)];
      if (field !== "cost") calls.push(limits.resetRateLimit(request) as never);
      for (const failure of await Promise.all(calls.map(failureOf))) {
        expect(failure).toMatchObject({
          code: "INVALID_ARGUMENT",
          reason: "INVALID_ARGUMENT",
          violations: [{ field }],
        });
      }
    });
  });
});

test("two servers on one Redis count together, and let pass not one too many", async () => {
  await using opened = new AsyncDisposableStack();
  const { url: store } = opened.use(await startRedisServer());
  const issuer = opened.adopt(await startTestIssuer(), (started) => started.close());
  const rateLimits = parseRateLimitPolicies("many: 100 per 1h");
  const shared = { store, issuer, keyring: Keyring.parse(Keyring.generateKey()) };
  const start = () => startTestServer({ ...shared, config: { rateLimits } });
  const clients = [
    rateLimitsOver(GRPC, opened.use(await start())),
    rateLimitsOver(PROTOBUF_OVER_HTTP, opened.use(await start())),
  ];
  const attempts = Array.from({ length: 400 }, (_, i) =>
    clients[i % 2]?.checkRateLimit({ policy: "many", key: "ann" }),
  );
  const answers = await Promise.all(attempts);
  expect(answers.filter((answer) => answer?.allowed)).toHaveLength(100);
});

test("while the store is down, attempts pass only under a policy that says so, and the log tells", async () => {
  await using redis = await startRedisServer();
  const config = { rateLimits: POLICIES };
  await using server = await startTestServer({ store: redis.url, config });
  await redis.kill();
  for (const protocol of PROTOCOLS) {
    const limits = rateLimitsOver(protocol, server);
    expect(await failureOf(limits.checkRateLimit({ policy: "login", key: "x" }))).toMatchObject({
      code: "UNAVAILABLE",
      reason: "STORE_UNAVAILABLE",
      retryDelayMs: expect.any(Number),
    });
    expect(await limits.checkRateLimit({ policy: "lenient", key: "x" })).toMatchObject({
      allowed: true,
      remaining: 3,
    });
    expect(await failureOf(limits.resetRateLimit({ policy: "lenient", key: "x" }))).toMatchObject({
      reason: "STORE_UNAVAILABLE",
    });
  }
  const told = server.logs.filter(({ msg }) => msg === "attempt not counted");
  expect(told).toHaveLength(PROTOCOLS.length);
  expect(told[0]).toMatchObject({ policy: "lenient", error: expect.stringContaining("store") });
});
