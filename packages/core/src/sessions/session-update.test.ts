import { expect, test } from "vitest";
import type { JsonObject, SessionContent } from "./session.js";
import { applyUpdate, prepareUpdate, type SessionUpdate } from "./session-update.js";

const content: SessionContent = {
  displayName: "Ann",
  roles: ["user"],
  client: { ip: "203.0.113.7", userAgent: "curl", device: "laptop" },
  data: { theme: "dark", cart: { items: 3 } },
};

const dataOf = (update: SessionUpdate, data = content.data) =>
  applyUpdate({ ...content, data }, update).data;

test("an update changes what it names and nothing else, and not what it was given", () => {
  const before = structuredClone(content);
  expect(applyUpdate(content, {})).toEqual(before);
  expect(applyUpdate(content, { client: {}, setData: {}, deleteData: [] })).toEqual(before);
  for (const change of [{ displayName: "" }, { roles: [] }, { data: {} }]) {
    expect(applyUpdate(content, change)).toEqual({ ...before, ...change });
  }
  expect(applyUpdate(content, { client: { device: "" } })).toEqual({
    ...before,
    client: { ...before.client, device: "" },
  });
  applyUpdate(content, { setData: { a: 1 }, deleteData: ["theme"] });
  expect(content).toEqual(before);
});

test("an update sets, replaces and deletes single keys, after the data as a whole", () => {
  const some = { setData: { theme: "light", n: null, z: [1] }, deleteData: ["cart"] };
  expect(dataOf(some)).toEqual({ theme: "light", n: null, z: [1] });
  expect(dataOf({ deleteData: ["missing", "missing", ""] })).toEqual(content.data);
  // A dot is part of a key's name.
  const dotted = { setData: { "cart.items": 4 }, deleteData: ["cart.count"] };
  expect(dataOf(dotted)).toEqual({ ...content.data, "cart.items": 4 });
  const whole = { data: { a: 1, b: 2 }, setData: { b: 3 }, deleteData: ["a"] };
  expect(dataOf(whole)).toEqual({ b: 3 });
});

test("keys that mean something to JavaScript are data like any other", () => {
  const data: JsonObject = JSON.parse('{"__proto__": 1, "a": 2}');
  const setData: JsonObject = JSON.parse('{"__proto__": {"polluted": true}, "constructor": "c"}');
  const updated = dataOf({ setData }, data);
  expect(JSON.stringify(updated)).toBe('{"__proto__":{"polluted":true},"a":2,"constructor":"c"}');
  expect(Object.getPrototypeOf(updated)).toBe(Object.prototype);
  expect(({} as JsonObject)["polluted"]).toBeUndefined();
  expect(JSON.stringify(dataOf({ setData: { a: 3 } }, data))).toBe('{"__proto__":1,"a":3}');
  const deleteData = ["__proto__", "toString"];
  expect(JSON.stringify(dataOf({ setData: { b: 1 }, deleteData }, data))).toBe('{"a":2,"b":1}');
  expect(() => prepareUpdate({ setData, deleteData })).toThrow("delete_data[0]: expected");
  expect(() => prepareUpdate({ setData: {}, deleteData })).not.toThrow();
});

test("an update after which the data is too large is refused", () => {
  const big = { a: "x".repeat(16_000) };
  expect(() => dataOf({ setData: { b: "x".repeat(300) } }, big)).not.toThrow();
  expect(() => dataOf({ setData: { b: "x".repeat(400) } }, big)).toThrow("set_data: expected");
  const replaced = { setData: { b: "x".repeat(16_000) }, deleteData: ["a"] };
  expect(() => dataOf(replaced, big)).not.toThrow();
});

test.each<[SessionUpdate, string | undefined]>([
  [{}, undefined],
  [content, undefined],
  [{ displayName: "x".repeat(257), client: { ip: "localhost" } }, undefined],
  [{ roles: ["a", ""] }, "session.roles[1]: "],
  [{ data: { a: "x".repeat(17_000) } }, "session.data: "],
  [{ setData: { a: "x".repeat(17_000) } }, "set_data: "],
  [{ setData: { a: Number.NaN } }, "set_data: "],
  [{ setData: { "\ud800": 1 } }, "set_data: "],
  // The key is data, which no message repeats.
  [{ setData: { a: 1, b: 2 }, deleteData: ["c", "b"] }, "delete_data[1]: expected a key that set"],
])("an update is checked, and the field at fault is named (case %#)", (update, message) => {
  if (message === undefined) expect(() => prepareUpdate(update)).not.toThrow();
  else expect(() => prepareUpdate(update)).toThrow(message);
});
