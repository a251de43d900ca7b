import { describe, expect, test, vi } from "vitest";
import { SessiondError } from "../errors.js";
import { SqliteSessionStore } from "../sqlite/index.js";
import type { CreateSession } from "./create-request.js";
import { Keyring } from "./keyring.js";
import type { JsonObject } from "./session.js";
import { generateSessionId, partitionOfUser } from "./session-id.js";
import { formatSessionToken, parseSessionToken } from "./session-token.js";
import { Sessions } from "./sessions.js";
import {
  clock,
  create,
  createUnreadable,
  forged,
  HOUR_MS,
  invalid,
  key,
  keyring,
  MINUTE_MS,
  NOT_FOUND,
  recordOf,
  refused,
  sessions,
  store,
  useSessions,
  withKeys,
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

describe("a request to create that is repeated", () => {
  const asked: CreateSession = {
    userId: "ann",
    requestId: "request-1",
    caller: "shop",
    displayName: "Ann",
    roles: ["admin", "user"],
    client: { ip: "203.0.113.7" },
    data: { theme: "dark", cart: { items: [1, 2.5, null], total: 2 } },
    idleTimeoutMs: 60_000,
  };

  test("answers the same session, token and evicted ids, also many times at once", async () => {
    const evicting = withPolicy({ maxSessionsPerUser: 1 });
    const old = await create();
    const answers = await Promise.all(Array.from({ length: 20 }, () => evicting.create(asked)));
    const [first] = answers;
    expect(first?.evictedSessionIds).toEqual([old.session.id]);
    clock.advance(MINUTE_MS - 1);
    for (const answer of [...answers, await evicting.create(asked)]) expect(answer).toEqual(first);
    expect(await sessions.count()).toBe(1);
    const verified = await sessions.verify(first?.token ?? "", { touch: false });
    expect(verified).toEqual(first?.session);
  });

  test("answers the session as it is now: updated, expired, revoked", async () => {
    const { session, token } = await sessions.create(asked);
    const updated = await sessions.update(session.id, { displayName: "Ann B." });
    expect((await sessions.create(asked)).session).toEqual(updated.session);
    await sessions.revoke({ token }, "logout");
    const revoked = { state: "revoked", revokeReason: "logout" };
    expect(await sessions.create(asked)).toMatchObject({ token, session: revoked });

    const brief = { ...asked, requestId: "request-2", idleTimeoutMs: 1 };
    await sessions.create(brief);
    clock.advance(1);
    expect((await sessions.create(brief)).session.state).toBe("expired");
    expect(await sessions.count()).toBe(0);
  });

  test("is the same however it is put, and though the server's defaults have changed", async () => {
    const { idleTimeoutMs: _, ...plain } = asked;
    const first = await sessions.create(plain);
    const reordered = {
      ...plain,
      data: { cart: { total: 2, items: [1, 2.5, null] }, theme: "dark" },
      client: { device: "", userAgent: "", ip: "203.0.113.7" },
    };
    expect(await withPolicy({ idleTimeoutMs: 5_000 }).create(reordered)).toEqual(first);
  });

  // The second server may be a newer one, which keeps descriptions in another way.
  test("is compared as it was sent, not as it is kept", async () => {
    const described = { displayName: "x".repeat(1_000), client: { ip: "::ffff:203.0.113.7" } };
    const first = await sessions.create({ ...asked, ...described });
    expect(first.session.client.ip).toBe("203.0.113.7");
    expect(first.notices).toMatchObject([{ field: "display_name" }]);
    expect(await sessions.create({ ...asked, ...described })).toEqual(first);
    const { displayName, client } = first.session;
    for (const kept of [
      { ...described, displayName },
      { ...described, client },
    ]) {
      await refused(sessions.create({ ...asked, ...kept }), "REQUEST_ID_REUSED");
    }
  });

  test.each<[string, Partial<CreateSession>]>([
    ["user", { userId: "bob" }],
    ["session id", { sessionId: "jti-1" }],
    ["display name", { displayName: "ann" }],
    ["order of roles", { roles: ["user", "admin"] }],
    ["client", { client: { ip: "203.0.113.8" } }],
    ["data, far inside", { data: { theme: "dark", cart: { items: [1, 2.5, 0], total: 2 } } }],
    ["idle timeout", { idleTimeoutMs: 60_001 }],
    ["lifetime", { lifetimeMs: 60_000 }],
  ])("with another %s is refused, and creates nothing", async (_, other) => {
    const { session, token } = await sessions.create(asked);
    await refused(sessions.create({ ...asked, ...other }), "REQUEST_ID_REUSED");
    expect(await sessions.count()).toBe(1);
    expect((await sessions.verify(token)).displayName).toBe(session.displayName);
  });

  test("for a user of the same partition is refused like any other", async () => {
    let neighbour = 0;
    while (partitionOfUser(`user-${neighbour}`) !== partitionOfUser("ann")) neighbour++;
    await sessions.create(asked);
    await refused(sessions.create({ ...asked, userId: `user-${neighbour}` }), "REQUEST_ID_REUSED");
    expect(await sessions.count()).toBe(1);
  });

  test("by another caller of whatever name is another request", async () => {
    const { caller: _, ...anonymous } = asked;
    const odd = "https://issuer.example/\0\u{1f600} ".repeat(100);
    const requests = [asked, anonymous, { ...asked, caller: "blog" }, { ...asked, caller: odd }];
    const answers = await Promise.all(requests.map((request) => sessions.create(request)));
    expect(new Set(answers.map(({ token }) => token)).size).toBe(4);
    // An empty name is the same as none.
    expect(await sessions.create({ ...asked, caller: "" })).toEqual(answers[1]);
    expect(await sessions.create({ ...asked, caller: odd })).toEqual(answers[3]);
    expect(await sessions.count()).toBe(4);
  });

  test("is another request once 10 minutes are over", async () => {
    const first = await sessions.create({ ...asked, idleTimeoutMs: HOUR_MS });
    clock.advance(10 * MINUTE_MS - 1);
    expect(await sessions.create({ ...asked, idleTimeoutMs: HOUR_MS })).toEqual(first);
    clock.advance(1);
    const next = await sessions.create({ ...asked, displayName: "someone else" });
    expect(next.session.id).not.toBe(first.session.id);
    expect(await sessions.count()).toBe(2);
  });

  test("finds no session once that was removed, and makes no new one", async () => {
    const forgetful = await SqliteSessionStore.open({
      path: ":memory:",
      now: clock.now,
      retentionMs: 1_000,
    });
    const brief = new Sessions({ store: forgetful, keyring });
    await brief.create(asked);
    clock.advance(2 * MINUTE_MS);
    expect(await forgetful.sweep(100)).toMatchObject({ reclaimed: 1 });
    await refused(brief.create(asked), NOT_FOUND);
    await refused(brief.create({ ...asked, displayName: "Bob" }), "REQUEST_ID_REUSED");
    expect(await brief.count()).toBe(0);
    await forgetful.close();
  });

  test("is recognised under a rotated key, and unreadable once its key is gone", async () => {
    const first = await sessions.create(asked);
    const newKey = Keyring.generateKey("k2");
    expect(await withKeys(newKey, key).create(asked)).toEqual(first);
    const unreadable = { reason: "SESSION_UNREADABLE", metadata: { key_id: "k1" } };
    await refused(withKeys(newKey).create(asked), unreadable);
    expect(await sessions.count()).toBe(1);
  });

  test("is not answered from the record of another request", async () => {
    const createOnce = vi.spyOn(store, "createOnce");
    await sessions.create(asked);
    const [request] = createOnce.mock.calls[0] ?? [];
    createOnce.mockImplementationOnce(async (_, session, limit) => ({
      ...(await store.create(session, limit)),
      repeated: request?.record ?? new Uint8Array(),
    }));
    await refused(sessions.create({ ...asked, requestId: "request-2" }), "SESSION_UNREADABLE");
  });

  test("leaves neither content, nor its hash, nor the token's secret in the store's record", async () => {
    const createOnce = vi.spyOn(store, "createOnce");
    const canary = "canary-51c2";
    const { token } = await sessions.create({
      ...asked,
      userId: "dora",
      displayName: canary,
      roles: [canary],
      data: { [canary]: canary },
    });
    const [request] = createOnce.mock.calls[0] ?? [];
    const context = Buffer.from(`request\0${request?.key}`);
    const record = Buffer.from(request?.record ?? []);
    const opened = Buffer.from(keyring.unseal(record, context)).toString();
    const secret = Buffer.from(parseSessionToken(token)?.secret ?? []).toString("base64url");
    const [fingerprint = "", kept] = JSON.parse(opened);
    expect(kept).toBe(secret);
    expect(fingerprint).toMatch(/^[\w-]{43}$/);

    const stored = `${request?.key}|${record.toString("latin1")}|${record.toString("base64url")}`;
    expect(stored).toContain("request-1");
    for (const hidden of [canary, "dora", "shop", secret, fingerprint, token.slice(4, 40)]) {
      expect(stored.includes(hidden), hidden).toBe(false);
    }
  });
});

describe("verifying a token", () => {
  test("says the same of a missing, expired, revoked, wrong or malformed one", async () => {
    const expired = await create({ idleTimeoutMs: 1 });
    clock.advance(1);
    const revoked = await create();
    await sessions.revoke({ token: revoked.token });
    const active = await create({ sessionId: "jti-1" });
    const rotated = await sessions.rotateToken(active.token);
    const own = parseSessionToken(rotated.token);
    if (own === undefined) throw new Error("expected a token");
    const tokens = [
      expired.token,
      revoked.token,
      active.token,
      forged(rotated.token),
      formatSessionToken({ ...own, partition: own.partition === "00" ? "01" : "00" }),
      formatSessionToken({ ...own, partition: "00", sessionId: generateSessionId("00") }),
      formatSessionToken({ ...own, sessionId: "no-such-jti" }),
      `${rotated.token}A`,
      "sst_",
      "garbage",
      active.session.id,
    ];
    for (const token of tokens) {
      const failure = await sessions.verify(token).catch((error: unknown) => error);
      expect(failure, token).toMatchObject(NOT_FOUND);
      expect(failure, token).not.toHaveProperty("cause");
    }
    await refused(sessions.verify(""), invalid("token"));
    expect((await sessions.verify(rotated.token)).id).toBe("jti-1");
  });

  test("is a touch once a tenth of the idle timeout has passed, and writes nothing before", async () => {
    const { session, token } = await create({ idleTimeoutMs: 10_000 });
    const touch = vi.spyOn(store, "touch");
    clock.advance(999);
    for (let i = 0; i < 10; i++) expect(await sessions.verify(token)).toEqual(session);
    expect(touch).not.toHaveBeenCalled();
    clock.advance(1);
    const expected = {
      ...session,
      lastAccessTimeMs: clock.now(),
      expireTimeMs: clock.now() + 10_000,
    };
    for (let i = 0; i < 10; i++) expect(await sessions.verify(token)).toEqual(expected);
    expect(touch).toHaveBeenCalledTimes(1);
  });

  test("is no touch when asked not to be", async () => {
    const { session, token } = await create({ idleTimeoutMs: 10_000 });
    clock.advance(9_999);
    const seen = await sessions.verify(token, { touch: false });
    expect(seen.lastAccessTimeMs).toBe(session.lastAccessTimeMs);
    clock.advance(1);
    await refused(sessions.verify(token), NOT_FOUND);
  });

  test("fails where the session is revoked or rotated between its reading and its touching", async () => {
    for (const end of [
      (token: string) => sessions.revoke({ token }),
      (token: string) => sessions.rotateToken(token),
    ]) {
      const { token } = await create({ idleTimeoutMs: 10_000 });
      clock.advance(5_000);
      const get = store.get.bind(store);
      vi.spyOn(store, "get").mockImplementationOnce(async (at) => {
        const found = await get(at);
        await end(token);
        return found;
      });
      await refused(sessions.verify(token), NOT_FOUND);
    }
  });

  test("fails where the record is another session's, even one of the same chosen id", async () => {
    const ann = await create({ sessionId: "jti-1", idleTimeoutMs: 1 });
    const record = await recordOf("jti-1");
    const [other, bob] = [await create(), await create({ userId: "bob" })];
    for (const { session, token } of [other, bob]) {
      await store.replaceRecord({ id: session.id, partition: session.id.slice(0, 2) }, 1, record);
      await refused(sessions.verify(token), "SESSION_UNREADABLE");
    }
    expect((await sessions.verify(ann.token)).userId).toBe("ann");
    clock.advance(HOUR_MS);
    await store.sweep(10);
    const next = await create({ userId: "bob", sessionId: "jti-1" });
    await store.replaceRecord({ id: "jti-1", partition: partitionOfUser("bob") }, 1, record);
    await refused(sessions.verify(next.token), "SESSION_UNREADABLE");
  });

  test("says so where the record cannot be read, and names the key that is missing", async () => {
    const { token } = await createUnreadable();
    const unreadable = { reason: "SESSION_UNREADABLE", metadata: { key_id: "lost" } };
    await refused(sessions.verify(token), unreadable);
  });
});

describe("verifying many tokens", () => {
  test("answers in their order, an error in the position of each that fails", async () => {
    const [ann, bob] = [await create(), await create({ userId: "bob", sessionId: "jti-1" })];
    const revoked = await create();
    await sessions.revoke({ token: revoked.token });
    const unreadable = await createUnreadable();
    const tokens = [bob.token, forged(ann.token), ann.token, revoked.token, "", unreadable.token];
    const results = await sessions.verifyMany([...tokens, bob.token]);
    expect(results).toMatchObject([
      { id: "jti-1" },
      NOT_FOUND,
      { id: ann.session.id },
      NOT_FOUND,
      invalid("token"),
      { reason: "SESSION_UNREADABLE" },
      { id: "jti-1" },
    ]);
    expect(results.filter((result) => result instanceof SessiondError)).toHaveLength(4);
  });

  test("is a touch like verifying one, and none when asked not to be", async () => {
    const { token } = await create({ idleTimeoutMs: 10_000 });
    clock.advance(5_000);
    const [untouched] = await sessions.verifyMany([token], { touch: false });
    expect(untouched).toMatchObject({ lastAccessTimeMs: clock.now() - 5_000 });
    const [touched] = await sessions.verifyMany([token]);
    expect(touched).toMatchObject({ lastAccessTimeMs: clock.now() });
  });

  test("takes 1 to 1000 tokens", async () => {
    const { session, token } = await create();
    await refused(sessions.verifyMany([]), invalid("tokens"));
    await refused(sessions.verifyMany(Array(1_001).fill(token)), invalid("tokens"));
    const most = await sessions.verifyMany(Array(1_000).fill(token));
    expect(most).toEqual(Array(1_000).fill(session));
  });
});

describe("getting a session", () => {
  test("works by a generated or a chosen id, alone or with its user and no other", async () => {
    for (const input of [{}, { sessionId: "jti-1" }]) {
      const { session } = await create(input);
      expect(await sessions.get(session.id)).toEqual(session);
      expect(await sessions.get(session.id, { userId: "ann" })).toEqual(session);
      await refused(sessions.get(session.id, { userId: "bob" }), NOT_FOUND);
    }
  });

  test("is no touch", async () => {
    const { session } = await create({ idleTimeoutMs: 10_000 });
    clock.advance(9_999);
    expect((await sessions.get(session.id)).expireTimeMs).toBe(session.expireTimeMs);
    clock.advance(1);
    await refused(sessions.get(session.id), NOT_FOUND);
  });

  test("that does not exist, or whose id none can have, fails accordingly", async () => {
    for (const id of [generateSessionId("00"), "no-such-jti"]) {
      await refused(sessions.get(id), NOT_FOUND);
    }
    for (const id of ["", "a b", "A".repeat(64)]) {
      await refused(sessions.get(id), invalid("session_id"));
    }
    await refused(sessions.get("jti-1", { userId: "" }), invalid("user_id"));
  });

  test("in a batch of 1 to 1000 answers in order, an error in the position of each that fails", async () => {
    const ann = await create();
    const bob = await create({ userId: "bob", sessionId: "jti-1" });
    const unreadable = await createUnreadable();
    const ids = ["jti-1", generateSessionId("00"), "not an id", ann.session.id, "no-such-jti"];
    expect(await sessions.getMany([...ids, unreadable.session.id, "jti-1"])).toMatchObject([
      bob.session,
      NOT_FOUND,
      invalid("session_id"),
      ann.session,
      NOT_FOUND,
      { reason: "SESSION_UNREADABLE" },
      bob.session,
    ]);
    await refused(sessions.getMany([]), invalid("session_ids"));
    await refused(sessions.getMany(Array(1_001).fill("a")), invalid("session_ids"));
    expect(await sessions.getMany(Array(1_000).fill("a"))).toHaveLength(1_000);
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
