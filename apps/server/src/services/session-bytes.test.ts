import { create, fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { SessionSchema } from "@sessiond/proto/sessiond/v1/session";
import {
  BatchVerifySessionsResponseSchema,
  CountSessionsResponseSchema,
  GetSessionResponseSchema,
  SessionResultSchema,
  VerifySessionResponseSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import fc from "fast-check";
import { expect, test } from "vitest";
import { serializeSessions } from "./session-bytes.js";

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
    state: fc.integer({ min: 0, max: 3 }),
  })
  .map(({ client, data, ...rest }) => {
    const given = Object.entries(rest).filter(([, value]) => value !== undefined);
    return create(SessionSchema, {
      ...Object.fromEntries(given),
      ...(client && { client }),
      ...(data && { data }),
    });
  });

test("an answer has the bytes that any implementation of Protobuf writes", () => {
  fc.assert(
    fc.property(session, (session) => {
      for (const desc of [VerifySessionResponseSchema, GetSessionResponseSchema]) {
        const answer = create(desc, { session });
        expect(serializeSessions(desc, answer)).toEqual(toBinary(desc, answer));
      }
    }),
  );
});

test("a batch has the bytes that any implementation of Protobuf writes", () => {
  const error = fc
    .record({ code: fc.integer(), message: text })
    .map((status) => ({ case: "error" as const, value: create(StatusSchema, status) }));
  const found = session.map((value) => ({ case: "session" as const, value }));
  const none = fc.constant({ case: undefined });
  const result = fc.oneof(found, found, error, none);
  fc.assert(
    fc.property(fc.array(result, { maxLength: 20 }), (results) => {
      const desc = BatchVerifySessionsResponseSchema;
      const answer = create(desc, {
        results: results.map((result) => create(SessionResultSchema, { result })),
      });
      expect(serializeSessions(desc, answer)).toEqual(toBinary(desc, answer));
    }),
  );
});

test("an answer that could not be written leaves nothing in the next one", () => {
  const desc = VerifySessionResponseSchema;
  const broken = create(desc, { session: { id: "a", roles: [Symbol() as unknown as string] } });
  expect(() => serializeSessions(desc, broken)).toThrow();
  const answer = create(desc, { session: { id: "b", displayName: "x".repeat(2_000_000) } });
  const bytes = serializeSessions(desc, answer) ?? new Uint8Array();
  expect(fromBinary(desc, bytes)).toEqual(answer);
});

test("other messages are left to the library", () => {
  const desc = CountSessionsResponseSchema;
  expect(serializeSessions(desc, create(desc, { count: 1 }))).toBeUndefined();
});
