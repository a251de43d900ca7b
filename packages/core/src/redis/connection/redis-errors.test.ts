import { inspect } from "node:util";
import { expect, test } from "vitest";
import { SessiondError } from "../../errors.js";
import { fromRedisError, isNotRunYet } from "./redis-errors.js";

/** As ioredis throws what Redis answered, with the command and its arguments. */
function replyError(message: string): Error {
  const command = { name: "hset", args: ["session:{00}:1", "token_hash", "canary"] };
  return Object.assign(new Error(message), { name: "ReplyError", command });
}

test.each(["LOADING", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "TRYAGAIN", "NOAUTH"])(
  "a Redis that answers %s is unavailable",
  (prefix) => {
    expect(fromRedisError(replyError(`${prefix} some words`))).toMatchObject({
      reason: "STORE_UNAVAILABLE",
    });
  },
);

// ioredis's own error, once it has followed as many redirections as it may: no
// ReplyError, and it read as a Redis that gave no answer.
test.each(["MOVED 42 127.0.0.1:1", "ASK 42 127.0.0.1:1", "TRYAGAIN Multiple keys"])(
  "a cluster that sends a command round in circles, at last with %s, is resharding",
  (reply) => {
    const error = new Error(`Too many Cluster redirections. Last error: ReplyError: ${reply}`);
    expect(fromRedisError(error)).toMatchObject({
      reason: "STORE_UNAVAILABLE",
      message: expect.stringContaining("resharding"),
    });
    expect(isNotRunYet(error)).toBe(true);
  },
);

test.each([
  "Stream isn't writeable and enableOfflineQueue options is false",
  "Connection is closed.",
])("a command without a connection fails with words of ours alone, not with: %s", (message) => {
  const error = fromRedisError(new Error(message));
  expect(error).toMatchObject({
    reason: "STORE_UNAVAILABLE",
    message: "the session store is unavailable: no connection to Redis",
    cause: undefined,
  });
});

test("a Redis that does not answer is unavailable, one out of memory overloaded", () => {
  const silent = fromRedisError(new Error("Command timed out"));
  expect(silent).toMatchObject({ reason: "STORE_UNAVAILABLE" });
  const full = fromRedisError(replyError("OOM command not allowed"));
  expect(full).toMatchObject({ reason: "OVERLOADED" });
});

test("a command that Redis does not understand is a fault of ours, and no outage", () => {
  const error = fromRedisError(replyError("WRONGTYPE Operation against a key"));
  expect(error).not.toBeInstanceOf(SessiondError);
});

test("no error carries the arguments of the command", () => {
  for (const prefix of ["LOADING", "OOM", "WRONGTYPE", "ERR"]) {
    expect(inspect(fromRedisError(replyError(prefix)), { depth: 10 })).not.toContain("canary");
  }
});
