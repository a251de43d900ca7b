import { expect, test } from "vitest";
import { DEFAULT_RATE_LIMITS, parseRateLimitPolicies } from "./rate-limit-policy.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const LOGIN = {
  name: "login",
  windows: [{ limit: 10, windowMs: 15 * MINUTE_MS }],
  countRefused: false,
  whenUnavailable: "refuse",
};

test("by default, ten logins in fifteen minutes are allowed, refused ones do not count, and none passes uncounted", () => {
  expect(parseRateLimitPolicies(DEFAULT_RATE_LIMITS)).toEqual([LOGIN]);
});

test("there may be several policies, each with several windows and options, up to the greatest", () => {
  const text =
    " login: 10 per 15m,50 per 24h ;sign_up-2:3  per  1h30m (count refused, allow when unavailable);" +
    `${"x".repeat(64)}: 10000 per 365d (allow  when unavailable)`;
  expect(parseRateLimitPolicies(text)).toEqual([
    {
      ...LOGIN,
      windows: [
        { limit: 10, windowMs: 15 * MINUTE_MS },
        { limit: 50, windowMs: 24 * HOUR_MS },
      ],
    },
    {
      name: "sign_up-2",
      windows: [{ limit: 3, windowMs: 90 * MINUTE_MS }],
      countRefused: true,
      whenUnavailable: "allow",
    },
    {
      name: "x".repeat(64),
      windows: [{ limit: 10_000, windowMs: 365 * 24 * HOUR_MS }],
      countRefused: false,
      whenUnavailable: "allow",
    },
  ]);
});

test.each([
  ["", 'expected a policy such as "login: 10 per 15m"'],
  ["login: 10 per 15m;", 'expected a policy such as "login: 10 per 15m"'],
  ["login 10 per 15m", 'policy "login 10 per 15m": expected a policy such as "login: 10 per 15m"'],
  ["Login: 10 per 15m", 'policy "Login": expected a name of 1 to 64 characters out of a-z 0-9 _ -'],
  ["2fa: 10 per 15m", 'policy "2fa": expected a name'],
  [`${"a".repeat(65)}: 10 per 15m`, "expected a name"],
  ["login:", 'policy "login": expected a limit such as "10 per 15m"'],
  ["login: 10 in 15m", 'policy "login": expected a limit such as "10 per 15m", not "10 in 15m"'],
  ["login: 1.5 per 15m", 'policy "login": expected a limit such as "10 per 15m"'],
  ["login: 0 per 15m", 'policy "login": expected a limit from 1 to 10000, not 0'],
  ["login: 10001 per 15m", 'policy "login": expected a limit from 1 to 10000, not 10001'],
  ["login: 10 per 15", 'policy "login": expected a duration such as 30m or 24h'],
  ["login: 10 per 366d", 'policy "login": expected a window of at most 365d, not 366d'],
  ["login: 10 per 60s, 5 per 1m", 'policy "login": expected one limit per 1m'],
  [
    `login: ${Array.from({ length: 9 }, (_, i) => `1 per ${i + 1}s`).join(", ")}`,
    'policy "login": expected at most 8 windows',
  ],
  [
    "login: 10 per 15m (count)",
    'policy "login": expected "count refused" or "allow when unavailable" in the parentheses, not "count"',
  ],
  ["a: 1 per 1s; b: 1 per 1s; a: 2 per 1s", 'policy "a": expected to be there once'],
  [
    Array.from({ length: 101 }, (_, i) => `p${i}: 1 per 1s`).join(";"),
    "expected at most 100 policies",
  ],
])("%j is refused, by the name of the policy and with what was expected", (text, message) => {
  expect(() => parseRateLimitPolicies(text)).toThrow(message);
});
