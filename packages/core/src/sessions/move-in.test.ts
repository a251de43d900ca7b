import { hash, randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { EVERYTHING, listAll } from "../testing/contract/sessions/fixtures.js";
import {
  clock,
  create,
  HOUR_MS,
  invalid,
  MINUTE_MS,
  NOT_FOUND,
  refused,
  sessions,
  store,
  useSessions,
} from "./sessions.test.fixture.js";

useSessions();

/** A credential as express-session makes it, and its hash. */
function credential() {
  const cookie = randomBytes(24).toString("base64url");
  return { cookie, tokenHash: hash("sha256", cookie, "buffer") };
}

describe("a session that moves in with its own credential", () => {
  test("is proven by it, rotates into a token, and is stored without it", async () => {
    const { cookie, tokenHash } = credential();
    const { session, token } = await create({ tokenHash, data: { cart: 1 } });
    expect(token).toBe("");
    expect(session.id).toMatch(/^ext:[\w-]{43}$/);
    expect(await sessions.verify(cookie)).toEqual(session);
    expect((await sessions.refresh({ token: cookie })).id).toBe(session.id);
    expect((await sessions.get(session.id)).id).toBe(session.id);
    const batch = await sessions.verifyMany([cookie, credential().cookie]);
    expect(batch).toMatchObject([{ id: session.id }, NOT_FOUND]);
    expect(JSON.stringify(await listAll(store, EVERYTHING))).not.toContain(cookie);

    const rotated = await sessions.rotateToken(cookie);
    expect(rotated.token).toMatch(/^sst_/);
    expect(await sessions.verify(rotated.token)).toEqual(rotated.session);
    await refused(sessions.verify(cookie), NOT_FOUND);
    expect(await sessions.revoke({ token: rotated.token })).toBe(true);
  });

  test("ends by its credential, which then moves in no other session before it is swept", async () => {
    const { cookie, tokenHash } = credential();
    await create({ tokenHash });
    expect(await sessions.revoke({ token: cookie }, "logout")).toBe(true);
    await refused(sessions.verify(cookie), NOT_FOUND);
    await refused(create({ tokenHash }), "SESSION_ALREADY_EXISTS");
    await refused(create({ tokenHash, userId: "bob" }), "SESSION_ALREADY_EXISTS");
  });

  test("has the times of the system it comes from, within its own deadlines", async () => {
    const { cookie, tokenHash } = credential();
    const movedIn = {
      createTimeMs: clock.now() - HOUR_MS,
      authenticateTimeMs: clock.now() - MINUTE_MS,
      expireTimeMs: clock.now() + MINUTE_MS,
    };
    const { session } = await create({ tokenHash, movedIn, lifetimeMs: 2 * HOUR_MS });
    expect(session).toMatchObject({
      ...movedIn,
      absoluteExpireTimeMs: clock.now() + HOUR_MS,
    });
    clock.advance(MINUTE_MS);
    await refused(sessions.verify(cookie), NOT_FOUND);
  });

  test("lives on while its user is active, however near its end was", async () => {
    const { cookie, tokenHash } = credential();
    await create({ tokenHash, movedIn: { expireTimeMs: clock.now() + 2 * MINUTE_MS } });
    for (let i = 0; i < 20; i++) {
      clock.advance(MINUTE_MS / 2);
      expect(await sessions.verify(cookie)).toBeDefined();
    }
  });

  test("answers a repeated request, and no other under the same id", async () => {
    const { tokenHash } = credential();
    const [first, again] = [
      await create({ tokenHash, requestId: "r" }),
      await create({ tokenHash, requestId: "r" }),
    ];
    expect(again).toEqual(first);
    const other = create({ ...credential(), requestId: "r" });
    await refused(other, "REQUEST_ID_REUSED");
  });

  test("needs a whole hash, no id of its own, and times that can be", async () => {
    const { tokenHash } = credential();
    await refused(create({ tokenHash: tokenHash.subarray(1) }), invalid("token_hash"));
    await refused(create({ tokenHash, sessionId: "mine" }), invalid("session_id"));
    await refused(create({ sessionId: "ext:mine" }), invalid("session_id"));
    for (const createTimeMs of [-1, 0.5, Number.NaN]) {
      await refused(create({ tokenHash, movedIn: { createTimeMs } }), invalid("create_time"));
    }
    const late = { createTimeMs: clock.now() - 25 * HOUR_MS };
    await refused(create({ tokenHash, movedIn: late }), "INVALID_ARGUMENT");
    await refused(create({ movedIn: { expireTimeMs: clock.now() } }), invalid("expire_time"));
    expect(await sessions.count()).toBe(0);
  });
});

test.each(["", "short", "a b".repeat(20), "ü".repeat(20), "x".repeat(1_025)])(
  "what is no credential proves nothing: %j",
  async (text) => {
    await refused(sessions.verify(text), text === "" ? invalid("token") : NOT_FOUND);
  },
);
