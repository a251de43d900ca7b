import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationMs, timestampDate } from "@bufbuild/protobuf/wkt";
import {
  CreateSessionRequestSchema,
  ListSessionsRequestSchema,
  UpdateSessionRequestSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { narrowing } from "../rpc/fields.js";
import {
  createRequest,
  listRequest,
  type NewSession,
  type SessionQuery,
  type SessionUpdate,
  targetFrom,
  updateRequest,
} from "./session-request.js";

/** A request as the server receives it. */
const receivedUpdate = (update: SessionUpdate) => {
  const message = create(UpdateSessionRequestSchema, updateRequest(update));
  return fromBinary(UpdateSessionRequestSchema, toBinary(UpdateSessionRequestSchema, message));
};
const receivedCreate = (session: NewSession) => {
  const message = create(CreateSessionRequestSchema, createRequest(session));
  return fromBinary(CreateSessionRequestSchema, toBinary(CreateSessionRequestSchema, message));
};
const receivedList = (query: SessionQuery, pageToken = "") => {
  const message = create(ListSessionsRequestSchema, listRequest(query, pageToken));
  return fromBinary(ListSessionsRequestSchema, toBinary(ListSessionsRequestSchema, message));
};

describe("a session to create", () => {
  test("needs only a user", () => {
    const request = receivedCreate({ userId: "user-1" });
    expect(request.userId).toBe("user-1");
    expect(request.sessionId).toBe("");
    expect(request.client).toBeUndefined();
    expect(request.data).toBeUndefined();
    expect(request.idleTimeout).toBeUndefined();
    expect(request.lifetime).toBeUndefined();
  });

  test("has a request id of its own unless one is given", () => {
    const made = Array.from({ length: 100 }, () => receivedCreate({ userId: "u" }).requestId);
    expect(new Set(made).size).toBe(100);
    for (const id of made) expect(id).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect(receivedCreate({ userId: "u", requestId: undefined }).requestId).toHaveLength(36);
    expect(receivedCreate({ userId: "u", requestId: "job-7" }).requestId).toBe("job-7");
  });

  test("is refused with an empty request id, which would be none", () => {
    expect(() => createRequest({ userId: "u", requestId: "" })).toThrow("requestId: ");
  });

  test("carries all that is given", () => {
    const request = receivedCreate({
      userId: "user-1",
      sessionId: "jti-1",
      displayName: "Ada",
      roles: ["admin", "auditor"],
      client: { ip: "203.0.113.7", device: "laptop" },
      data: { theme: "dark" },
      idleTimeoutMs: 900_000,
      lifetimeMs: 86_400_500,
    });
    expect(request).toMatchObject({
      sessionId: "jti-1",
      displayName: "Ada",
      roles: ["admin", "auditor"],
      client: { ip: "203.0.113.7", userAgent: "", device: "laptop" },
      data: { theme: "dark" },
      idleTimeout: { seconds: 900n, nanos: 0 },
      lifetime: { seconds: 86_400n, nanos: 500_000_000 },
    });
  });

  test("lives for exactly as many milliseconds as given, zero and negative ones too", () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), (idleTimeoutMs) => {
        const { idleTimeout } = receivedCreate({ userId: "u", idleTimeoutMs });
        expect(idleTimeout && durationMs(idleTimeout)).toBe(idleTimeoutMs);
      }),
    );
  });

  test("has fractions of milliseconds rounded", () => {
    const { lifetime } = receivedCreate({ userId: "u", lifetimeMs: 0.1 * 3 * 1000 });
    expect(lifetime && durationMs(lifetime)).toBe(300);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, 1e300])(
    "cannot live for %d milliseconds",
    (idleTimeoutMs) => {
      expect(() => createRequest({ userId: "u", idleTimeoutMs })).toThrow("idleTimeoutMs: ");
      expect(() => createRequest({ userId: "u", lifetimeMs: idleTimeoutMs })).toThrow("lifetime");
    },
  );

  test("is refused if something is not what protobuf would make of it", () => {
    expect(() => createRequest({ userId: 5 as unknown as string })).toThrow(
      "userId: expected a string, not number",
    );
    expect(() => createRequest({ userId: "\udc00" })).toThrow("userId: ");
    expect(() => createRequest({ userId: "u", roles: "admin" as unknown as string[] })).toThrow(
      "roles: expected an array",
    );
    expect(() => createRequest({ userId: "u", roles: ["a", null as unknown as string] })).toThrow(
      "roles[1]: expected a string",
    );
    expect(() => createRequest({ userId: "u", sessionId: "" })).toThrow("sessionId: ");
  });
});

