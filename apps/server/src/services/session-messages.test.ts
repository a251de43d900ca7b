import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { FieldMaskSchema } from "@bufbuild/protobuf/wkt";
import type { Session } from "@sessiond/core";
import { SessionState } from "@sessiond/proto/sessiond/v1/session";
import {
  CreateSessionRequestSchema,
  ListSessionsRequestSchema,
  UpdateSessionRequestSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import { describe, expect, test } from "vitest";
import { fromUpdateRequest, readMaskOf } from "./field-masks.js";
import {
  fromCreateRequest,
  fromListRequest,
  fromTarget,
  toSessionMessage,
} from "./session-messages.js";

const SESSION: Session = {
  id: "jti-1",
  userId: "ann",
  displayName: "Ann",
  roles: ["admin"],
  client: { ip: "::1", userAgent: "curl", device: "laptop" },
  data: { theme: "dark" },
  createTimeMs: 1_700_000_000_001,
  authenticateTimeMs: 1_700_000_000_002,
  lastAccessTimeMs: 1_700_000_000_003,
  idleTimeoutMs: 90_500,
  expireTimeMs: 1_700_000_000_004,
  absoluteExpireTimeMs: 1_700_000_000_005,
  version: 7,
  state: "active",
  etag: "etag-7",
};

type CreateRequest = MessageInitShape<typeof CreateSessionRequestSchema>;
type ListRequest = MessageInitShape<typeof ListSessionsRequestSchema>;
type UpdateRequest = MessageInitShape<typeof UpdateSessionRequestSchema>;

const creating = (request: CreateRequest) =>
  fromCreateRequest(create(CreateSessionRequestSchema, request), "a caller");
const listing = (request: ListRequest) =>
  fromListRequest(create(ListSessionsRequestSchema, request));
const updating = (paths: string[], session?: UpdateRequest["session"]) =>
  fromUpdateRequest(
    create(UpdateSessionRequestSchema, { updateMask: { paths }, ...(session && { session }) }),
  );

describe("a session as a message", () => {
  test("has its times to the millisecond", () => {
    expect(toSessionMessage(SESSION)).toMatchObject({
      createTime: { seconds: 1_700_000_000n, nanos: 1_000_000 },
      authenticateTime: { nanos: 2_000_000 },
      lastAccessTime: { nanos: 3_000_000 },
      expireTime: { nanos: 4_000_000 },
      absoluteExpireTime: { nanos: 5_000_000 },
      idleTimeout: { seconds: 90n, nanos: 500_000_000 },
      state: SessionState.ACTIVE,
    });
  });

  test("tells of a revocation only when it was revoked", () => {
    expect(toSessionMessage(SESSION).revokeTime).toBeUndefined();
    const revoked = {
      ...SESSION,
      state: "revoked",
      revokeTimeMs: 1_500,
      revokeReason: "",
    } as const;
    expect(toSessionMessage(revoked)).toMatchObject({
      state: SessionState.REVOKED,
      revokeTime: { seconds: 1n, nanos: 500_000_000 },
      revokeReason: "",
    });
    expect(toSessionMessage({ ...SESSION, state: "expired" }).state).toBe(SessionState.EXPIRED);
  });

  test("keeps of a read mask what it names, and the whole client where both are named", () => {
    const masked = (...paths: string[]) =>
      readMaskOf(create(FieldMaskSchema, { paths }))(toSessionMessage(SESSION));
    const whole = toSessionMessage(SESSION);
    expect(readMaskOf(undefined)(whole)).toBe(whole);
    expect(masked("id", "id").id).toBe("jti-1");
    expect(masked("client.device").client).toMatchObject({ ip: "", device: "laptop" });
    for (const paths of [
      ["client", "client.ip"],
      ["client.ip", "client"],
    ]) {
      expect(masked(...paths).client).toEqual(whole.client);
    }
    expect(masked("data")).toMatchObject({ data: { theme: "dark" }, roles: [], etag: "" });
  });
});

describe("a request to create", () => {
  test("leaves out what is empty, so that the server's defaults apply", () => {
    const caller = "a caller";
    expect(creating({ userId: "ann" })).toEqual({
      caller,
      userId: "ann",
      displayName: "",
      roles: [],
    });
  });

  test.each([
    [{ seconds: 1n, nanos: 500_000_000 }, 1_500],
    [{ nanos: 1_999_999 }, 1],
    [{ nanos: 999_999 }, 0],
    [{ seconds: -1n, nanos: -500_000_000 }, -1_500],
  ])("has durations in whole milliseconds: %o is %i ms", (duration, expected) => {
    const { idleTimeoutMs, lifetimeMs } = creating({ idleTimeout: duration, lifetime: duration });
    expect(idleTimeoutMs).toBe(expected);
    expect(lifetimeMs).toBe(expected);
  });
});

describe("a request to list", () => {
  test.each([
    ["", "desc"],
    ["create_time desc", "desc"],
    ["  create_time   desc ", "desc"],
    ["create_time", "asc"],
    ["create_time asc", "asc"],
  ])('the order "%s" is %s', (orderBy, order) => {
    expect(listing({ orderBy }).order).toBe(order);
  });

  test.each(["user_id", "create_time DESC", "createTime", "create_time,id", "desc"])(
    'there is no order "%s"',
    (orderBy) => {
      expect(() => listing({ orderBy })).toThrow("order_by: ");
    },
  );

  test("times between two milliseconds mean the later one, on either side", () => {
    const time = { seconds: 1n, nanos: 1 };
    const filter = { createTimeFrom: time, createTimeTo: time, lastAccessTimeFrom: time };
    expect(listing({ filter })).toMatchObject({
      createTimeFromMs: 1_001,
      createTimeToMs: 1_001,
      lastAccessTimeFromMs: 1_001,
    });
    expect(listing({ filter: { createTimeTo: { seconds: 1n } } }).createTimeToMs).toBe(1_000);
  });

  test("an empty condition is none", () => {
    expect(listing({ userId: "", filter: { role: "", ip: "" }, pageToken: "" })).toEqual({
      showExpired: false,
      showRevoked: false,
      pageSize: 0,
      order: "desc",
    });
  });
});

describe("a request to update", () => {
  test("clears what it names and does not give", () => {
    expect(updating(["display_name", "roles", "client", "data"])).toEqual({
      displayName: "",
      roles: [],
      client: { ip: "", userAgent: "", device: "" },
      data: {},
      dataKeys: new Map(),
    });
    expect(updating(["client.ip", "data.theme"])).toEqual({
      client: { ip: "" },
      dataKeys: new Map([["theme", undefined]]),
    });
  });

  test("leaves alone what it gives and does not name", () => {
    const session = { displayName: "Bob", roles: ["admin"], client: { ip: "::1", device: "d" } };
    expect(updating(["client.device"], session)).toEqual({
      client: { device: "d" },
      dataKeys: new Map(),
    });
  });

  test("takes the whole and a part of the client in either order", () => {
    const session = { client: { ip: "::1", device: "d" } };
    const expected = { ip: "::1", userAgent: "", device: "d" };
    expect(updating(["client", "client.ip"], session).client).toEqual(expected);
    expect(updating(["client.ip", "client"], session).client).toEqual(expected);
  });

  test("takes all of a path after data. as one key, dots and all", () => {
    const data = { "a.b": 1, "": 2, " ": 3 };
    expect(updating(["data.a.b", "data. ", "data.gone"], { data: { "a.b": 1, " ": 3 } })).toEqual({
      dataKeys: new Map<string, unknown>([
        ["a.b", 1],
        [" ", 3],
        ["gone", undefined],
      ]),
    });
    // An empty key cannot be named; all of data can.
    expect(() => updating(["data."], { data })).toThrow('update_mask: unknown path "data."');
    expect(updating(["data"], { data }).data).toEqual(data);
  });

  test("takes data from its own keys alone", () => {
    expect(updating(["data.toString", "data.__proto__"], { data: {} }).dataKeys).toEqual(
      new Map([
        ["toString", undefined],
        ["__proto__", undefined],
      ]),
    );
  });
});

test("a target is an id or a token, and never neither", () => {
  expect(fromTarget({ case: "sessionId", value: "s" })).toEqual({ sessionId: "s" });
  expect(fromTarget({ case: "token", value: "t" })).toEqual({ token: "t" });
  expect(() => fromTarget({ case: undefined })).toThrow("session_id: ");
});
