import { describe, expect, test } from "vitest";
import type { JsonObject, JsonValue, SessionContent } from "./session.js";
import { applyUpdate, checkUpdate, type SessionUpdate } from "./session-update.js";

const content: SessionContent = {
  displayName: "Ann",
  roles: ["user"],
  client: { ip: "203.0.113.7", userAgent: "curl", device: "laptop" },
  data: { theme: "dark", cart: { items: 3 } },
};

function keys(entries: Record<string, JsonValue | undefined>): SessionUpdate {
  return { dataKeys: new Map(Object.entries(entries)) };
}

describe("an update", () => {
  test("that is empty changes nothing", () => {
    expect(applyUpdate(content, {})).toEqual(content);
    expect(applyUpdate(content, { client: {}, dataKeys: new Map() })).toEqual(content);
  });

  test("changes what it names and nothing else", () => {
    expect(applyUpdate(content, { displayName: "" })).toEqual({ ...content, displayName: "" });
    expect(applyUpdate(content, { roles: [] })).toEqual({ ...content, roles: [] });
    expect(applyUpdate(content, { data: {} })).toEqual({ ...content, data: {} });
    expect(applyUpdate(content, { client: { device: "" } })).toEqual({
      ...content,
      client: { ...content.client, device: "" },
    });
  });

  test("leaves the content that it was given as it is", () => {
    const before = structuredClone(content);
    applyUpdate(content, { ...keys({ theme: undefined, a: 1 }), client: { ip: "" }, roles: [] });
    expect(content).toEqual(before);
  });

  test("sets, replaces and removes single keys of the data", () => {
    const updated = applyUpdate(
      content,
      keys({ theme: "light", cart: undefined, n: null, z: [1] }),
    );
    expect(updated.data).toEqual({ theme: "light", n: null, z: [1] });
    expect(applyUpdate(content, keys({ missing: undefined })).data).toEqual(content.data);
  });

  test("takes a dot in a key for part of its name", () => {
    expect(applyUpdate(content, keys({ "cart.items": 4 })).data).toEqual({
      ...content.data,
      "cart.items": 4,
    });
  });

  test("sets keys after it has replaced the data as a whole", () => {
    const update = { data: { a: 1, b: 2 }, ...keys({ b: 3, a: undefined }) };
    expect(applyUpdate(content, update).data).toEqual({ b: 3 });
  });

  test("sets and removes keys that mean something to JavaScript, as data", () => {
    const dataKeys = new Map<string, JsonValue>([
      ["__proto__", { polluted: true }],
      ["constructor", "c"],
      ["toString", 1],
    ]);
    const { data } = applyUpdate(content, { dataKeys });
    expect(Object.keys(data)).toEqual(["theme", "cart", "__proto__", "constructor", "toString"]);
    expect(JSON.stringify(data)).toContain('"__proto__":{"polluted":true}');
    expect(Object.getPrototypeOf(data)).toBe(Object.prototype);
    expect(({} as JsonObject)["polluted"]).toBeUndefined();

    const removed = applyUpdate(
      { ...content, data },
      { dataKeys: new Map([["__proto__", undefined]]) },
    );
    expect(Object.keys(removed.data)).not.toContain("__proto__");
  });

  test("keeps such a key when it changes another", () => {
    const data: JsonObject = JSON.parse('{"__proto__": 1, "a": 2}');
    const updated = applyUpdate({ ...content, data }, keys({ a: 3 }));
    expect(JSON.stringify(updated.data)).toBe('{"__proto__":1,"a":3}');
  });

  test("that would make the data too large together is refused", () => {
    const big = { ...content, data: { a: "x".repeat(16_000) } };
    expect(() => applyUpdate(big, keys({ b: "x".repeat(300) }))).not.toThrow();
    expect(() => applyUpdate(big, keys({ b: "x".repeat(400) }))).toThrow("session.data: expected");
    expect(() => applyUpdate(big, keys({ a: undefined, b: "x".repeat(16_000) }))).not.toThrow();
  });

  test("of a key to what is no JSON is refused", () => {
    expect(() => applyUpdate(content, keys({ a: Number.NaN }))).toThrow("session.data");
    expect(() => applyUpdate(content, keys({ "\ud800": 1 }))).toThrow("session.data");
  });
});

describe("checking an update", () => {
  test("lets through what a session can hold", () => {
    expect(() => checkUpdate({})).not.toThrow();
    const { displayName, roles, client, data } = content;
    expect(() => checkUpdate({ displayName, roles, client, data })).not.toThrow();
  });

  test.each<[SessionUpdate, string]>([
    [{ displayName: "x".repeat(257) }, "session.display_name: "],
    [{ roles: ["a", ""] }, "session.roles[1]: "],
    [{ roles: Array(65).fill("r") }, "session.roles: "],
    [{ client: { ip: "localhost" } }, "session.client.ip: "],
    [{ client: { userAgent: "x".repeat(1025) } }, "session.client.user_agent: "],
    [{ client: { device: "x".repeat(257) } }, "session.client.device: "],
    [{ data: { a: "x".repeat(17_000) } }, "session.data: "],
  ])("names the field that is at fault (case %#)", (update, message) => {
    expect(() => checkUpdate(update)).toThrow(message);
  });
});
