import { describe, expect, test, vi } from "vitest";
import { SessiondError } from "../errors.js";
import { generateSessionId, partitionOfUser } from "./session-id.js";
import { formatSessionToken, parseSessionToken } from "./session-token.js";
import {
  clock,
  create,
  createUnreadable,
  forged,
  HOUR_MS,
  invalid,
  NOT_FOUND,
  recordOf,
  refused,
  sessions,
  store,
  useSessions,
} from "./sessions.test.fixture.js";

useSessions();

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
