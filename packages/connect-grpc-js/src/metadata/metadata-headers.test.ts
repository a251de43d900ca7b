import { Metadata } from "@grpc/grpc-js";
import fc from "fast-check";
import { expect, test } from "vitest";
import { MetadataHeaders } from "./metadata-headers.js";

const names = fc.constantFrom("authorization", "x-a", "x-b", "Upper-Case", "x-absent");
const values = fc.string({ unit: fc.constantFrom(..."aZ09 ,;="), maxLength: 12 });
const operations = fc.array(
  fc.oneof(
    fc.tuple(fc.constantFrom("get", "has", "delete"), names),
    fc.tuple(fc.constantFrom("append", "set"), names, values),
    fc.tuple(fc.constantFrom("entries", "keys", "values", "getSetCookie")),
  ),
);

test("MetadataHeaders behaves like Headers with the same entries", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(names, values)), operations, (entries, steps) => {
      const metadata = new Metadata();
      const expected = new Headers();
      for (const [name, value] of entries) {
        metadata.add(name, value);
        expected.append(name, value);
      }
      const actual = new MetadataHeaders(metadata);
      for (const [method, ...args] of steps) {
        expect(outcome(actual, method, args)).toEqual(outcome(expected, method, args));
      }
      expect([...actual]).toEqual([...expected]);
    }),
  );
});

/** The result of a call. Reads iterators to their end. */
function outcome(headers: Headers, method: keyof Headers, args: string[]): unknown {
  const call = Reflect.get(headers, method) as (...args: string[]) => unknown;
  const result = call.apply(headers, args);
  const isIterable = typeof result === "object" && result !== null && Symbol.iterator in result;
  return isIterable ? [...(result as Iterable<unknown>)] : result;
}

test("a copy made by Headers has all entries", () => {
  const metadata = new Metadata();
  metadata.add("x-a", "1");
  metadata.add("x-a", "2");
  expect([...new Headers(new MetadataHeaders(metadata))]).toEqual([["x-a", "1, 2"]]);
});

test("a binary value is unpadded base64, from `get` and in a list", () => {
  const metadata = new Metadata();
  metadata.add("x-bin", Buffer.from([0xff, 0xfe]));
  expect(new MetadataHeaders(metadata).get("x-bin")).toBe("//4");
  expect([...new MetadataHeaders(metadata)]).toEqual([["x-bin", "//4"]]);
});

test("an invalid name is refused, as in Headers", () => {
  expect(() => new MetadataHeaders(new Metadata()).get("no spaces")).toThrow(TypeError);
});
