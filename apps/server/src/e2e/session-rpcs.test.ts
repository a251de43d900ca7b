import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { durationMs, type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Session, SessionState } from "@sessiond/proto/sessiond/v1/session";
import type { SessionResult } from "@sessiond/proto/sessiond/v1/session_service";
import { describe, expect, test } from "vitest";
import { failureIn, failureOf, SESSION_NOT_FOUND } from "../testing/outcome.js";
import { clientOver, GRPC, type SessionServiceClient } from "../testing/protocols.js";
import { byId, byToken, newSession, newUser, renaming } from "../testing/session-requests.js";
import { startTestServer, useTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const MINUTE_MS = 60_000;

// protocols.test.ts proves that the other protocols answer the same as gRPC.
describe.each(STORES)("on $name", ({ open }) => {
  const server = useTestServer({ open });
  const client = clientOver(GRPC, server);

  test("a created session has what it was given, and the server's defaults", async () => {
    const given = {
      userId: newUser(),
      displayName: "Ann Ähnlich 🙂",
      roles: ["admin", "editor"],
      client: { ip: "203.0.113.7", userAgent: "curl/8", device: "laptop" },
      data: { theme: "dark", cart: [1, 2.5, null, { nested: true }], dataDotted: { "a.b": "" } },
    };
    const { session, token, evictedSessionIds } = await newSession(client, given);
    expect(session).toMatchObject({ ...given, state: SessionState.ACTIVE, revokeReason: "" });
    expect(session.id).toMatch(/^[0-9a-f]{64}$/);
    expect(session.etag).not.toBe("");
    expect(session.revokeTime).toBeUndefined();
    expect(token).toMatch(/^sst_[\w-]{90,}$/);
    expect(evictedSessionIds).toEqual([]);
    expect((await client.verifySession({ token })).session).toEqual(session);

    expect(Math.abs(ms(session.createTime) - Date.now())).toBeLessThan(MINUTE_MS);
    expect(session.authenticateTime).toEqual(session.createTime);
    expect(session.lastAccessTime).toEqual(session.createTime);
    expectTimeouts(session, 30 * MINUTE_MS, 24 * 60 * MINUTE_MS);
  });

  test("a session's own timeouts bound it, the absolute one above all", async () => {
    const idleTimeout = { seconds: 90n, nanos: 500_000_000 };
    const shorter = await newSession(client, { idleTimeout, lifetime: { seconds: 600n } });
    expectTimeouts(shorter.session, 90_500, 600_000);
    const longer = await newSession(client, { idleTimeout, lifetime: { seconds: 60n } });
    expectTimeouts(longer.session, 90_500, 60_000);
  });

  test("a creation is repeated under its request id, also when fifty arrive together", async () => {
    const request = { userId: newUser(), requestId: randomUUID(), roles: ["admin"] };
    const creations = Array.from({ length: 50 }, () => client.createSession(request));
    const [first, ...others] = await Promise.all(creations);
    for (const other of others) expect(other).toEqual(first);
    expect(await client.countSessions({ userId: request.userId })).toMatchObject({ count: 1 });

    const changed = client.createSession({ ...request, roles: [] });
    const reused = { code: "ALREADY_EXISTS", reason: "REQUEST_ID_REUSED" };
    expect(await failureOf(changed)).toMatchObject(reused);
    const malformed = client.createSession({ ...request, requestId: "a b" });
    expect(await failureOf(malformed)).toMatchObject({ violations: [{ field: "request_id" }] });
    expect(await client.countSessions({ userId: request.userId })).toMatchObject({ count: 1 });
  });

  test("a request id of one caller is another request when another caller uses it", async () => {
    const claims = { sub: "another service", scope: "sessions:create sessions:read" };
    const stranger = clientOver(GRPC, server, await server.issuer.sign({ claims }));
    const request = { userId: newUser(), requestId: randomUUID() };
    const first = await client.createSession(request);
    const second = await stranger.createSession(request);
    expect(second.session?.id).not.toBe(first.session?.id);
    expect(second.token).not.toBe(first.token);
    expect(await stranger.createSession(request)).toEqual(second);
    expect(await client.createSession(request)).toEqual(first);
  });

  test("a session is read by its id, made or chosen, alone or with its user, but not with another", async () => {
    const userId = newUser();
    const chosenId = `jti-${randomUUID()}`;
    for (const id of ["", chosenId]) {
      const { session, sessionId } = await newSession(client, { userId, sessionId: id });
      expect((await client.getSession({ sessionId })).session).toEqual(session);
      expect((await client.getSession({ sessionId, userId })).session).toEqual(session);
      const withOther = client.getSession({ sessionId, userId: newUser() });
      expect(await failureOf(withOther)).toEqual(SESSION_NOT_FOUND);
    }
    expect(await failureOf(client.getSession({ sessionId: newUser() }))).toEqual(SESSION_NOT_FOUND);
    const taken = { code: "ALREADY_EXISTS", reason: "SESSION_ALREADY_EXISTS" };
    expect(await failureOf(newSession(client, { sessionId: chosenId }))).toMatchObject(taken);
    expect((await client.getSession({ sessionId: chosenId })).session?.userId).toBe(userId);
  });

  test("a batch is answered in order, what is missing fails alone, and a read mask is kept to", async () => {
    const content = { displayName: "Ann", roles: ["admin"], client: { ip: "::1", device: "d" } };
    const [first, second] = [await newSession(client, content), await newSession(client)];
    const tokens = [second.token, "sst_nonsense", first.token];
    const verified = await client.batchVerifySessions({ tokens });
    const ids = [second.sessionId, "SESSION_NOT_FOUND", first.sessionId];
    expect(verified.results.map(idOrReason)).toEqual(ids);

    const { sessionId } = first;
    const readMask = { paths: ["id", "roles", "client.ip"] };
    const sessionIds = [sessionId, "missing"];
    const { results } = await client.batchGetSessions({ sessionIds, readMask });
    expect(results.map(idOrReason)).toEqual([sessionId, "SESSION_NOT_FOUND"]);
    const { session: masked } = await client.getSession({ sessionId, readMask });
    expect(masked).toEqual(results[0]?.result.value);
    expect(masked).toMatchObject({ id: sessionId, userId: "", displayName: "", roles: ["admin"] });
    expect(masked?.client).toMatchObject({ ip: "::1", device: "" });
    expect(masked?.createTime).toBeUndefined();
  });

  test("a list goes page by page, in either order, and keeps to its filters", async () => {
    const userId = newUser();
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.push((await newSession(client, { userId })).sessionId);
    const oldestFirst = await listAll(client, { userId, orderBy: "create_time", pageSize: 2 });
    const newestFirst = await listAll(client, { userId, pageSize: 2 });
    expect(oldestFirst.map(({ id }) => id).sort()).toEqual(ids.sort());
    expect(newestFirst).toEqual(oldestFirst.toReversed());
    expect(await client.countSessions({ userId })).toMatchObject({ count: 5 });

    const role = `role-${randomUUID()}`;
    const other = await newSession(client, { roles: [role, "b"], client: { ip: "203.0.113.9" } });
    const found = await listAll(client, { filter: { role, ip: "203.0.113.9" } });
    expect(found).toEqual([other.session]);
    const { createTime } = other.session;
    expect(await listAll(client, { filter: { role, createTimeTo: createTime } })).toEqual([]);
  });

  test("an update changes the fields and the data keys that it names and no others", async () => {
    const { session, sessionId } = await newSession(client, {
      ...{ displayName: "Ann", roles: ["admin"], client: { ip: "203.0.113.7", device: "laptop" } },
      data: { theme: "dark", cart: [1], locale: "de" },
    });
    const { session: updated } = await client.updateSession({
      sessionId,
      session: { displayName: "ignored", client: { ip: "::1" }, data: { ignored: true } },
      updateMask: { paths: ["roles", "client.ip"] },
      setData: { theme: "light" },
      deleteData: ["cart"],
    });
    expect(updated).toEqual({
      ...{ ...session, roles: [], data: { theme: "light", locale: "de" } },
      ...{ client: { ...session.client, ip: "::1" }, etag: updated?.etag },
    });
    expect(updated?.etag).not.toBe(session.etag);
    expect((await client.getSession({ sessionId })).session).toEqual(updated);
  });

  test("an update with an outdated etag or fencing token is refused, and changes nothing", async () => {
    const { session, sessionId } = await newSession(client);
    const update = (name: string, guard: object = {}) =>
      client.updateSession({ ...renaming(sessionId, name), ...guard });
    const fence = (lock: string, token: bigint) => ({ fence: { lock, token } });
    await update("first", { etag: session.etag });
    const outdated = await failureOf(update("late", { etag: session.etag }));
    expect(outdated).toMatchObject({ code: "ABORTED", reason: "ETAG_MISMATCH" });
    await update("second", fence("names", 7n));
    await update("third", fence("names", 7n));
    const overtaken = await failureOf(update("late", fence("names", 6n)));
    expect(overtaken).toMatchObject({ code: "FAILED_PRECONDITION", reason: "LOCK_NOT_HELD" });
    expect((await client.getSession({ sessionId })).session?.displayName).toBe("third");
    // Tokens of another lock have an order of their own, and an update may have none.
    await update("other", fence("others", 1n));
    expect((await update("free")).session?.displayName).toBe("free");

    for (const [field, lock, token] of [
      ["fence.lock", "", 1n],
      ["fence.lock", "a\nb", 1n],
      ["fence.token", "x", 0n],
      ["fence.token", "x", -1n],
      ["fence.token", "x", 2n ** 53n + 1n],
    ] as const) {
      const refused = await failureOf(update("x", fence(lock, token)));
      expect(refused).toMatchObject({ reason: "INVALID_ARGUMENT", violations: [{ field }] });
    }
  });

  test("a revoked session is gone for every call, and only listed when asked for", async () => {
    const userId = newUser();
    const { session, sessionId, token } = await newSession(client, { userId });
    const reason = "logout — häufig";
    const first = await client.revokeSession({ ...byId(sessionId), reason });
    const second = await client.revokeSession(byId(sessionId));
    const third = await client.revokeSession(byToken(token));
    expect([first, second, third].map(({ revoked }) => revoked)).toEqual([true, false, false]);
    const attempts = [
      client.verifySession({ token }),
      client.getSession({ sessionId }),
      client.refreshSession(byId(sessionId)),
      client.rotateSessionToken({ token }),
      client.updateSession(renaming(sessionId, "x")),
    ];
    const failures = await Promise.all(attempts.map(failureOf));
    for (const failure of failures) expect(failure).toEqual(SESSION_NOT_FOUND);
    expect(await client.countSessions({ userId })).toMatchObject({ count: 0 });
    expect(await listAll(client, { userId })).toEqual([]);
    const [listed, ...others] = await listAll(client, { userId, showRevoked: true });
    expect(others).toEqual([]);
    expect(listed).toMatchObject({ state: SessionState.REVOKED, revokeReason: reason });
    expect(ms(listed?.revokeTime)).toBeGreaterThanOrEqual(ms(session.createTime));
  });

  test("all of a user's sessions but one of theirs are revoked in one step", async () => {
    const userId = newUser();
    const { sessionId: spared } = await newSession(client, { userId });
    for (let i = 0; i < 2; i++) await newSession(client, { userId });
    const revoke = async (reason: string, exceptSessionId = "") =>
      (await client.revokeUserSessions({ userId, exceptSessionId, reason })).revokedCount;
    const { sessionId: others } = await newSession(client);
    for (const stranger of [others, "no-such-session"]) {
      expect(await failureOf(revoke("all but none", stranger))).toEqual(SESSION_NOT_FOUND);
    }
    expect(await revoke("stolen", spared)).toBe(2);
    expect((await listAll(client, { userId })).map(({ id }) => id)).toEqual([spared]);
    expect([await revoke("left"), await revoke("left")]).toEqual([1, 0]);
    const revoked = await listAll(client, { userId, showRevoked: true });
    const reasons = revoked.map(({ revokeReason }) => revokeReason);
    expect(reasons.sort()).toEqual(["left", "stolen", "stolen"]);
  });

  test("a session is revoked by its id and its user, but not with another user", async () => {
    const userId = newUser();
    for (const id of ["", `jti-${randomUUID()}`]) {
      const { sessionId, token } = await newSession(client, { userId, sessionId: id });
      const revoke = async (userId: string) =>
        (await client.revokeSession({ ...byId(sessionId), userId })).revoked;
      expect(await revoke(newUser())).toBe(false);
      expect((await client.verifySession({ token })).session?.id).toBe(sessionId);
      const withToken = await failureOf(client.revokeSession({ ...byToken(token), userId }));
      expect(withToken).toMatchObject({ violations: [{ field: "user_id" }] });
      expect([await revoke(userId), await revoke(userId)]).toEqual([true, false]);
    }
  });

  test("the eleventh session of a user evicts the oldest, and says so", async () => {
    const userId = newUser();
    const oldest = await newSession(client, { userId });
    await atLaterTime(oldest.session.createTime);
    for (let i = 0; i < 9; i++) await newSession(client, { userId });
    const { evictedSessionIds } = await newSession(client, { userId });
    expect(evictedSessionIds).toEqual([oldest.sessionId]);
    expect(await failureOf(client.verifySession({ token: oldest.token }))).toEqual(
      SESSION_NOT_FOUND,
    );
    const [evicted] = await listAll(client, { userId, showRevoked: true, orderBy: "create_time" });
    expect(evicted).toMatchObject({ revokeReason: "session limit reached" });
  });

  test("verifying counts as activity once a tenth of the idle timeout is over, unless told not to", async () => {
    const idleTimeout = { seconds: 5n };
    const [quiet, single, batched] = [
      await newSession(client, { idleTimeout }),
      await newSession(client, { idleTimeout }),
      await newSession(client, { idleTimeout }),
    ];
    await atLaterTime(batched.session.createTime, 500);
    await client.verifySession({ token: quiet.token, noTouch: true });
    await client.batchVerifySessions({ tokens: [quiet.token], noTouch: true });
    await client.verifySession({ token: single.token });
    await client.batchVerifySessions({ tokens: [batched.token] });
    const movedMs = async ({ session, sessionId }: typeof quiet) => {
      const { session: read } = await client.getSession({ sessionId });
      return ms(read?.expireTime) - ms(session.expireTime);
    };
    expect(await movedMs(quiet)).toBe(0);
    expect(await movedMs(single)).toBeGreaterThanOrEqual(500);
    expect(await movedMs(batched)).toBeGreaterThanOrEqual(500);
  });
});

test("under the policy reject, a session beyond the limit is refused", async () => {
  const policy = { maxSessionsPerUser: 1, policy: "reject" } as const;
  await using server = await startTestServer({ policy });
  const client = clientOver(GRPC, server);
  const userId = newUser();
  const { token } = await newSession(client, { userId });
  const refused = { code: "RESOURCE_EXHAUSTED", reason: "SESSION_LIMIT_REACHED" };
  expect(await failureOf(newSession(client, { userId }))).toMatchObject(refused);
  expect((await client.verifySession({ token })).session?.userId).toBe(userId);
});

function ms(timestamp: Timestamp | undefined): number {
  return timestamp === undefined ? Number.NaN : timestampMs(timestamp);
}

function expectTimeouts(session: Session, idleMs: number, absoluteMs: number): void {
  const createMs = ms(session.createTime);
  expect(session.idleTimeout && durationMs(session.idleTimeout)).toBe(idleMs);
  expect(ms(session.expireTime)).toBe(createMs + Math.min(idleMs, absoluteMs));
  expect(ms(session.absoluteExpireTime)).toBe(createMs + absoluteMs);
}

/** Waits until this long after `time`, by the clock that the store has, too. */
async function atLaterTime(time: Timestamp | undefined, delayMs = 0): Promise<void> {
  while (Date.now() <= ms(time) + delayMs) await sleep(1);
}

async function listAll(
  client: SessionServiceClient,
  query: Parameters<SessionServiceClient["listSessions"]>[0],
): Promise<readonly Session[]> {
  const sessions: Session[] = [];
  let pageToken = "";
  do {
    const page = await client.listSessions({ ...query, pageToken });
    sessions.push(...page.sessions);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return sessions;
}

/** The id of a result's session, or the reason of its error. */
function idOrReason(result: SessionResult): string | undefined {
  return result.result.case === "session" ? result.result.value.id : failureIn(result).reason;
}
