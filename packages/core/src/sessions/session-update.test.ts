import { expect, test } from "vitest";
import type { JsonObject, JsonValue, SessionContent } from "./session.js";
import { applyUpdate, prepareUpdate, type SessionUpdate } from "./session-update.js";

const content: SessionContent = {
  displayName: "Ann",
  roles: ["user"],
  client: { ip: "203.0.113.7", userAgent: "curl", device: "laptop" },
  data: { theme: "dark", cart: { items: 3 } },
};

function keys(entries: Record<string, JsonValue | undefined>): SessionUpdate {
  return { dataKeys: new Map(Object.entries(entries)) };
}

test("an update changes what it names and nothing else, and not what it was given", () => {
  const before = structuredClone(content);
  expect(applyUpdate(content, {})).toEqual(before);
  expect(applyUpdate(content, { client: {}, dataKeys: new Map() })).toEqual(before);
  for (const change of [{ displayName: "" }, { roles: [] }, { data: {} }]) {
    expect(applyUpdate(content, change)).toEqual({ ...before, ...change });
  }
  expect(applyUpdate(content, { client: { device: "" } })).toEqual({
    ...before,
    client: { ...before.client, device: "" },
  });
  applyUpdate(content, keys({ theme: undefined, a: 1 }));
  expect(content).toEqual(before);
});

test("an update sets, replaces and removes single keys, after the data as a whole", () => {
  const dataOf = (update: SessionUpdate) => applyUpdate(content, update).data;
  const some = keys({ theme: "light", cart: undefined, n: null, z: [1] });
  expect(dataOf(some)).toEqual({ theme: "light", n: null, z: [1] });
  expect(dataOf(keys({ missing: undefined }))).toEqual(content.data);
  // A dot is part of a key's name.
  expect(dataOf(keys({ "cart.items": 4 }))).toEqual({ ...content.data, "cart.items": 4 });
  expect(dataOf({ data: { a: 1, b: 2 }, ...keys({ b: 3, a: undefined }) })).toEqual({ b: 3 });
});

test("keys that mean something to JavaScript are data like any other", () => {
  const data: JsonObject = JSON.parse('{"__proto__": 1, "a": 2}');
  const special = new Map<string, JsonValue>([
    ["__proto__", { polluted: true }],
    ["constructor", "c"],
  ]);
  const updated = applyUpdate({ ...content, data }, { dataKeys: special }).data;
  expect(JSON.stringify(updated)).toBe('{"__proto__":{"polluted":true},"a":2,"constructor":"c"}');
  expect(Object.getPrototypeOf(updated)).toBe(Object.prototype);
  expect(({} as JsonObject)["polluted"]).toBeUndefined();
  expect(JSON.stringify(applyUpdate({ ...content, data }, keys({ a: 3 })).data)).toBe(
    '{"__proto__":1,"a":3}',
  );
  const removal = { dataKeys: new Map([["__proto__", undefined]]) };
  expect(JSON.stringify(applyUpdate({ ...content, data }, removal).data)).toBe('{"a":2}');
});

test("an update after which the data is too large, or no JSON, is refused", () => {
  const big = { ...content, data: { a: "x".repeat(16_000) } };
  expect(() => applyUpdate(big, keys({ b: "x".repeat(300) }))).not.toThrow();
  expect(() => applyUpdate(big, keys({ b: "x".repeat(400) }))).toThrow("session.data: expected");
  expect(() => applyUpdate(big, keys({ a: undefined, b: "x".repeat(16_000) }))).not.toThrow();
  expect(() => applyUpdate(content, keys({ a: Number.NaN }))).toThrow("session.data");
  expect(() => applyUpdate(content, keys({ "\ud800": 1 }))).toThrow("session.data");
});

test.each<[SessionUpdate, string | undefined]>([
  [{}, undefined],
  [content, undefined],
  [{ displayName: "x".repeat(257), client: { ip: "localhost" } }, undefined],
  [{ roles: ["a", ""] }, "session.roles[1]: "],
  [{ data: { a: "x".repeat(17_000) } }, "session.data: "],
])("an update is checked, and the field at fault is named (case %#)", (update, message) => {
  if (message === undefined) expect(() => prepareUpdate(update)).not.toThrow();
  else expect(() => prepareUpdate(update)).toThrow(message);
});
