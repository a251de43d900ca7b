import { create, fromBinary, fromJsonString, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  CreateSessionRequestSchema,
  ListSessionsRequestSchema,
  RefreshSessionRequestSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import { describe, expect, test } from "vitest";
import { fieldOfBytes, fieldOfJson } from "./malformed-field.js";

const CREATE = CreateSessionRequestSchema;
const INVALID = Uint8Array.of(0xc3, 0x28);

describe("JSON", () => {
  test.each([
    [CREATE, '{"userId": "ann", "lifetime": "abc"}', "lifetime", true],
    [CREATE, '{"idle_timeout": 5}', "idle_timeout", true],
    [CREATE, '{"client": {"ip": "::1", "userAgent": 7}}', "client.user_agent", true],
    [CREATE, '{"client": "::1"}', "client", true],
    [CREATE, '{"roles": ["admin", 7]}', "roles", true],
    [CREATE, '{"data": [1]}', "data", true],
    [CREATE, '{"userId": "ann", "user_id": "bob"}', "user_id", true],
    [CREATE, '{"client": {"userAgent": "a", "user_agent": "b"}}', "client.user_agent", true],
    [CREATE, '{"userid": "ann"}', "userid", false],
    [CREATE, '{"client": {"port": 80}}', "client.port", false],
    [CREATE, '{"__proto__": 1}', "__proto__", false],
    [CREATE, `{"${"k".repeat(100)}": 1}`, "k".repeat(64), false],
    [ListSessionsRequestSchema, '{"filter": {"createTimeTo": "x"}}', "filter.create_time_to", true],
    [RefreshSessionRequestSchema, '{"sessionId": "a", "token": "b"}', "target", true],
  ])("%s: %s is refused for its %s", (desc, json, path, isKnown) => {
    expect(() => fromJsonString(desc, json)).toThrow();
    expect(fieldOfJson(desc, Buffer.from(json))).toEqual({ path, isKnown });
  });

  test.each(["", "{", "[]", "7", "null", '"text"', '{"userId": "a", "userId": "b"}'])(
    "%s is no one field's fault",
    (json) => {
      expect(() => fromJsonString(CREATE, json)).toThrow();
      expect(fieldOfJson(CREATE, Buffer.from(json))).toBeUndefined();
    },
  );
});

describe("bytes", () => {
  const fine = toBinary(CREATE, create(CREATE, { userId: "ann", data: { a: [1, { b: null }] } }));
  const client = new BinaryWriter().tag(1, WireType.LengthDelimited).string("::1");
  client.tag(3, WireType.LengthDelimited).bytes(INVALID);

  test.each([
    ["a text", "user_id", field(1, INVALID)],
    ["a text of a list", "roles", Buffer.concat([field(4, Buffer.from("a")), field(4, INVALID)])],
    ["a part of a message", "client.device", field(5, client.finish())],
    ["a key of data", "data", field(6, field(1, field(1, INVALID)))],
    ["a duration of an impossible kind", "lifetime", field(8, Uint8Array.of(0x0f))],
  ])("are refused for %s, %s", (_, path, bytes) => {
    const message = Buffer.concat([fine, bytes, fine]);
    expect(() => fromBinary(CREATE, message)).toThrow();
    expect(fieldOfBytes(CREATE, message)).toEqual({ path, isKnown: true });
  });

  test.each([
    ["fine", fine],
    ["none", Buffer.alloc(0)],
    ["too early at their end", fine.subarray(0, -1)],
    ["text", Buffer.from("what is this, a message?")],
  ])("that are %s are no one field's fault", (_, bytes) => {
    expect(fieldOfBytes(CREATE, bytes)).toBeUndefined();
  });

  test("of many more fields than any message has are given up on", () => {
    const many = Buffer.concat([
      ...Array(10_001).fill(field(4, Buffer.alloc(0))),
      field(1, INVALID),
    ]);
    expect(fieldOfBytes(CREATE, many)).toBeUndefined();
  });
});

function field(number: number, bytes: Uint8Array): Uint8Array {
  return new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(bytes).finish();
}
