import { create, fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { SessionSchema } from "@sessiond/proto/sessiond/v1/session";
import {
  BatchGetSessionsResponseSchema,
  BatchVerifySessionsResponseSchema,
  CountSessionsResponseSchema,
  GetSessionResponseSchema,
  SessionResultSchema,
  VerifySessionResponseSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseSessions } from "./session-bytes.js";

const text = fc.oneof(
  { weight: 20, arbitrary: fc.string({ unit: "binary", maxLength: 20 }) },
  // About the lengths where a length takes one more byte.
  { weight: 2, arbitrary: fc.integer({ min: 120, max: 140 }).map((n) => "é".repeat(n / 2)) },
  { weight: 1, arbitrary: fc.integer({ min: 16_300, max: 16_500 }).map((n) => "x".repeat(n)) },
);
const time = fc.record({
  seconds: fc.oneof(
    fc.bigInt({ min: 0n, max: 2n ** 34n }),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  ),
  nanos: fc.integer({ min: -999_999_999, max: 999_999_999 }),
});
const json = fc
  .jsonValue({ maxDepth: 4, stringUnit: "binary" })
  .map((data) => JSON.parse(JSON.stringify(data)));
const absent = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });

const session = fc
  .record({
    ...{ id: text, userId: text, displayName: text, etag: text, revokeReason: text },
    roles: fc.array(text, { maxLength: 4 }),
    client: absent(fc.record({ ip: text, userAgent: text, device: text })),
    data: absent(fc.dictionary(text, json) as fc.Arbitrary<JsonObject>),
    ...{ createTime: absent(time), authenticateTime: absent(time), lastAccessTime: absent(time) },
    ...{ expireTime: absent(time), absoluteExpireTime: absent(time), revokeTime: absent(time) },
    ...{ tokenCreateTime: absent(time), idleTimeout: absent(time) },
    state: fc.integer({ min: -1, max: 9 }),
  })
  .map(({ client, data, ...rest }) => {
    const given = Object.entries(rest).filter(([, value]) => value !== undefined);
    return create(SessionSchema, {
      ...Object.fromEntries(given),
      ...(client && { client }),
      ...(data && { data }),
    });
  });

const error = fc
  .record({ code: fc.integer(), message: text })
  .map((status) => ({ case: "error" as const, value: create(StatusSchema, status) }));
const found = session.map((value) => ({ case: "session" as const, value }));
const result = fc
  .oneof(found, found, error, fc.constant({ case: undefined }))
  .map((result) => create(SessionResultSchema, { result }));

const answer = fc.oneof(
  fc
    .record({
      desc: fc.constantFrom(VerifySessionResponseSchema, GetSessionResponseSchema),
      session: absent(session),
    })
    .map(({ desc, session }) => ({
      desc,
      bytes: toBinary(desc, create(desc, session && { session })),
    })),
  fc
    .record({
      desc: fc.constantFrom(BatchVerifySessionsResponseSchema, BatchGetSessionsResponseSchema),
      results: fc.array(result, { maxLength: 20 }),
    })
    .map(({ desc, results }) => ({ desc, bytes: toBinary(desc, create(desc, { results })) })),
);

/** A session as servers write it. */
const USUAL = create(SessionSchema, {
  ...{ id: "a".repeat(64), userId: "ada", displayName: "Ada 👩‍💻", roles: ["editor", "ops"] },
  client: { ip: "2001:db8::1", userAgent: "curl/8.9", device: "" },
  data: { theme: "dark", cart: [1, 2.5, null, { deep: [true, false, "é", []] }], "": {} },
  createTime: { seconds: 1_800_000_000n, nanos: 123_000_000 },
  expireTime: { seconds: 4_800_000_000n },
  idleTimeout: { seconds: 1800n },
  ...{ state: 1, etag: "e1" },
});

test("an answer is read as the library reads it", () => {
  fc.assert(
    fc.property(answer, ({ desc, bytes }) => {
      const parsed = parseSessions(desc, bytes);
      if (parsed !== undefined) expect(parsed).toEqual(fromBinary(desc, bytes));
    }),
    { numRuns: 500 },
  );
});

