import fc from "fast-check";
import { expect, test } from "vitest";
import { createRequestKey } from "./create-request.js";
import { fingerprintOf } from "./fingerprint.js";
import type { JsonValue } from "./session.js";

const json = fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<JsonValue>;

/** The same JSON with the keys of every object the other way round. */
function reversed(value: JsonValue): JsonValue {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(reversed);
  const entries = Object.entries(value).reverse();
  return Object.fromEntries(entries.map(([key, child]) => [key, reversed(child)]));
}

test("a fingerprint does not depend on the order of keys", () => {
  fc.assert(
    fc.property(json, (value) => {
      expect(fingerprintOf(reversed(value))).toBe(fingerprintOf(value));
    }),
  );
});

test("different contents have different fingerprints", () => {
  fc.assert(
    fc.property(json, json, (a, b) => {
      // Neither JSON nor a fingerprint tells -0 from 0.
      const isSame = JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
      expect(fingerprintOf(a) === fingerprintOf(b)).toBe(isSame);
    }),
  );
});

test.each<[JsonValue, JsonValue]>([
  [["a", "b"], ["a,b"]],
  [
    ["a", "b"],
    ["b", "a"],
  ],
  [[[], []], [[[]]]],
  [
    { a: 1, b: 2 },
    { a: 1, "b:2": 2 },
  ],
  [{ a: { b: 1 } }, { a: 1, b: {} }],
  [{ a: null }, {}],
  ["1", 1],
  [{}, []],
])("%j and %j are not taken for each other", (a, b) => {
  expect(fingerprintOf(a)).not.toBe(fingerprintOf(b));
});

test("a key named __proto__ counts as any other", () => {
  const data: JsonValue = JSON.parse('{"__proto__": {"admin": true}, "a": 1}');
  expect(fingerprintOf(data)).not.toBe(fingerprintOf({ a: 1 }));
});

test("no caller can write a key that is another caller's", () => {
  const hashOfShop = createRequestKey("shop", "x").split(":")[0];
  expect(createRequestKey("", `${hashOfShop}:x`)).not.toBe(createRequestKey("shop", "x"));
  expect(createRequestKey("a:b", "c")).not.toBe(createRequestKey("a", "b:c"));
  expect(createRequestKey("x".repeat(10_000), "y".repeat(128))).toHaveLength(172);
});

/** Independent of the code under test: keys in order, by rebuilding the objects. */
function sorted(value: JsonValue): JsonValue {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(sorted);
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.map((key) => [key, sorted(value[key] ?? null)]));
}
