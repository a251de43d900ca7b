import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { SessionSchema, SessionState } from "@sessiond/proto/sessiond/v1/session";
import { SessionResultSchema } from "@sessiond/proto/sessiond/v1/session_service";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SessiondError } from "../error.js";
import { wireSession } from "../testing/session-server.js";
import { readMask, resultsFrom, type Session, type SessionField, sessionFrom } from "./session.js";

const wireStates = {
  active: SessionState.ACTIVE,
  expired: SessionState.EXPIRED,
  revoked: SessionState.REVOKED,
} satisfies Record<Session["state"], SessionState>;

const text = fc.string({ unit: "grapheme" });
const time = fc.date({ noInvalidDate: true });

const session: fc.Arbitrary<Session> = fc.record({
  id: text,
  userId: text,
  displayName: text,
  roles: fc.array(text),
  client: fc.record({ ip: text, userAgent: text, device: text }),
  data: fc.dictionary(text, fc.jsonValue({ maxDepth: 3, noUnicodeString: false })) as fc.Arbitrary<
    Session["data"]
  >,
  createTime: time,
  authenticateTime: time,
  lastAccessTime: time,
  expireTime: time,
  absoluteExpireTime: time,
  idleTimeoutMs: fc.maxSafeNat(),
  state: fc.constantFrom("active", "expired", "revoked"),
  etag: text,
  revokeTime: fc.option(time, { nil: undefined }),
  revokeReason: fc.option(
    text.filter((reason) => reason !== ""),
    { nil: undefined },
  ),
});

/** The session as the server sends it, over the wire and back. */
function overTheWire(session: Session) {
  const message = create(SessionSchema, {
    ...session,
    roles: [...session.roles],
    createTime: timestampFromDate(session.createTime),
    authenticateTime: timestampFromDate(session.authenticateTime),
    lastAccessTime: timestampFromDate(session.lastAccessTime),
    expireTime: timestampFromDate(session.expireTime),
    absoluteExpireTime: timestampFromDate(session.absoluteExpireTime),
    idleTimeout: durationFromMs(session.idleTimeoutMs),
    state: wireStates[session.state],
    revokeTime: session.revokeTime && timestampFromDate(session.revokeTime),
    revokeReason: session.revokeReason ?? "",
  });
  return fromBinary(SessionSchema, toBinary(SessionSchema, message));
}

/** Compared as JSON, where -0 is 0 and a key `__proto__` is a key. */
const asJson = (value: unknown) => JSON.parse(JSON.stringify(value));

test("a session is read as it was sent, whatever its values", () => {
  fc.assert(
    fc.property(session, (session) => {
      const read = sessionFrom(overTheWire(session));
      expect(asJson(read)).toEqual(asJson(session));
      expect(read.createTime).toEqual(session.createTime);
    }),
  );
});

test("the fields asked for are read and no others", () => {
  const fields = Object.keys(sessionFrom(wireSession())) as SessionField[];
  fc.assert(
    fc.property(session, fc.subarray(fields), (session, fields) => {
      const read = sessionFrom(overTheWire(session), fields);
      expect(Object.keys(read)).toEqual(fields);
      for (const field of fields) {
        expect(asJson([read[field]])).toEqual(asJson([session[field]]));
      }
    }),
  );
});

test("a session of few fields needs no others", () => {
  const sparse = create(SessionSchema, { roles: ["admin"] });
  expect(sessionFrom(sparse, ["roles"])).toEqual({ roles: ["admin"] });
});

test("what the server leaves out is empty, not missing", () => {
  const read = sessionFrom(wireSession());
  expect(read.client).toEqual({ ip: "", userAgent: "", device: "" });
  expect(read.data).toEqual({});
  expect(read.revokeTime).toBeUndefined();
  expect(read.revokeReason).toBeUndefined();
});

test("a read mask names the fields as the contract does", () => {
  expect(readMask(["userId", "idleTimeoutMs", "data"])).toEqual({
    paths: ["user_id", "idle_timeout", "data"],
  });
  expect(() => readMask(["toString" as SessionField])).toThrow("fields: ");
});

describe("an answer that breaks the contract vouches for no session", () => {
  const broken: [string, ReturnType<typeof wireSession> | undefined][] = [
    ["no session", undefined],
    ["no deadline", wireSession({ expireTime: undefined })],
    ["no idle timeout", wireSession({ idleTimeout: undefined })],
    ["no state", wireSession({ state: SessionState.UNSPECIFIED })],
    ["a state of the future", wireSession({ state: 4 as SessionState })],
  ];
  test.each(broken)("%s", (_, message) => {
    expect(() => sessionFrom(message)).toThrow(
      expect.objectContaining({ name: "SessiondError", reason: "INTERNAL" }),
    );
  });
});

describe("the results of a batch", () => {
  const found = create(SessionResultSchema, {
    result: { case: "session", value: wireSession({ id: "a" }) },
  });
  const failed = create(SessionResultSchema, {
    result: { case: "error", value: { code: Code.DataLoss, message: "unreadable" } },
  });

  test("are sessions and errors in the order of the request", () => {
    const [first, second, third] = resultsFrom([found, failed, found], 3);
    expect(first?.session?.id).toBe("a");
    expect(second?.session).toBeUndefined();
    expect(second?.error).toBeInstanceOf(SessiondError);
    expect(second?.error?.code).toBe(Code.DataLoss);
    expect(third?.session?.id).toBe("a");
  });

  test("are refused if they are too few, too many or empty", () => {
    expect(() => resultsFrom([found], 2)).toThrow("1 results for 2 sessions");
    expect(() => resultsFrom([found, found], 1)).toThrow("2 results for 1 sessions");
    expect(() => resultsFrom([create(SessionResultSchema)], 1)).toThrow("malformed");
  });
});