test("the answers of a server are all read by hand", () => {
  const desc = BatchVerifySessionsResponseSchema;
  const gone = create(StatusSchema, { code: 5, message: "session not found" });
  const answer = create(desc, {
    results: [
      { result: { case: "session", value: USUAL } },
      { result: { case: "error", value: gone } },
    ],
  });
  expect(parseSessions(desc, toBinary(desc, answer))).toEqual(answer);
  for (const desc of [VerifySessionResponseSchema, GetSessionResponseSchema]) {
    const single = create(desc, { session: USUAL });
    expect(parseSessions(desc, toBinary(desc, single))).toEqual(single);
  }
});

test("bytes that were changed, cut or joined never become another answer than the library's", () => {
  let read = 0;
  fc.assert(
    fc.property(answer, fc.array(change, { minLength: 1, maxLength: 3 }), (given, changes) => {
      const bytes = changes.reduce(changed, given.bytes);
      const parsed = parsedOrThrown(() => parseSessions(given.desc, bytes));
      if (parsed === undefined) return;
      read++;
      expect(parsed).toEqual(parsedOrThrown(() => fromBinary(given.desc, bytes)));
    }),
    { numRuns: 3_000 },
  );
  expect(read).toBeGreaterThan(100);
});

const change = fc.record({
  at: fc.nat({ max: 2_000 }),
  kind: fc.constantFrom("set", "cut", "insert", "repeat"),
  byte: fc.nat({ max: 255 }),
});
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

function changed(bytes: Uint8Array<ArrayBuffer>, { at, kind, byte }: Change) {
  const index = bytes.length === 0 ? 0 : at % bytes.length;
  const [before, after] = [bytes.subarray(0, index), bytes.subarray(index)];
  switch (kind) {
    case "set":
      return Uint8Array.from([...before, byte, ...after.subarray(1)]);
    case "cut":
      return before;
    case "insert":
      return Uint8Array.from([...before, byte, ...after]);
    case "repeat":
      return Uint8Array.from([...before, ...after, ...after]);
  }
}

function parsedOrThrown(parse: () => unknown): unknown {
  try {
    return parse();
  } catch {
    return "malformed";
  }
}

test.each([
  ["a field that we do not know", [...toBinary(SessionSchema, USUAL), 0xa0, 0x1f, 1]],
  ["a text that is not UTF-8", [0x12, 2, 0xc3, 0x28]],
  ["a text with the character for what is no UTF-8", [0x12, 3, 0xef, 0xbf, 0xbd]],
  ["a client in two parts", [0x2a, 3, 0x0a, 1, 0x41, 0x2a, 3, 0x12, 1, 0x42]],
  ["a time before 1970", [0x3a, 11, 0x08, ...Array(9).fill(0xff), 1]],
  ["data with the name of the prototype", dataWith("__proto__")],
])("%s is left to the library", (_, session) => {
  const bytes = Uint8Array.from([0x0a, ...lengthOf(session), ...session]);
  expect(parseSessions(VerifySessionResponseSchema, bytes)).toBeUndefined();
});

function dataWith(name: string): number[] {
  const data = Object.fromEntries([[name, 1]]);
  return [...toBinary(SessionSchema, create(SessionSchema, { data }))];
}

/** A length of up to two bytes. */
function lengthOf({ length }: readonly number[]): number[] {
  return length < 0x80 ? [length] : [(length & 0x7f) | 0x80, length >> 7];
}

test("data that is nested deeply is left to the library", () => {
  let data: JsonObject = {};
  for (let depth = 0; depth < 40; depth++) data = { a: [data] };
  const desc = GetSessionResponseSchema;
  const bytes = toBinary(desc, create(desc, { session: { data } }));
  expect(parseSessions(desc, bytes)).toBeUndefined();
});

test("other messages are left to the library", () => {
  const desc = CountSessionsResponseSchema;
  expect(parseSessions(desc, toBinary(desc, create(desc, { count: 1 })))).toBeUndefined();
});
