import { describe, expect, onTestFinished, test, vi } from "vitest";
import { storeUnavailable } from "../errors.js";
import { followEvents, sweepAll } from "../testing/contract/sessions/fixtures.js";
import {
  clock,
  create,
  forged,
  invalid,
  MINUTE_MS,
  NOT_FOUND,
  refused,
  sessions,
  store,
  useSessions,
  withPolicy,
} from "./sessions.test.fixture.js";

const GRACE_MS = 30_000;

useSessions();

test("rotating a token gives a new one, kills the old, and counts as authentication", async () => {
  const { session, token } = await create({ sessionId: "jti-1" });
  clock.advance(1_000);
  const rotated = await sessions.rotateToken(token);
  expect(rotated.token).not.toBe(token);
  expect(rotated.session).toMatchObject({
    id: session.id,
    createTimeMs: session.createTimeMs,
    tokenCreateTimeMs: clock.now(),
    authenticateTimeMs: clock.now(),
    lastAccessTimeMs: clock.now(),
    version: 2,
  });
  expect(await sessions.verify(rotated.token)).toEqual(rotated.session);
  await refused(sessions.verify(token), NOT_FOUND);
  await refused(sessions.refresh({ token }), NOT_FOUND);
  await refused(sessions.rotateToken(token), NOT_FOUND);
  expect(await sessions.revoke({ token })).toBe(false);
  expect(await sessions.verify(rotated.token)).toBeDefined();
});

describe("a token that is rotated with a grace", () => {
  test("proves the session as the new one does until the grace is over, but gets no new token", async () => {
    const { session, token } = await create();
    clock.advance(1_000);
    const rotated = await sessions.rotateToken(token, { graceMs: GRACE_MS });
    expect(rotated.session.authenticateTimeMs).toBe(session.authenticateTimeMs);
    clock.advance(GRACE_MS - 1);
    for (const one of [token, rotated.token]) {
      expect((await sessions.verify(one)).id).toBe(session.id);
      expect((await sessions.refresh({ token: one })).id).toBe(session.id);
    }
    const [old, forgery] = await sessions.verifyMany([token, forged(token)]);
    expect(old).toMatchObject({ id: session.id });
    expect(forgery).toMatchObject(NOT_FOUND);
    await refused(sessions.rotateToken(token, { graceMs: GRACE_MS }), NOT_FOUND);
    clock.advance(1);
    await refused(sessions.verify(token), NOT_FOUND);
    expect(await sessions.verify(rotated.token)).toBeDefined();
  });

  test("proves nothing once the session's roles have changed, and something after other changes", async () => {
    const { session, token } = await create({ roles: ["user"] });
    await sessions.rotateToken(token, { graceMs: GRACE_MS });
    await sessions.update(session.id, { displayName: "Ann" });
    expect(await sessions.verify(token)).toBeDefined();
    await sessions.update(session.id, { roles: ["user"] });
    expect(await sessions.verify(token)).toBeDefined();
    await sessions.update(session.id, { roles: ["admin"] });
    await refused(sessions.verify(token), NOT_FOUND);
  });

  test.each([-1, 0.5, 60_001, Number.NaN])("may have none of %d ms", async (graceMs) => {
    const { token } = await create();
    await refused(sessions.rotateToken(token, { graceMs }), invalid("grace"));
    expect(await sessions.verify(token)).toBeDefined();
  });
});

