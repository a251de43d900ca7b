import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { SessiondError } from "../error.js";
import type { RateLimitAnswer } from "./rate-limit-fields.js";
import {
  createRateLimitMiddleware,
  type RateLimitMiddleware,
  type RateLimitMiddlewareOptions,
} from "./rate-limit-middleware.js";

const NOW_MS = 1_700_000_000_000;

/** Sends a request to an HTTP server whose requests pass the middlewares in order. */
async function send(middlewares: readonly RateLimitMiddleware[], init: RequestInit = {}) {
  const errors: unknown[] = [];
  const server = createServer((request, response) => {
    const pass = (i: number) => (error?: unknown) => {
      const middleware = middlewares[i];
      if (error !== undefined) {
        errors.push(error);
        response.statusCode = 500;
        response.end(String(error));
      } else if (middleware === undefined) response.end("welcome");
      else middleware(request, response, pass(i + 1));
    };
    pass(0)();
  });
  onTestFinished(() => {
    server.close();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/login`;
  const response = await fetch(url, init);
  const { status, headers } = response;
  const names = ["ratelimit-policy", "ratelimit", "retry-after"] as const;
  const [policy, rateLimit, retryAfter] = names.map((name) => headers.get(name));
  const text = await response.text();
  const type = headers.get("content-type");
  return { status, text, type, policy, rateLimit, retryAfter, errors };
}

const ROOM: RateLimitAnswer = {
  allowed: true,
  limit: 10,
  remaining: 3,
  retryAfterMs: 0,
  resetTime: new Date(NOW_MS + 119_001),
  windowMs: 900_000,
};
const NO_ROOM: RateLimitAnswer = { ...ROOM, allowed: false, remaining: 0, retryAfterMs: 12_001 };

/** A middleware whose checks always have the same answer, or fail with it. */
function limiting(
  answer: RateLimitAnswer | Error,
  options: Partial<RateLimitMiddlewareOptions> = {},
): RateLimitMiddleware {
  const check = async () => {
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return createRateLimitMiddleware({
    rateLimits: { check },
    policy: "login",
    key: (request) => request.socket.remoteAddress,
    now: () => NOW_MS,
    ...options,
  });
}

describe("a request that has room", () => {
  test("passes, and its response shows the state of the limit", async () => {
    expect(await send([limiting(ROOM)])).toMatchObject({
      status: 200,
      text: "welcome",
      policy: '"login";q=10;w=900',
      rateLimit: '"login";r=3;t=120',
      retryAfter: null,
    });
  });

  const { windowMs: _unknown, ...withoutWindow } = ROOM;

  test.each<[RateLimitAnswer, string, string]>([
    // The clocks of this process and of the store differ by a day.
    [{ ...ROOM, resetTime: new Date(NOW_MS + 86_400_000) }, "q=10;w=900", "r=3;t=900"],
    [{ ...ROOM, resetTime: new Date(NOW_MS - 86_400_000) }, "q=10;w=900", "r=3;t=0"],
    // Whole seconds, rounded up.
    [{ ...ROOM, windowMs: 1_001 }, "q=10;w=2", "r=3;t=2"],
    [withoutWindow, "q=10", "r=3;t=120"],
  ])("sees %o as %s and %s", async (answer, policy, rateLimit) => {
    const shown = { policy: `"login";${policy}`, rateLimit: `"login";${rateLimit}` };
    expect(await send([limiting(answer)])).toMatchObject(shown);
  });

  test("passes several limits, and sees each", async () => {
    const search = limiting({ ...ROOM, limit: 5, remaining: 4 }, { policy: "search" });
    expect(await send([limiting(ROOM), search])).toMatchObject({
      policy: '"login";q=10;w=900, "search";q=5;w=900',
      rateLimit: '"login";r=3;t=120, "search";r=4;t=120',
    });
  });
});

describe("a request that has no room", () => {
  test("is refused with 429, and told when to try again", async () => {
    const { text, ...response } = await send([limiting(NO_ROOM)], { method: "POST", body: "x" });
    expect(response).toMatchObject({
      status: 429,
      type: "application/problem+json",
      policy: '"login";q=10;w=900',
      rateLimit: '"login";r=0;t=13',
      retryAfter: "13",
    });
    expect(JSON.parse(text)).toEqual({
      type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
      title: "Request cannot be satisfied as assigned quota has been exceeded",
      status: 429,
      detail: "There were too many attempts. Try again in 13 s.",
      "violated-policies": ["login"],
    });
  });

  test("must wait a second at least", async () => {
    const { retryAfter } = await send([limiting({ ...NO_ROOM, retryAfterMs: 1 })]);
    expect(retryAfter).toBe("1");
  });

  test("does not reach the next limit", async () => {
    let asked = 0;
    await send([limiting(NO_ROOM), limiting(ROOM, { key: () => `${asked++}` })]);
    expect(asked).toBe(0);
  });
});

describe("a request that cannot be counted", () => {
  const failures = [
    new SessiondError("STORE_UNAVAILABLE", "the session store is unavailable: secret.internal"),
    new SessiondError("UNAVAILABLE", "connect ECONNREFUSED secret.internal"),
    new Error("anything else"),
  ];

  test.each(failures)("is refused with 503 (%s), without the cause", async (failure) => {
    const failed: unknown[] = [];
    const onUnavailable = (error: unknown) => failed.push(error);
    const { text, ...response } = await send([limiting(failure, { onUnavailable })]);
    const type = "application/problem+json";
    expect(response).toMatchObject({ status: 503, type, policy: null, retryAfter: "1" });
    expect(JSON.parse(text)).toEqual({
      type: "about:blank",
      title: "Service Unavailable",
      status: 503,
      detail: "Attempts cannot be counted at the moment. Try again in 1 s.",
    });
    expect(failed).toEqual([failure]);
  });

  test("must wait as long as the server asks", async () => {
    const failure = new SessiondError("STORE_UNAVAILABLE", "down", { retryAfterMs: 4_200 });
    expect((await send([limiting(failure)])).retryAfter).toBe("5");
  });

  test.each(failures)("passes if the application allows it (%s)", async (failure) => {
    const failed: unknown[] = [];
    const onUnavailable = (error: unknown) => failed.push(error);
    const middleware = limiting(failure, { whenUnavailable: "allow", onUnavailable });
    expect(await send([middleware])).toMatchObject({
      status: 200,
      policy: null,
      rateLimit: null,
      retryAfter: null,
    });
    expect(failed).toEqual([failure]);
  });
});

describe("a mistake", () => {
  test.each(["INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED"] as const)(
    "(%s) goes to the error handler, and no request passes",
    async (reason) => {
      const failure = new SessiondError(reason, "there is no such policy");
      const response = await send([limiting(failure, { whenUnavailable: "allow" })]);
      expect(response).toMatchObject({ status: 500, errors: [failure] });
    },
  );

  test("in the `key` function goes to the error handler", async () => {
    const key = () => {
      throw new Error("no address");
    };
    const response = await send([limiting(ROOM, { key, whenUnavailable: "allow" })]);
    expect(response).toMatchObject({ status: 500, text: "Error: no address" });
  });

  test.each(["", "Login", 'a"b', "a b"])("in the policy's name, %j, throws at once", (policy) => {
    expect(() => limiting(ROOM, { policy })).toThrow("policy: expected the name of a policy");
  });
});

test("a request that another middleware answers during the check is left alone", async () => {
  const { promise: answered, resolve } = Promise.withResolvers<void>();
  const check = async () => {
    await answered;
    return NO_ROOM;
  };
  const impatient: RateLimitMiddleware = (_request, response, next) => {
    next();
    response.end("timed out");
    resolve();
  };
  const response = await send([impatient, limiting(NO_ROOM, { rateLimits: { check } })]);
  expect(response).toMatchObject({ status: 200, text: "timed out", errors: [] });
});

test("the check gets the policy, and the key and cost of the request", async () => {
  const checks: unknown[] = [];
  const check = async (...args: unknown[]) => {
    checks.push(args);
    return ROOM;
  };
  const middleware = limiting(ROOM, {
    rateLimits: { check },
    key: async (request) => `user ${request.headers["x-user"]}`,
    cost: (request) => Number(request.headers["x-cost"]),
  });
  await send([middleware], { headers: { "x-user": "ann", "x-cost": "2" } });
  expect(checks).toEqual([["login", "user ann", { cost: 2 }]]);
});
