import { expect, test } from "vitest";
import { CallerNames } from "./caller-names.js";

const HOUR_MS = 3_600_000;
const ada = { issuer: "i", subject: "ada", namespace: "", permissions: new Set<string>() };

test("a caller uses its names as often as it likes, and others only as many as it may in an hour", () => {
  let now = 0;
  const names = new CallerNames(2, () => now);
  for (const name of ["a", "b", "a", "b"]) names.use(ada, name);
  const refused = expect.objectContaining({ reason: "OVERLOADED", retryAfterMs: HOUR_MS });
  expect(() => names.use(ada, "c")).toThrow(refused);
  names.use({ ...ada, subject: "bob" }, "c");
  now = HOUR_MS - 1;
  expect(() => names.use(ada, "c")).toThrow("this caller has used 2 names");
  now = HOUR_MS;
  names.use(ada, "c");
});
