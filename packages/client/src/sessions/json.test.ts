import { create, fromBinary, type JsonObject, type JsonValue, toBinary } from "@bufbuild/protobuf";
import {
  CreateSessionRequestSchema,
  SessionResultSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import fc from "fast-check";
import { expect, test } from "vitest";
import { protoSession } from "../testing/session-server.js";
import { jsonObject } from "./json.js";

const text = fc.string({ unit: "grapheme" });
const exact = fc
  .double({ noDefaultInfinity: true, noNaN: true })
  .filter((value) => !Number.isInteger(value) || Number.isSafeInteger(value));
const { anyJsonObject } = fc.letrec<{ value: JsonValue; anyJsonObject: JsonObject }>((tie) => ({
  anyJsonObject: fc.dictionary(text, tie("value"), { maxKeys: 5 }),
  value: fc.oneof(
    { maxDepth: 4 },
    fc.oneof(text, exact, fc.maxSafeInteger(), fc.boolean(), fc.constant(null)),
    fc.array(tie("value"), { maxLength: 5 }),
    tie("anyJsonObject"),
  ),
}));

test("every JSON object is accepted and arrives unchanged", () => {
  fc.assert(
    fc.property(anyJsonObject, (data) => {
      const message = create(CreateSessionRequestSchema, { data: jsonObject(data, "data") });
      const bytes = toBinary(CreateSessionRequestSchema, message);
      const received = fromBinary(CreateSessionRequestSchema, bytes);
      expect(JSON.parse(JSON.stringify(received.data))).toEqual(JSON.parse(JSON.stringify(data)));
    }),
  );
  jsonObject(Object.assign(Object.create(null), { a: 1 }), "data");
});

/** An object with so many levels, and `leaf` in the innermost. */
function nested(levels: number, leaf: JsonValue = 1): JsonObject {
  let object: JsonObject = { leaf };
  for (let level = 1; level < levels; level++) object = { a: object };
  return object;
}

test("data of 32 levels is accepted with any leaf, and fits into a batch", () => {
  for (const leaf of [1, "text", true, null]) jsonObject(nested(32, leaf), "data");
  const result = create(SessionResultSchema, {
    result: { case: "session", value: protoSession({ data: nested(32) }) },
  });
  fromBinary(SessionResultSchema, toBinary(SessionResultSchema, result));
});

test("data of 33 levels, or data that contains itself, is refused by its field", () => {
  const loop: Record<string, unknown> = {};
  loop["self"] = loop;
  for (const data of [nested(33), nested(32, {}), nested(32, []), nested(1_000), loop]) {
    const message = /^data: expected at most 32 levels of nesting$/;
    expect(() => jsonObject(data, "data")).toThrow(message);
  }
});

const sparse: unknown[] = [1];
sparse[2] = 3;

// protobuf would change these in silence. The message has the path of the fault.
test.each<[string, unknown, string]>([
  ["undefined", { a: undefined }, "data.a: expected JSON, not undefined"],
  ["NaN", { a: [1, Number.NaN] }, "data.a[1]: expected JSON, not NaN; send it as a string"],
  [
    "infinity",
    { a: -Infinity },
    "data.a: expected JSON, not an infinite number; send it as a string",
  ],
  [
    "an id that JavaScript has rounded",
    JSON.parse('{ "steam": { "id": 76561198000000001 } }'),
    "data.steam.id: expected JSON, not an integer beyond 2^53; send it as a string",
  ],
  ["a Date", { a: { b: new Date() } }, "data.a.b: expected JSON, not Date"],
  ["a Map", { a: new Map() }, "data.a: expected JSON, not Map"],
  ["a bigint", { a: 1n }, "data.a: expected JSON, not bigint; send it as a string"],
  ["a function", { a() {} }, "data.a: expected JSON, not function"],
  ["a hole", { a: sparse }, "data.a[1]: expected JSON, not undefined"],
  ["half a character", { a: "\ud800" }, "data.a: expected well-formed Unicode"],
  ["half a character in a key", { "\ud800": 1 }, "data: expected keys of well-formed Unicode"],
  ["an array at the top", [1], "data: expected a JSON object"],
  ["null at the top", null, "data: expected a JSON object"],
  ["a string at the top", "{}", "data: expected a JSON object"],
])("%s is refused", (_, data, message) => {
  expect(() => jsonObject(data, "data")).toThrow(message);
});
