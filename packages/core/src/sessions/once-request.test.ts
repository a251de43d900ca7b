import fc from "fast-check";
import { expect, test } from "vitest";
import { fingerprintOf } from "./fingerprint.js";
import { requestKey } from "./once-request.js";
import type { JsonValue } from "./session.js";

const json = fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<JsonValue>;

/** The same JSON with the keys of every object in another order. */
function reordered(value: JsonValue, order: (keys: string[]) => string[]): JsonValue {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map((child) => reordered(child, order));
  const keys = order(Object.keys(value));
  return Object.fromEntries(keys.map((key) => [key, reordered(value[key] ?? null, order)]));
}

test("a fingerprint depends on the content, and not on the order of keys", () => {
  const sorted = (value: JsonValue) => JSON.stringify(reordered(value, (keys) => keys.sort()));
  fc.assert(
    fc.property(json, json, (a, b) => {
      expect(fingerprintOf(reordered(a, (keys) => keys.reverse()))).toBe(fingerprintOf(a));
      // Neither JSON nor a fingerprint tells -0 from 0.
      expect(fingerprintOf(a) === fingerprintOf(b)).toBe(sorted(a) === sorted(b));
    }),
  );
});

test.each<[JsonValue, JsonValue]>([
  [["a", "b"], ["a,b"]],
  [
    [1, 2],
    [2, 1],
  ],
  [[[], []], [[[]]]],
  [{ a: { b: 1 } }, { a: 1, b: {} }],
  [{ a: null }, {}],
  ["1", 1],
  [{}, []],
  [JSON.parse('{"__proto__": 1}'), {}],
])("%j and %j are not taken for each other", (a, b) => {
  expect(fingerprintOf(a)).not.toBe(fingerprintOf(b));
});

test("no caller can write a key that is another caller's", () => {
  const hashOfShop = requestKey("shop", "x").split(":")[0];
  expect(requestKey("", `${hashOfShop}:x`)).not.toBe(requestKey("shop", "x"));
  expect(requestKey("a:b", "c")).not.toBe(requestKey("a", "b:c"));
  expect(requestKey("x".repeat(10_000), "y".repeat(128))).toHaveLength(172);
});
