import { expect, test } from "vitest";
import { JsonDecoder } from "./json-decoder.js";

test("what was decoded last can be taken once, also where it is no UTF-8", () => {
  const decoder = new JsonDecoder();
  expect(decoder.take()).toBeUndefined();
  expect(decoder.decode(Buffer.from("{}"))).toBe("{}");
  const bad = Buffer.from([0xff]);
  expect(() => decoder.decode(bad)).toThrow(TypeError);
  expect(decoder.take()).toBe(bad);
  expect(decoder.take()).toBeUndefined();
});
