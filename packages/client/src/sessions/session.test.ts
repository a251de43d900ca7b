import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { SessionSchema, SessionState } from "@sessiond/proto/sessiond/v1/session";
import { SessionResultSchema } from "@sessiond/proto/sessiond/v1/session_service";
import { describe, expect, test } from "vitest";
import { protoSession } from "../testing/session-server.js";
import { readMask, resultsFrom, type Session, type SessionField, sessionFrom } from "./session.js";

/** The fields that have the same value in a protobuf message. */
const plain = {
  id: "session-1",
  userId: "user-1",
  displayName: "grüezi 👋",
  roles: ["admin", "auditor"],
  client: { ip: "::1", userAgent: "curl", device: "laptop" },
  data: JSON.parse('{ "__proto__": [1, null], "a.b": { "": true } }'),
  etag: "etag-1",
  revokeReason: "logout",
};
const times = {
  createTime: new Date(1_000),
  authenticateTime: new Date(2_000),
  tokenCreateTime: new Date(2_500),
  lastAccessTime: new Date(3_456),
  expireTime: new Date(4_000),
  absoluteExpireTime: new Date(5_000),
  revokeTime: new Date(6_000),
};
const expected: Session = { ...plain, ...times, idleTimeoutMs: 1_001, state: "revoked" };

const sent = create(SessionSchema, {
  ...plain,
  idleTimeout: durationFromMs(1_001),
  state: SessionState.REVOKED,
});
for (const [name, time] of Object.entries(times)) {
  Object.assign(sent, { [name]: timestampFromDate(time) });
}
const received = fromBinary(SessionSchema, toBinary(SessionSchema, sent));

test("a session is read as the server sent it", () => {
  expect(sessionFrom(received)).toEqual(expected);
  expect(JSON.stringify(sessionFrom(received).data)).toBe(JSON.stringify(expected.data));
  const states = [SessionState.ACTIVE, SessionState.EXPIRED].map(
    (state) => sessionFrom(protoSession({ state })).state,
  );
  expect(states).toEqual(["active", "expired"]);
});

test.each(Object.keys(expected) as SessionField[])("the field %s can be read alone", (field) => {
  expect(sessionFrom(received, [field])).toEqual({ [field]: expected[field] });
});

test("a requested field needs no others", () => {
  const sparse = create(SessionSchema, { roles: ["admin"] });
  expect(sessionFrom(sparse, ["roles"])).toEqual({ roles: ["admin"] });
});

test("values that the server leaves out are empty", () => {
  expect(sessionFrom(protoSession())).toMatchObject({
    client: { ip: "", userAgent: "", device: "" },
    data: {},
    revokeTime: undefined,
    revokeReason: undefined,
  });
});

test("a read mask has the names of the contract", () => {
  expect(readMask(["userId", "idleTimeoutMs", "data"])).toEqual({
    paths: ["user_id", "idle_timeout", "data"],
  });
  expect(() => readMask(["toString" as SessionField])).toThrow("fields: ");
});

test.each([
  ["no session", undefined],
  ["no deadline", protoSession({ expireTime: undefined })],
  ["no idle timeout", protoSession({ idleTimeout: undefined })],
  ["no state", protoSession({ state: SessionState.UNSPECIFIED })],
  ["an unknown state", protoSession({ state: 4 as SessionState })],
])("an answer with %s breaks the contract and vouches for nothing", (_, message) => {
  expect(() => sessionFrom(message)).toThrow(
    expect.objectContaining({ name: "SessiondError", reason: "INTERNAL" }),
  );
});

describe("the results of a batch", () => {
  const found = create(SessionResultSchema, {
    result: { case: "session", value: protoSession({ id: "a" }) },
  });
  const failed = create(SessionResultSchema, {
    result: { case: "error", value: { code: Code.DataLoss, message: "unreadable" } },
  });

  test("are sessions and errors in the order of the request", () => {
    expect(resultsFrom([found, failed, found], 3)).toMatchObject([
      { session: { id: "a" } },
      { error: { name: "SessiondError", code: Code.DataLoss } },
      { session: { id: "a" } },
    ]);
  });

  test("are refused if they are too few, too many or empty", () => {
    expect(() => resultsFrom([found], 2)).toThrow("1 results for 2 sessions");
    expect(() => resultsFrom([found, found], 1)).toThrow("2 results for 1 sessions");
    expect(() => resultsFrom([create(SessionResultSchema)], 1)).toThrow("malformed");
  });
});
