import { describe, expect, test, vi } from "vitest";
import type { CreateSession } from "./create-request.js";
import type { JsonObject } from "./session.js";
import { generateSessionId, partitionOfUser } from "./session-id.js";
import { parseSessionToken } from "./session-token.js";
import {
  clock,
  create,
  createUnreadable,
  forged,
  HOUR_MS,
  invalid,
  MINUTE_MS,
  NOT_FOUND,
  refused,
  sessions,
  store,
  useSessions,
  withPolicy,
} from "./sessions.test.fixture.js";

const DAY_MS = 24 * HOUR_MS;

useSessions();

describe("creating a session", () => {
  test("answers the session with what was given, and a token that proves it", async () => {
    const content = {
      displayName: "Ann \u{1f600}",
      roles: ["admin", "user"],
      client: { ip: "2001:db8::1", userAgent: "curl/8", device: "laptop" },
      data: { theme: "dark", cart: { items: [1, 2.5, null] } },
    };
    const { session, token, evictedSessionIds, notices } = await create(content);
    expect(session).toMatchObject({ userId: "ann", state: "active", version: 1, ...content });
    expect(evictedSessionIds).toEqual([]);
    expect(notices).toEqual([]);
    expect(await sessions.verify(token)).toEqual(session);
    expect(await sessions.get(session.id)).toEqual(session);

    const { session: bare } = await create({ client: { ip: "203.0.113.7" } });
    const client = { ip: "203.0.113.7", userAgent: "", device: "" };
    expect(bare).toMatchObject({ displayName: "", roles: [], client, data: {} });
  });

  test("makes an id in the user's partition, and another token each time", async () => {
    const [first, second] = [await create(), await create()];
    expect(first.session.id).toMatch(/^[0-9a-f]{64}$/);
    expect(first.session.id.slice(0, 2)).toBe(partitionOfUser("ann"));
    expect(first.session.id).not.toBe(second.session.id);
    const [one, other] = [first, second].map(({ token }) => parseSessionToken(token));
    expect(one?.sessionId).toBe(first.session.id);
    expect(one?.secret).not.toEqual(other?.secret);
  });

  test("gives it 30 minutes idle and 24 hours in all unless told otherwise", async () => {
    const timeouts = { idleTimeoutMs: 5_000, lifetimeMs: 7_000 };
    const other = withPolicy(timeouts);
    for (const [{ session }, idleMs, lifetimeMs] of [
      [await create(), 30 * MINUTE_MS, DAY_MS],
      [await create({ idleTimeoutMs: 1, lifetimeMs: 900_000 }), 1, 900_000],
      [await other.create({ userId: "bob" }), 5_000, 7_000],
    ] as const) {
      expect(session.createTimeMs).toBe(clock.now());
      expect(session.expireTimeMs).toBe(clock.now() + idleMs);
      expect(session.absoluteExpireTimeMs).toBe(clock.now() + lifetimeMs);
    }
  });

  test("refuses timeouts beyond the server's maximum, and zero is not unset", async () => {
    const strict = withPolicy({ maxLifetimeMs: DAY_MS });
    await strict.create({ userId: "ann", idleTimeoutMs: DAY_MS, lifetimeMs: DAY_MS });
    for (const ms of [DAY_MS + 1, 0, -1, 0.5, Number.NaN]) {
      await refused(strict.create({ userId: "ann", idleTimeoutMs: ms }), invalid("idle_timeout"));
      await refused(strict.create({ userId: "ann", lifetimeMs: ms }), invalid("lifetime"));
    }
  });

  test("takes an id that the caller has chosen, once", async () => {
    const { session, token } = await create({ sessionId: "jti-1" });
    expect(session.id).toBe("jti-1");
    expect((await sessions.verify(token)).id).toBe("jti-1");
    for (const userId of ["ann", "bob"]) {
      await refused(create({ userId, sessionId: "jti-1" }), "SESSION_ALREADY_EXISTS");
    }
  });

  test.each<[string, Partial<CreateSession>]>([
    ["user_id", { userId: "" }],
    ["session_id", { sessionId: "" }],
    ["session_id", { sessionId: generateSessionId("00") }],
    ["request_id", { requestId: "a b" }],
    ["roles[1]", { roles: ["a", ""] }],
    ["data", { data: { a: "x".repeat(17 * 1024) } }],
  ])("names the field %s when it is at fault, and creates nothing", async (field, input) => {
    await refused(create(input), invalid(field));
    expect(await sessions.count()).toBe(0);
  });

  test("evicts the oldest of more than ten sessions and says which, or refuses one more", async () => {
    const first = await create();
    for (let i = 0; i < 9; i++) {
      clock.advance(1);
      expect((await create()).evictedSessionIds).toEqual([]);
    }
    await refused(
      withPolicy({ policy: "reject" }).create({ userId: "ann" }),
      "SESSION_LIMIT_REACHED",
    );
    expect((await create()).evictedSessionIds).toEqual([first.session.id]);
    await refused(sessions.verify(first.token), NOT_FOUND);
    expect(await sessions.count("ann")).toBe(10);
  });

  test("keeps a key named __proto__ as data, and all the data that is allowed", async () => {
    const data: JsonObject = JSON.parse('{"__proto__": {"admin": true}, "a": 1}');
    const { session } = await create({ data });
    const found = await sessions.get(session.id);
    expect(JSON.stringify(found.data)).toBe('{"__proto__":{"admin":true},"a":1}');
    expect(found.data["admin"]).toBeUndefined();
    expect(({} as JsonObject)["admin"]).toBeUndefined();

    const most = { a: "x".repeat(16 * 1024 - '{"a":""}'.length) };
    const large = await create({ data: most });
    expect((await sessions.get(large.session.id)).data).toEqual(most);
  });
});

