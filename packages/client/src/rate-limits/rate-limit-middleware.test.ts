import { once } from "node:events";
import { createServer, type IncomingMessage, request as send } from "node:http";
import type { AddressInfo } from "node:net";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, describe, expect, test } from "vitest";
import { createSessionClient } from "../client.js";
import { SessiondError } from "../error.js";
import { startSessionServer, storeUnavailable } from "../testing/session-server.js";
import {
  createRateLimitMiddleware,
  type RateLimitAnswer,
  type RateLimitChecker,
  type RateLimitMiddleware,
  type RateLimitMiddlewareOptions,
} from "./rate-limit-middleware.js";

const NOW_MS = 1_700_000_000_000;

const cleanups: (() => unknown)[] = [];
/** What middlewares handed on as errors. */
let errors: unknown[] = [];
afterEach(async () => {
  errors = [];
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** An HTTP server whose requests pass the middlewares in order, as Connect has them pass. */
async function serve(...middlewares: readonly RateLimitMiddleware[]): Promise<string> {
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
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanups.push(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/login`;
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

/** Answers always the same, or throws it. */
function checker(answer: RateLimitAnswer | Error): RateLimitChecker {
  return {
    check: async () => {
      if (answer instanceof Error) throw answer;
      return answer;
    },
  };
}

function limiting(
  answer: RateLimitAnswer | Error,
  options: Partial<RateLimitMiddlewareOptions> = {},
): RateLimitMiddleware {
  return createRateLimitMiddleware({
    rateLimits: checker(answer),
    policy: "login",
    key: (request) => request.socket.remoteAddress,
    now: () => NOW_MS,
    ...options,
  });
}

function fieldsOf({ headers }: Response) {
  return [headers.get("ratelimit-policy"), headers.get("ratelimit"), headers.get("retry-after")];
}

describe("a request that has room", () => {
  test("goes on, and its answer tells where the caller stands", async () => {
    const response = await fetch(await serve(limiting(ROOM)));
    expect([response.status, await response.text()]).toEqual([200, "welcome"]);
    expect(fieldsOf(response)).toEqual(['"login";q=10;w=900', '"login";r=3;t=120', null]);
  });

  test("is told no more than the window to wait, and nothing negative, whatever the clocks say", async () => {
    const early = limiting({ ...ROOM, resetTime: new Date(NOW_MS + 86_400_000) });
    const late = limiting({ ...ROOM, resetTime: new Date(NOW_MS - 86_400_000) });
    expect(fieldsOf(await fetch(await serve(early)))[1]).toBe('"login";r=3;t=900');
    expect(fieldsOf(await fetch(await serve(late)))[1]).toBe('"login";r=3;t=0');
  });

  test("is told of windows in whole seconds, rounded up, or of none", async () => {
    const short = limiting({ ...ROOM, windowMs: 1_001 });
    expect(fieldsOf(await fetch(await serve(short)))[0]).toBe('"login";q=10;w=2');
    const { windowMs: _unknown, ...answer } = ROOM;
    expect(fieldsOf(await fetch(await serve(limiting(answer))))[0]).toBe('"login";q=10');
  });

  test("passes all limits that there are, and is told of each", async () => {
    const search = limiting({ ...ROOM, limit: 5, remaining: 4 }, { policy: "search" });
    const response = await fetch(await serve(limiting(ROOM), search));
    expect(fieldsOf(response)).toEqual([
      '"login";q=10;w=900, "search";q=5;w=900',
      '"login";r=3;t=120, "search";r=4;t=120',
      null,
    ]);
  });
});

describe("a request that has no room", () => {
  test("is refused with 429, and told when to come again", async () => {
    const response = await fetch(await serve(limiting(NO_ROOM)), { method: "POST", body: "x" });
    expect(response.status).toBe(429);
    expect(fieldsOf(response)).toEqual(['"login";q=10;w=900', '"login";r=0;t=13', "13"]);
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    expect(await response.json()).toEqual({
      type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
      title: "Request cannot be satisfied as assigned quota has been exceeded",
      status: 429,
      detail: "There were too many attempts. Try again in 13 s.",
      "violated-policies": ["login"],
    });
  });

  test.each([
    [1, "1"],
    [1_000, "1"],
    [1_001, "2"],
    [900_000, "900"],
  ])("of %d ms to wait it is told as %s s", async (retryAfterMs, seconds) => {
    const response = await fetch(await serve(limiting({ ...NO_ROOM, retryAfterMs })));
    expect(response.headers.get("retry-after")).toBe(seconds);
  });

  test("is refused without a body where it is a HEAD", async () => {
    const response = await fetch(await serve(limiting(NO_ROOM)), { method: "HEAD" });
    expect([response.status, await response.text()]).toEqual([429, ""]);
  });

  test("does not reach the limit after that", async () => {
    let asked = 0;
    const second = limiting(ROOM, { key: () => `${asked++}` });
    await fetch(await serve(limiting(NO_ROOM), second));
    expect(asked).toBe(0);
  });
});

describe("a request that cannot be counted", () => {
  const failures = [
    new SessiondError("STORE_UNAVAILABLE", "the session store is unavailable: secret.internal"),
    new SessiondError("OVERLOADED", "the session store is full"),
    new SessiondError("UNAVAILABLE", "connect ECONNREFUSED secret.internal"),
    new SessiondError("DEADLINE_EXCEEDED", "no answer"),
    new Error("whatever"),
  ];

  test.each(failures)(
    "is refused with 503 (%s), and hears nothing of the inside",
    async (failure) => {
      const failed: unknown[] = [];
      const onUnavailable = (error: unknown) => failed.push(error);
      const response = await fetch(await serve(limiting(failure, { onUnavailable })));
      expect(response.status).toBe(503);
      expect(fieldsOf(response)).toEqual([null, null, "1"]);
      expect(response.headers.get("content-type")).toBe("application/problem+json");
      expect(await response.json()).toEqual({
        type: "about:blank",
        title: "Service Unavailable",
        status: 503,
        detail: "Attempts cannot be counted at the moment. Try again in 1 s.",
      });
      expect(failed).toEqual([failure]);
    },
  );

  test("comes again when the server says", async () => {
    const failure = new SessiondError("STORE_UNAVAILABLE", "down", { retryAfterMs: 4_200 });
    const response = await fetch(await serve(limiting(failure)));
    expect(response.headers.get("retry-after")).toBe("5");
  });

  test.each(failures)("goes on where that is wanted (%s)", async (failure) => {
    const failed: unknown[] = [];
    const options = {
      whenUnavailable: "allow",
      onUnavailable: (error: unknown) => failed.push(error),
    } as const;
    const response = await fetch(await serve(limiting(failure, options)));
    expect(response.status).toBe(200);
    expect(fieldsOf(response)).toEqual([null, null, null]);
    expect(failed).toEqual([failure]);
  });
});

describe("a mistake", () => {
  test.each(["INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED"] as const)(
    "(%s) goes to the error handler, and lets nobody pass",
    async (reason) => {
      const failure = new SessiondError(reason, "there is no such policy");
      const url = await serve(limiting(failure, { whenUnavailable: "allow" }));
      const response = await fetch(url);
      expect(response.status).toBe(500);
      expect(await response.text()).toContain("there is no such policy");
    },
  );

  test("in the function that tells the key goes to the error handler", async () => {
    const key = () => {
      throw new Error("no address");
    };
    const response = await fetch(await serve(limiting(ROOM, { key, whenUnavailable: "allow" })));
    expect([response.status, await response.text()]).toEqual([500, "Error: no address"]);
  });

  test.each(["", "Login", 'a"b', "a b"])("in the policy's name, %j, is seen at once", (policy) => {
    expect(() => limiting(ROOM, { policy })).toThrow("policy: expected the name of a policy");
  });
});

test("a request that was answered while it was being counted is left alone", async () => {
  const { promise: counted, resolve } = Promise.withResolvers<void>();
  const slow = limiting(NO_ROOM, {
    rateLimits: {
      async check() {
        await counted;
        return NO_ROOM;
      },
    },
  });
  const impatient: RateLimitMiddleware = (_request, response, next) => {
    next();
    response.end("timed out");
    resolve();
  };
  const response = await fetch(await serve(impatient, slow));
  expect([response.status, await response.text()]).toEqual([200, "timed out"]);
  expect(errors).toEqual([]);
});

test("with the SDK's client, attempts are counted by what the server answers", async () => {
  let left = 2;
  const asked: unknown[] = [];
  const sessiond = await startSessionServer("grpc", {
    checkRateLimit({ policy, key, cost }) {
      asked.push([policy, key, cost]);
      const allowed = left > 0;
      if (allowed) left--;
      return {
        allowed,
        limit: 2,
        remaining: left,
        retryAfter: durationFromMs(allowed ? 0 : 30_000),
        resetTime: timestampFromMs(Date.now() + 30_000),
        window: durationFromMs(60_000),
      };
    },
  });
  cleanups.push(() => sessiond[Symbol.asyncDispose]());
  const client = createSessionClient({ baseUrl: sessiond.baseUrl, token: "token" });
  cleanups.push(() => client.close());
  const url = await serve(
    createRateLimitMiddleware({
      rateLimits: client.rateLimits,
      policy: "login",
      key: async (request) => `user ${request.headers["x-user"]}`,
      cost: (request) => Number(request.headers["x-cost"]),
    }),
  );
  const statuses = [];
  for (let i = 0; i < 3; i++) {
    const response = await fetch(url, { headers: { "x-user": "ann", "x-cost": "1" } });
    statuses.push(response.status);
  }
  expect(statuses).toEqual([200, 200, 429]);
  expect(asked).toEqual(Array(3).fill(["login", "user ann", 1]));
});

test("with the SDK's client, a server whose store is down lets nobody pass", async () => {
  const sessiond = await startSessionServer("grpc", {
    checkRateLimit() {
      throw storeUnavailable();
    },
  });
  cleanups.push(() => sessiond[Symbol.asyncDispose]());
  const client = createSessionClient({ baseUrl: sessiond.baseUrl, token: "token" });
  cleanups.push(() => client.close());
  const { rateLimits } = client;
  const url = await serve(
    createRateLimitMiddleware({ rateLimits, policy: "login", key: () => "ann" }),
  );
  const [response] = (await once(send(url).end(), "response")) as [IncomingMessage];
  response.resume();
  expect(response.statusCode).toBe(503);
  expect(Number(response.headers["retry-after"])).toBeGreaterThan(0);
});
