import { inspect } from "node:util";
import { expect, test } from "vitest";
import { SessiondError } from "../errors.js";
import { fromRedisError } from "./redis-errors.js";

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

test("a Redis that does not answer is unavailable", () => {
  expect(fromRedisError(new Error("Command timed out"))).toMatchObject({
    reason: "STORE_UNAVAILABLE",
  });
});

test("a Redis that is out of memory is overloaded", () => {
  expect(fromRedisError(replyError("OOM command not allowed"))).toMatchObject({
    reason: "OVERLOADED",
  });
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