test("counting counts the active sessions, of one user or of all", async () => {
  await create();
  await create({ userId: "bob", idleTimeoutMs: 10 });
  const revoked = await create();
  await sessions.revoke({ token: revoked.token });
  expect([await sessions.count(), await sessions.count("ann")]).toEqual([2, 1]);
  clock.advance(9);
  expect(await sessions.count("bob")).toBe(1);
  clock.advance(1);
  expect(await sessions.count("bob")).toBe(0);
  await refused(sessions.count(""), invalid("user_id"));
});

describe("refreshing a session", () => {
  test("moves the idle deadline, by id or by token, and never past the absolute one", async () => {
    const timeouts = { idleTimeoutMs: 10_000, lifetimeMs: 15_000 };
    const { session, token } = await create({ sessionId: "jti-1", ...timeouts });
    clock.advance(1);
    const byId = await sessions.refresh({ sessionId: "jti-1" });
    expect(byId.expireTimeMs).toBe(clock.now() + 10_000);
    clock.advance(9_999);
    const byToken = await sessions.refresh({ token });
    expect(byToken.expireTimeMs).toBe(session.absoluteExpireTimeMs);
    clock.advanceTo(session.absoluteExpireTimeMs);
    for (const target of [{ token }, { sessionId: session.id }]) {
      await refused(sessions.refresh(target), NOT_FOUND);
    }
  });

  test("of a revoked session, or with a wrong token, fails", async () => {
    const { session, token } = await create();
    for (const wrong of [forged(token), "garbage"]) {
      await refused(sessions.refresh({ token: wrong }), NOT_FOUND);
    }
    await refused(sessions.refresh({ token: "" }), invalid("token"));
    await refused(sessions.refresh({ sessionId: "a b" }), invalid("session_id"));
    await sessions.revoke({ sessionId: session.id });
    await refused(sessions.refresh({ token }), NOT_FOUND);
    await refused(sessions.refresh({ sessionId: session.id }), NOT_FOUND);
  });
});