describe("an update", () => {
  test("names just the fields that are given, in the contract's words", () => {
    const request = receivedUpdate({ displayName: "Ada", roles: [] });
    expect(request.updateMask?.paths).toEqual(["display_name", "roles"]);
    expect(request.session?.displayName).toBe("Ada");
    expect(request.session?.roles).toEqual([]);
  });

  test("clears a field that is given as empty", () => {
    expect(receivedUpdate({ displayName: "" }).updateMask?.paths).toEqual(["display_name"]);
    expect(receivedUpdate({ data: {} }).updateMask?.paths).toEqual(["data"]);
  });

  test("replaces what is known of the client, or changes parts of it", () => {
    const whole = receivedUpdate({ client: { ip: "::1" } });
    expect(whole.updateMask?.paths).toEqual(["client"]);
    expect(whole.session?.client).toMatchObject({ ip: "::1", userAgent: "", device: "" });
    const part = receivedUpdate({ setClient: { userAgent: "curl", device: "" } });
    expect(part.updateMask?.paths).toEqual(["client.user_agent", "client.device"]);
    expect(part.session?.client).toMatchObject({ userAgent: "curl", device: "" });
  });

  test("sets and deletes any keys of the data, and nothing else", () => {
    const key = fc.string({ unit: "grapheme" });
    fc.assert(
      fc.property(fc.uniqueArray(key, { minLength: 1 }), fc.nat(), (keys, split) => {
        const set = keys.slice(0, split % (keys.length + 1));
        const deleteData = keys.slice(set.length);
        const setData = Object.fromEntries(set.map((key) => [key, 1]));
        const { session, updateMask } = receivedUpdate({ setData, deleteData });
        // Sorted, since an object has its numeric keys first.
        expect(updateMask?.paths.toSorted()).toEqual(keys.map((key) => `data.${key}`).toSorted());
        expect(Object.entries(session?.data ?? {})).toEqual(Object.entries(setData));
      }),
    );
  });

  test("keeps capitals, dots and underscores in a key", () => {
    const setData = { fooBar: 1, "a.b": 2, snake_case: 3 };
    expect(receivedUpdate({ setData }).updateMask?.paths).toEqual([
      "data.fooBar",
      "data.a.b",
      "data.snake_case",
    ]);
  });

  test("can set a key to null, which is not the same as deleting it", () => {
    const request = receivedUpdate({ setData: { a: null } });
    expect(request.session?.data).toEqual({ a: null });
  });

  test("is refused if it contradicts itself or changes nothing", () => {
    expect(() => updateRequest({ data: {}, setData: { a: 1 } })).toThrow("data");
    expect(() => updateRequest({ data: {}, deleteData: ["a"] })).toThrow("data");
    expect(() => updateRequest({ client: {}, setClient: {} })).toThrow("client");
    expect(() => updateRequest({ setData: { a: 1 }, deleteData: ["a"] })).toThrow("data.a");
    expect(() => updateRequest({})).toThrow("update: ");
    expect(() => updateRequest({ displayName: undefined, setData: {} })).toThrow("update: ");
  });

  test("is refused if a key would be set to what is no JSON", () => {
    const setData = { a: undefined as unknown as null };
    expect(() => updateRequest({ setData })).toThrow("data.a: expected JSON");
  });
});

describe("a list", () => {
  test("is of all users' active sessions, newest first, unless asked otherwise", () => {
    const request = receivedList({});
    expect(request).toMatchObject({
      userId: "",
      showExpired: false,
      showRevoked: false,
      orderBy: "create_time desc",
      pageSize: 0,
      pageToken: "",
    });
    expect(request.filter?.createTimeFrom).toBeUndefined();
  });

  test("carries all that is given", () => {
    const from = new Date(1_700_000_000_123);
    const to = new Date(1_800_000_000_000);
    const request = receivedList(
      {
        userId: "user-1",
        showExpired: true,
        showRevoked: true,
        order: "oldest-first",
        pageSize: 7,
        filter: { role: "admin", ip: "::1", createTimeFrom: from, lastAccessTimeTo: to },
      },
      "page-2",
    );
    expect(request).toMatchObject({
      userId: "user-1",
      showExpired: true,
      showRevoked: true,
      orderBy: "create_time",
      pageSize: 7,
      pageToken: "page-2",
      filter: { role: "admin", ip: "::1" },
    });
    const { createTimeFrom, createTimeTo, lastAccessTimeTo } = request.filter ?? {};
    expect(createTimeFrom && timestampDate(createTimeFrom)).toEqual(from);
    expect(createTimeTo).toBeUndefined();
    expect(lastAccessTimeTo && timestampDate(lastAccessTimeTo)).toEqual(to);
  });

  test("is not widened in silence by a value that is missing by mistake", () => {
    const missing = undefined as unknown as string;
    expect(() => listRequest({ userId: "" }, "")).toThrow("userId: expected a value");
    expect(() => listRequest({ userId: missing }, "")).toThrow("leave `userId` out");
    expect(() => listRequest({ filter: { role: "" } }, "")).toThrow("filter.role");
    expect(() => listRequest({ filter: { ip: missing } }, "")).toThrow("filter.ip");
    const createTimeFrom = undefined as unknown as Date;
    expect(() => listRequest({ filter: { createTimeFrom } }, "")).toThrow(
      "filter.createTimeFrom: ",
    );
    const invalid = { lastAccessTimeTo: new Date(Number.NaN) };
    expect(() => listRequest({ filter: invalid }, "")).toThrow("filter.lastAccessTimeTo: ");
  });

  test.each([0.5, Number.NaN, 2 ** 31])("cannot have pages of %d sessions", (pageSize) => {
    expect(() => listRequest({ pageSize }, "")).toThrow("pageSize: ");
  });
});

test("a narrowing option is left out, or has a value", () => {
  expect(narrowing({}, "etag", "etag")).toBe("");
  expect(narrowing({ etag: "e" }, "etag", "etag")).toBe("e");
  expect(() => narrowing({ etag: "" }, "etag", "etag")).toThrow("leave `etag` out");
});

test("a target is an id or a token, not both and not neither", () => {
  expect(targetFrom({ sessionId: "s" })).toEqual({ case: "sessionId", value: "s" });
  expect(targetFrom({ token: "t" })).toEqual({ case: "token", value: "t" });
  const both = { sessionId: "s", token: "sst_secret" } as unknown as { token: string };
  expect(() => targetFrom(both)).toThrow(/^(?!.*sst_)target/);
  expect(() => targetFrom({} as unknown as { token: string })).toThrow("target");
});
