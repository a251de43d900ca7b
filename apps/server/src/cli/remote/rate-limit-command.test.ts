import { expect, test } from "vitest";
import { faultsOf, outcomeOf } from "../../testing/command-outcome.js";
import type { RateLimitCallOptions } from "./rate-limit-calls.js";
import { rateLimitCommand } from "./rate-limit-command.js";

const TOKEN = ["--token", "access.token.signature"];
const REFUSED = 1;

const calls: RateLimitCallOptions[] = [];
const rateLimit = rateLimitCommand(async (options) => {
  calls.push(options);
  return REFUSED;
});

test("checks, asks and resets", async () => {
  const check = ["check", "login", "203.0.113.7", "--cost", "3", ...TOKEN];
  expect((await outcomeOf(rateLimit, check)).code).toBe(REFUSED);
  await outcomeOf(rateLimit, ["get", "login", "a", "--json", ...TOKEN]);
  await outcomeOf(rateLimit, ["reset", "login", "-7", ...TOKEN]);
  expect(calls.splice(0)).toMatchObject([
    { action: "check", policy: "login", key: "203.0.113.7", cost: 3 },
    { action: "get", policy: "login", key: "a", cost: 1, json: true },
    { action: "reset", policy: "login", key: "-7", cost: 1 },
  ]);
});

test.each([
  [[], "expected sessiond rate-limit check|get|reset"],
  [["check"], "POLICY and KEY are missing: sessiond rate-limit check|get|reset"],
  [["check", "login"], "the KEY after POLICY is missing"],
  [["check", "login", ...TOKEN], "the KEY after POLICY is missing"],
  [["check", "login", "a", "b:c", ...TOKEN], "argument 4: not a flag"],
  [["drop", "login", "x"], "expected sessiond rate-limit check|get|reset"],
  [["chek", "login", "x"], "(did you mean check?)"],
  [["check", "login", "x", "--cost=0", ...TOKEN], "--cost: expected"],
  [["reset", "login", "x", "--cost=1", ...TOKEN], "--cost: unknown flag"],
])("%j is refused", async (args, expected) => {
  expect(await faultsOf(rateLimit, args)).toEqual([expect.stringContaining(expected)]);
  expect(calls).toEqual([]);
});
