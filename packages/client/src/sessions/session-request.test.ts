import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { durationFromMs, durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  CreateSessionRequestSchema,
  ListSessionsRequestSchema,
  UpdateSessionRequestSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { listRequest, type SessionPageQuery } from "./session-query.js";
import {
  createRequest,
  type NewSession,
  type SessionUpdate,
  targetFrom,
  updateRequest,
} from "./session-request.js";

/** A request as the server receives it. */
function received<Desc extends DescMessage>(schema: Desc, request: MessageInitShape<Desc>) {
  return fromBinary(schema, toBinary(schema, create(schema, request)));
}
const receivedCreate = (session: NewSession) =>
  received(CreateSessionRequestSchema, createRequest(session));
const receivedUpdate = (update: SessionUpdate) =>
  received(UpdateSessionRequestSchema, updateRequest("s", update));
const receivedList = (query: SessionPageQuery) =>
  received(ListSessionsRequestSchema, listRequest(query));

describe("a session to create", () => {
  test("needs only a user, and gets a request id", () => {
    const requests = Array.from({ length: 100 }, () => receivedCreate({ userId: "user-1" }));
    const requestId = expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    const empty = create(CreateSessionRequestSchema);
    for (const request of requests) {
      expect(request).toEqual({ ...empty, userId: "user-1", requestId });
    }
    expect(new Set(requests.map(({ requestId }) => requestId)).size).toBe(100);
  });

  test("carries all that is given", () => {
    const given = {
      userId: "user-1",
      sessionId: "jti-1",
      displayName: "Ada",
      roles: ["admin", "auditor"],
      data: { theme: "dark" },
      requestId: "job-7",
    };
    const request = receivedCreate({
      ...given,
      client: { ip: "203.0.113.7", device: "laptop" },
      idleTimeoutMs: 900_000,
      lifetimeMs: 86_400_500,
    });
    expect(request).toMatchObject({
      ...given,
      client: { ip: "203.0.113.7", userAgent: "", device: "laptop" },
      idleTimeout: durationFromMs(900_000),
      lifetime: durationFromMs(86_400_500),
    });
  });

  test.each([
    [0, 0],
    [-1, -1],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    // The server does not know fractions.
    [0.1 * 3 * 1000, 300],
  ])("with %d ms to live has %d", (lifetimeMs, expected) => {
    const { lifetime } = receivedCreate({ userId: "u", lifetimeMs });
    expect(lifetime && durationMs(lifetime)).toBe(expected);
  });

  test.each([
    [{ idleTimeoutMs: Number.NaN }, "idleTimeoutMs: "],
    [{ idleTimeoutMs: Number.POSITIVE_INFINITY }, "idleTimeoutMs: "],
    [{ lifetimeMs: 1e300 }, "lifetimeMs: "],
    [{ userId: 5 }, "userId: expected a string, not number"],
    [{ userId: "\udc00" }, "userId: "],
    [{ roles: "admin" }, "roles: expected an array"],
    [{ roles: ["a", null] }, "roles[1]: expected a string"],
    [{ sessionId: "" }, "sessionId: "],
    [{ client: null }, "client: expected an object, not null"],
    [{ expireTime: 5 }, "expireTime: expected a valid Date"],
    [{ tokenHash: undefined }, "tokenHash: expected the 32 bytes of a SHA-256"],
    [{ tokenHash: new Uint8Array(31) }, "tokenHash: "],
    [{ tokenHash: "a credential by mistake" }, /^(?!.*mistake)tokenHash: /],
    // An empty request id is none.
    [{ requestId: "" }, "requestId: "],
  ])("is refused with %o", (fields, message) => {
    expect(() => createRequest({ userId: "u", ...fields } as NewSession)).toThrow(message);
  });
});

describe("an update", () => {
  test.each<[SessionUpdate, string[], object]>([
    [{ displayName: "Ada", roles: [] }, ["display_name", "roles"], { displayName: "Ada" }],
    [{ displayName: "" }, ["display_name"], { displayName: "" }],
    [{ data: {} }, ["data"], { data: {} }],
    [{ client: { ip: "::1" } }, ["client"], { client: { ip: "::1", userAgent: "", device: "" } }],
    [
      { setClient: { userAgent: "curl", device: "" } },
      ["client.user_agent", "client.device"],
      { client: { userAgent: "curl", device: "" } },
    ],
  ])("%j names exactly its fields", (update, paths, session) => {
    const request = receivedUpdate(update);
    expect(request.updateMask?.paths).toEqual(paths);
    expect(request.session).toMatchObject(session);
  });

  test("sets and deletes any keys of the data, and nothing else", () => {
    const key = fc.string({ unit: "grapheme" });
    fc.assert(
      fc.property(fc.uniqueArray(key, { minLength: 1 }), fc.nat(), (keys, split) => {
        const set = keys.slice(0, split % (keys.length + 1));
        const deleteData = keys.slice(set.length);
        const setData = Object.fromEntries(set.map((key) => [key, 1]));
        const request = receivedUpdate({ setData, deleteData });
        expect(Object.entries(request.setData ?? {})).toEqual(Object.entries(setData));
        expect(request.deleteData).toEqual(deleteData);
        expect(request.updateMask?.paths).toEqual([]);
      }),
    );
  });

  test.each<[object, string]>([
    [{ data: {}, setData: { a: 1 } }, "data"],
    [{ data: {}, deleteData: ["a"] }, "data"],
    [{ client: {}, setClient: {} }, "client"],
    [{ setData: { a: 1 }, deleteData: ["a"] }, "deleteData.a"],
    [{}, "update: "],
    [{ displayName: undefined, setData: {} }, "update: "],
    [{ setData: { a: undefined } }, "setData.a: expected JSON"],
  ])("%o contradicts itself, changes nothing or is no JSON", (update, message) => {
    expect(() => updateRequest("s", update)).toThrow(message);
  });
});

describe("a list", () => {
  test("is of all users' active sessions, newest first, by default", () => {
    const expected = { orderBy: "create_time desc", filter: {} };
    expect(receivedList({})).toEqual(create(ListSessionsRequestSchema, expected));
  });

  test("carries all that is given", () => {
    const page = { pageSize: 7, pageToken: "page-2" };
    const given = { userId: "user-1", showExpired: true, showRevoked: true, ...page };
    const from = new Date(1_700_000_000_123);
    const to = new Date(1_800_000_000_000);
    const filter = { role: "admin", ip: "::1", createTimeFrom: from, lastAccessTimeTo: to };
    const request = receivedList({ ...given, order: "oldest-first", filter });
    const expected = {
      ...given,
      orderBy: "create_time",
      filter: {
        role: "admin",
        ip: "::1",
        createTimeFrom: timestampFromDate(from),
        lastAccessTimeTo: timestampFromDate(to),
      },
    };
    expect(request).toEqual(create(ListSessionsRequestSchema, expected));
  });

  test.each<[object, string]>([
    [{ userId: "" }, "userId: expected a value"],
    [{ userId: undefined }, "leave `userId` out"],
    [{ filter: { role: "" } }, "filter.role"],
    [{ filter: { ip: undefined } }, "filter.ip"],
    [{ filter: { createTimeFrom: undefined } }, "filter.createTimeFrom: "],
    [{ filter: { lastAccessTimeTo: new Date(Number.NaN) } }, "filter.lastAccessTimeTo: "],
  ])("is not widened in silence by %o", (query, message) => {
    expect(() => listRequest(query as SessionPageQuery)).toThrow(message);
  });

  test.each([0.5, Number.NaN, 2 ** 31])("cannot have pages of %d sessions", (pageSize) => {
    expect(() => listRequest({ pageSize })).toThrow("pageSize: ");
  });
});

test("a target is either an id or a token", () => {
  expect(targetFrom({ sessionId: "s" })).toEqual({ case: "sessionId", value: "s" });
  expect(targetFrom({ token: "t" })).toEqual({ case: "token", value: "t" });
  const both = { sessionId: "s", token: "sst_secret" } as unknown as { token: string };
  expect(() => targetFrom(both)).toThrow(/^(?!.*sst_)target/);
  expect(() => targetFrom({} as unknown as { token: string })).toThrow("target");
});