describe("revoking a session", () => {
  test("works by id or by token, says so once, and keeps the reason", async () => {
    const [first, second] = [await create(), await create({ sessionId: "jti-1" })];
    for (const revoked of [true, false]) {
      expect(await sessions.revoke({ token: first.token }, "logout")).toBe(revoked);
      expect(await sessions.revoke({ sessionId: "jti-1" })).toBe(revoked);
    }
    for (const { token } of [first, second]) await refused(sessions.verify(token), NOT_FOUND);
    const { sessions: listed } = await sessions.list({ showRevoked: true });
    expect(listed.map(({ revokeReason }) => revokeReason).toSorted()).toEqual(["", "logout"]);
  });

  test("that is not there, or with another token, is no error, but what is no id or token is", async () => {
    const { token } = await create();
    const wrong = [{ token: forged(token) }, { token: "garbage" }, { sessionId: "no-such-jti" }];
    for (const target of [...wrong, { sessionId: generateSessionId("00") }]) {
      expect(await sessions.revoke(target)).toBe(false);
    }
    await refused(sessions.revoke({ sessionId: "" }), invalid("session_id"));
    await refused(sessions.revoke({ token: "" }), invalid("token"));
    expect(await sessions.verify(token)).toBeDefined();
  });

  test("for a user works for the session's own and no other, by id only", async () => {
    const partitionOf = vi.spyOn(store, "partitionOf");
    for (const input of [{}, { sessionId: "jti-1" }]) {
      const { session, token } = await create(input);
      const revokeFor = (userId: string) => sessions.revoke({ sessionId: session.id }, "", userId);
      expect(await revokeFor("bob")).toBe(false);
      await refused(sessions.revoke({ token }, "", "ann"), invalid("user_id"));
      await refused(revokeFor(""), invalid("user_id"));
      expect(await sessions.verify(token)).toEqual(session);
      expect([await revokeFor("ann"), await revokeFor("ann")]).toEqual([true, false]);
    }
    // The user says where a chosen id is.
    expect(partitionOf).not.toHaveBeenCalled();
  });

  test("keeps of its reason what fits", async () => {
    const { token } = await create();
    await sessions.revoke({ token }, "x".repeat(257));
    await create();
    await sessions.revokeUser("ann", { reason: "stolen\n" });
    const { sessions: listed } = await sessions.list({ showRevoked: true });
    const reasons = listed.map(({ revokeReason }) => revokeReason).toSorted();
    expect(reasons).toEqual(["stolen ", "x".repeat(256)]);
  });

  test("works even where the record cannot be read", async () => {
    const [byToken, byId] = [await createUnreadable(), await createUnreadable()];
    expect(await sessions.revoke({ token: byToken.token })).toBe(true);
    expect(await sessions.revoke({ sessionId: byId.session.id })).toBe(true);
  });

  test("of a user ends all of them but the one that is excepted, which must be there", async () => {
    const [kept, ...others] = [
      await create(),
      await create({ sessionId: "jti-1" }),
      await create(),
    ];
    const bobs = await create({ userId: "bob" });
    const exceptSessionId = kept.session.id;
    for (const other of [bobs.session.id, generateSessionId("00"), "no-such-jti"]) {
      await refused(sessions.revokeUser("ann", { exceptSessionId: other }), NOT_FOUND);
    }
    expect(await sessions.count("ann")).toBe(3);
    expect(await sessions.revokeUser("ann", { exceptSessionId, reason: "stolen" })).toBe(2);
    expect(await sessions.revokeUser("ann", { exceptSessionId })).toBe(0);
    for (const { token } of others) await refused(sessions.verify(token), NOT_FOUND);
    for (const { token } of [kept, bobs]) expect(await sessions.verify(token)).toBeDefined();
    expect(await sessions.revokeUser("ann")).toBe(1);
    expect(await sessions.revokeUser("nobody")).toBe(0);

    await refused(sessions.revokeUser(""), invalid("user_id"));
    const badId = sessions.revokeUser("ann", { exceptSessionId: "a b" });
    await refused(badId, invalid("except_session_id"));
  });
});

test("a store that is down is never taken for a missing or an active session", async () => {
  const { session, token } = await create({ sessionId: "jti-1" });
  await store.close();
  const calls = [
    () => create(),
    () => create({ requestId: "request-1" }),
    () => sessions.verify(token),
    () => sessions.verifyMany([token]),
    () => sessions.get(session.id),
    () => sessions.getMany(["jti-1"]),
    () => sessions.getMany([generateSessionId("00")]),
    () => sessions.list({}),
    () => sessions.count(),
    () => sessions.update("jti-1", {}),
    () => sessions.refresh({ token }),
    () => sessions.rotateToken(token),
    () => sessions.revoke({ token }),
    () => sessions.revoke({ sessionId: "jti-1" }),
    () => sessions.revokeUser("ann"),
  ];
  for (const call of calls) await refused(call(), "STORE_UNAVAILABLE");
});