describe("a request to rotate that is repeated", () => {
  const options = { requestId: "r-1", caller: "shop" };

  test("answers the same token, also many times at once, and rotates once", async () => {
    const { session, token } = await create();
    const news = await followEvents(store);
    const rotations = await Promise.all(
      Array.from({ length: 20 }, () => sessions.rotateToken(token, options)),
    );
    expect(new Set(rotations.map((rotation) => rotation.token)).size).toBe(1);
    expect((await news()).map(({ type }) => type)).toEqual(["token_rotated"]);
    clock.advance(10 * MINUTE_MS - 1);
    const again = await sessions.rotateToken(token, options);
    expect(again.token).toBe(rotations[0]?.token);
    expect((await sessions.verify(again.token)).id).toBe(session.id);
    clock.advance(1);
    await refused(sessions.rotateToken(token, options), NOT_FOUND);
  });

  test("with another token or grace is refused, and finds nothing once the session has ended", async () => {
    const { session, token } = await create();
    const { token: second } = await sessions.rotateToken(token, options);
    await refused(sessions.rotateToken(second, options), "REQUEST_ID_REUSED");
    await refused(sessions.rotateToken(token, { ...options, graceMs: 1 }), "REQUEST_ID_REUSED");
    await refused(
      sessions.rotateToken(token, { ...options, requestId: "" }),
      invalid("request_id"),
    );
    await sessions.revoke({ sessionId: session.id });
    await refused(sessions.rotateToken(token, options), NOT_FOUND);
  });

  test("is a wrong token to everybody who has neither the old nor the present token", async () => {
    const { token } = await create();
    const { token: second } = await sessions.rotateToken(token, options);
    await refused(sessions.rotateToken(forged(token), options), NOT_FOUND);
    const { token: third } = await sessions.rotateToken(second, { ...options, requestId: "r-2" });
    await refused(sessions.rotateToken(token, options), NOT_FOUND);
    expect(await sessions.verify(third)).toBeDefined();
  });

  test("finds no later session with the same id", async () => {
    const { token } = await create({ sessionId: "desk-7" });
    await sessions.rotateToken(token, options);
    await sessions.revoke({ sessionId: "desk-7" });
    clock.advance(20 * MINUTE_MS);
    await sweepAll(store);
    await create({ sessionId: "desk-7" });
    await refused(sessions.rotateToken(token, options), NOT_FOUND);
  });

  test("by another caller, or for another session, is another request", async () => {
    const [first, second] = [await create(), await create()];
    const rotated = await sessions.rotateToken(first.token, options);
    const other = await sessions.rotateToken(second.token, options);
    expect(other.session.id).toBe(second.session.id);
    await refused(sessions.rotateToken(first.token, { ...options, caller: "blog" }), NOT_FOUND);
    expect(await sessions.verify(rotated.token)).toBeDefined();
  });
});

describe("a replaced token that is presented after its end", () => {
  type Present = (token: string) => Promise<unknown>;
  const ways: readonly (readonly [string, Present])[] = [
    ["verify", (token) => sessions.verify(token)],
    ["verify among many", (token) => sessions.verifyMany([token])],
    ["refresh", (token) => sessions.refresh({ token })],
    ["rotate", (token) => sessions.rotateToken(token)],
    ["revoke", (token) => sessions.revoke({ token })],
  ];

  test.each(ways)("to %s is an event, and the session lives on", async (_, present) => {
    const { token } = await create();
    const rotated = await sessions.rotateToken(token, { graceMs: GRACE_MS });
    clock.advance(GRACE_MS + MINUTE_MS);
    const news = await followEvents(store);
    for (let i = 0; i < 3; i++) await present(token).catch(() => {});
    await present(forged(token)).catch(() => {});
    expect((await news()).map(({ type }) => type)).toEqual(["token_reused"]);
    expect(await sessions.verify(rotated.token)).toBeDefined();
  });

  test("is refused while the store cannot record it, unless the policy needs the session ended", async () => {
    const { token } = await create();
    await sessions.rotateToken(token);
    const report = vi.spyOn(store, "reportReuse").mockRejectedValue(storeUnavailable("down"));
    onTestFinished(() => report.mockRestore());
    await refused(sessions.verify(token), NOT_FOUND);
    await refused(sessions.refresh({ token }), NOT_FOUND);
    expect(await sessions.revoke({ token })).toBe(false);
    await refused(withPolicy({ onTokenReuse: "revoke" }).verify(token), "STORE_UNAVAILABLE");
  });

  test("ends the session if the policy says so, but not by a lost race", async () => {
    const strict = withPolicy({ onTokenReuse: "revoke" });
    const { token } = await create();
    const rotated = await strict.rotateToken(token);
    clock.advance(10_000);
    await refused(strict.verify(token), NOT_FOUND);
    expect(await strict.verify(rotated.token)).toBeDefined();
    clock.advance(1);
    await refused(strict.verify(token), NOT_FOUND);
    await refused(strict.verify(rotated.token), NOT_FOUND);
    const { sessions: listed } = await strict.list({ showRevoked: true });
    expect(listed).toMatchObject([{ revokeReason: "token reused" }]);
  });
});
