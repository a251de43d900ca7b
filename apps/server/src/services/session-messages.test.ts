import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, FieldMaskSchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Session } from "@sessiond/core";
import { SessionSchema, SessionState } from "@sessiond/proto/sessiond/v1/session";
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
  tokenCreateTimeMs: 1_700_000_000_006,
  version: 7,
  state: "active",
  etag: "etag-7",
};

const creating = (request: MessageInitShape<typeof CreateSessionRequestSchema>) =>
  fromCreateRequest(create(CreateSessionRequestSchema, request), "a caller");
const listing = (request: MessageInitShape<typeof ListSessionsRequestSchema>) =>
  fromListRequest(create(ListSessionsRequestSchema, request));
const updating = (
  paths: string[],
  session: MessageInitShape<typeof UpdateSessionRequestSchema>["session"] = {},
) => fromUpdateRequest(create(UpdateSessionRequestSchema, { updateMask: { paths }, session }));

describe("a session as a message", () => {
  test("has its times to the millisecond", () => {
    expect(toSessionMessage(SESSION)).toMatchObject({
      createTime: { seconds: 1_700_000_000n, nanos: 1_000_000 },
      authenticateTime: { nanos: 2_000_000 },
      lastAccessTime: { nanos: 3_000_000 },
      expireTime: { nanos: 4_000_000 },
      absoluteExpireTime: { nanos: 5_000_000 },
      tokenCreateTime: { nanos: 6_000_000 },
      idleTimeout: { seconds: 90n, nanos: 500_000_000 },
      state: SessionState.ACTIVE,
    });
  });

  test("is what the library would make of its fields", () => {
    const { $typeName, ...fields } = toSessionMessage(SESSION);
    expect(toSessionMessage(SESSION)).toStrictEqual(create(SessionSchema, fields));
    for (const ms of [0, 1, 999, 1_000, 1_700_000_000_001]) {
      const times = { ...SESSION, createTimeMs: ms, idleTimeoutMs: ms };
      expect(toSessionMessage(times)).toMatchObject({
        createTime: timestampFromMs(ms),
        idleTimeout: durationFromMs(ms),
      });
    }
  });

  test("tells of a revocation only when it was revoked", () => {
    expect(toSessionMessage(SESSION).revokeTime).toBeUndefined();
    expect(toSessionMessage({ ...SESSION, state: "expired" }).state).toBe(SessionState.EXPIRED);
    const revoked = { state: "revoked", revokeTimeMs: 1_500, revokeReason: "" } as const;
    expect(toSessionMessage({ ...SESSION, ...revoked })).toMatchObject({
      ...{ state: SessionState.REVOKED, revokeReason: "" },
      revokeTime: { seconds: 1n, nanos: 500_000_000 },
    });
  });

  test("keeps of a read mask what it names, and the whole client where both are named", () => {
    const whole = toSessionMessage(SESSION);
    const masked = (...paths: string[]) =>
      readMaskOf(create(FieldMaskSchema, { paths }))(toSessionMessage(SESSION));
    expect(readMaskOf(undefined)(whole)).toBe(whole);
    expect(masked("id", "id").id).toBe("jti-1");
    expect(masked("client.device").client).toMatchObject({ ip: "", device: "laptop" });
    expect(masked("client", "client.ip").client).toEqual(whole.client);
    expect(masked("client.ip", "client").client).toEqual(whole.client);
    expect(masked("data")).toMatchObject({ data: { theme: "dark" }, roles: [], etag: "" });
  });
});

describe("a request to create", () => {
  test("leaves out what is empty, so that the server's defaults apply", () => {
    const empty = { displayName: "", roles: [] };
    expect(creating({ userId: "ann" })).toEqual({ caller: "a caller", userId: "ann", ...empty });
  });

  test("has durations in whole milliseconds", () => {
    const idleTimeout = { seconds: 1n, nanos: 500_000_000 };
    const lifetime = { seconds: -1n, nanos: -500_999_999 };
    const expected = { idleTimeoutMs: 1_500, lifetimeMs: -1_500 };
    expect(creating({ idleTimeout, lifetime })).toMatchObject(expected);
  });
});

describe("a request to list", () => {
  test("is ordered by the time of creation, either way", () => {
    for (const orderBy of ["", "create_time desc", "  create_time   desc "]) {
      expect(listing({ orderBy }).order, orderBy).toBe("desc");
    }
    for (const orderBy of ["create_time", "create_time asc"]) {
      expect(listing({ orderBy }).order, orderBy).toBe("asc");
    }
    for (const orderBy of ["user_id", "create_time DESC", "createTime", "create_time,id", "desc"]) {
      expect(() => listing({ orderBy }), orderBy).toThrow("order_by: ");
    }
  });

  test("times between two milliseconds mean the later one, on either side", () => {
    const at = (seconds: bigint) => ({ seconds, nanos: 1 });
    const created = { createTimeFrom: at(1n), createTimeTo: at(2n) };
    const accessed = { lastAccessTimeFrom: at(3n), lastAccessTimeTo: { seconds: 4n } };
    expect(listing({ filter: { ...created, ...accessed } })).toMatchObject({
      ...{ createTimeFromMs: 1_001, createTimeToMs: 2_001 },
      ...{ lastAccessTimeFromMs: 3_001, lastAccessTimeToMs: 4_000 },
    });
  });

  test("an empty condition is none", () => {
    expect(listing({ userId: "", filter: { role: "", ip: "" }, pageToken: "" })).toEqual({
      ...{ showExpired: false, showRevoked: false, pageSize: 0, order: "desc" },
    });
  });
});

describe("a request to update", () => {
  test("clears what it names and does not give", () => {
    expect(updating(["display_name", "roles", "client", "data"])).toEqual({
      ...{ displayName: "", roles: [], client: { ip: "", userAgent: "", device: "" } },
      data: {},
    });
    expect(updating(["client.ip"])).toEqual({ client: { ip: "" } });
  });

  test("leaves alone what it gives and does not name", () => {
    const session = { displayName: "Bob", roles: ["admin"], client: { ip: "::1", device: "d" } };
    expect(updating(["client.device"], session)).toEqual({ client: { device: "d" } });
  });

  test("takes the whole and a part of the client in either order", () => {
    const session = { client: { ip: "::1", device: "d" } };
    const expected = { ip: "::1", userAgent: "", device: "d" };
    expect(updating(["client", "client.ip"], session).client).toEqual(expected);
    expect(updating(["client.ip", "client"], session).client).toEqual(expected);
  });

  test("needs no mask if it has keys of data to set or to delete", () => {
    const from = (request: MessageInitShape<typeof UpdateSessionRequestSchema>) =>
      fromUpdateRequest(create(UpdateSessionRequestSchema, request));
    expect(from({ setData: {} })).toEqual({ setData: {} });
    expect(from({ deleteData: [""] })).toEqual({ deleteData: [""] });
    expect(() => from({})).toThrow("update_mask: expected at least one of ");
  });

  test("names no key of data in its mask, and is told what to do instead", () => {
    for (const path of ["data.theme", "data.a.b", "data.", "data.__proto__"]) {
      expect(() => updating([path])).toThrow(
        /^update_mask: unknown path below data; set single keys with set_data, delete them/,
      );
    }
  });
});

test("a target is an id or a token, and never neither", () => {
  expect(fromTarget({ case: "sessionId", value: "s" })).toEqual({ sessionId: "s" });
  expect(fromTarget({ case: "token", value: "t" })).toEqual({ token: "t" });
  expect(() => fromTarget({ case: undefined })).toThrow("session_id: ");
});
