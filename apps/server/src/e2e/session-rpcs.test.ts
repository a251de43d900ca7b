import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { anyUnpack, durationMs, type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { ErrorInfoSchema } from "@sessiond/proto/google/rpc/error_details";
import { type Session, SessionState } from "@sessiond/proto/sessiond/v1/session";
import type { SessionResult } from "@sessiond/proto/sessiond/v1/session_service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { failureOf } from "../testing/outcome.js";
import { clientOver, GRPC, PROTOCOLS, type SessionServiceClient } from "../testing/protocols.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const MINUTE_MS = 60_000;
const NOT_FOUND = {
  code: "NOT_FOUND",
  message: "session not found",
  reason: "SESSION_NOT_FOUND",
  domain: "sessiond",
  metadata: {},
};

describe.each(STORES)("on $name", ({ open }) => {
  const opened = new AsyncDisposableStack();
  let server: TestServer;

  beforeAll(async () => {
    const store = opened.use(await open());
    server = opened.use(await startTestServer({ store: store.url }));
  });
  afterAll(() => opened.disposeAsync());

  describe.each(PROTOCOLS)("over $name", (protocol) => {
    let client: SessionServiceClient;
    beforeAll(() => {
      client = clientOver(protocol, server);
    });

    test("a created session has what it was given, and the server's defaults", async () => {
      const given = {
        userId: newUser(),
        displayName: "Ann Ähnlich 🙂",
        roles: ["admin", "editor"],
        client: { ip: "203.0.113.7", userAgent: "curl/8", device: "laptop" },
        data: { theme: "dark", cart: [1, 2.5, null, { nested: true }], dataDotted: { "a.b": "" } },
      };
      const { session, token, evictedSessionIds } = await client.createSession(given);
      expect(session).toMatchObject({ ...given, state: SessionState.ACTIVE, revokeReason: "" });
      expect(session?.id).toMatch(/^[0-9a-f]{64}$/);
      expect(session?.etag).not.toBe("");
      expect(session?.revokeTime).toBeUndefined();
      expect(token).toMatch(/^sst_[\w-]{90,}$/);
      expect(evictedSessionIds).toEqual([]);

      const createMs = ms(session?.createTime);
      expect(Math.abs(createMs - Date.now())).toBeLessThan(MINUTE_MS);
      expect(ms(session?.authenticateTime)).toBe(createMs);
      expect(ms(session?.lastAccessTime)).toBe(createMs);
      expect(ms(session?.expireTime)).toBe(createMs + 30 * MINUTE_MS);
      expect(ms(session?.absoluteExpireTime)).toBe(createMs + 24 * 60 * MINUTE_MS);
      expect(session?.idleTimeout && durationMs(session.idleTimeout)).toBe(30 * MINUTE_MS);
    });

    test("a session's own timeouts bound it, the absolute one above all", async () => {
      const { session } = await client.createSession({
        userId: newUser(),
        idleTimeout: { seconds: 90n, nanos: 500_000_000 },
        lifetime: { seconds: 60n },
      });
      const createMs = ms(session?.createTime);
      expect(ms(session?.expireTime)).toBe(createMs + MINUTE_MS);
      expect(ms(session?.absoluteExpireTime)).toBe(createMs + MINUTE_MS);
      expect(session?.idleTimeout && durationMs(session.idleTimeout)).toBe(90_500);
    });

    test("an update with an older fencing token than the last is refused, and changes nothing", async () => {
      const { session } = await client.createSession({ userId: newUser() });
      const { id: sessionId = "" } = session ?? {};
      const update = (displayName: string, fence?: { lock: string; token: bigint }) =>
        client.updateSession({
          ...{ sessionId, session: { displayName }, updateMask: { paths: ["display_name"] } },
          ...(fence && { fence }),
        });
      await update("first", { lock: "names", token: 5n });
      await update("second", { lock: "names", token: 7n });
      await update("again", { lock: "names", token: 7n });
      expect(await failureOf(update("late", { lock: "names", token: 6n }))).toMatchObject({
        code: "FAILED_PRECONDITION",
        reason: "LOCK_NOT_HELD",
      });
      expect((await client.getSession({ sessionId })).session?.displayName).toBe("again");
      // Another lock's tokens are another order, and whoever has none is not asked.
      await update("other", { lock: "others", token: 1n });
      expect((await update("free")).session?.displayName).toBe("free");
    });

    test.each([
      [{ lock: "", token: 1n }, "fence.lock"],
      [{ lock: "a\nb", token: 1n }, "fence.lock"],
      [{ lock: "x", token: 0n }, "fence.token"],
      [{ lock: "x", token: -1n }, "fence.token"],
      [{ lock: "x", token: 2n ** 53n + 1n }, "fence.token"],
    ])("a fence that cannot be is refused, by its field: $1", async (fence, field) => {
      const { session } = await client.createSession({ userId: newUser() });
      const call = client.updateSession({
        ...{ sessionId: session?.id ?? "", session: { displayName: "x" }, fence },
        updateMask: { paths: ["display_name"] },
      });
      expect(await failureOf(call)).toMatchObject({
        reason: "INVALID_ARGUMENT",
        violations: [{ field }],
      });
    });

    test("an id that its caller chose is taken once, by whichever user", async () => {
      const sessionId = `jti-${randomUUID()}`;
      const { session, token } = await client.createSession({ userId: newUser(), sessionId });
      expect(session?.id).toBe(sessionId);
      expect((await client.verifySession({ token })).session?.id).toBe(sessionId);
      expect(await failureOf(client.createSession({ userId: newUser(), sessionId }))).toMatchObject(
        { code: "ALREADY_EXISTS", reason: "SESSION_ALREADY_EXISTS", domain: "sessiond" },
      );
    });

    test("a session's token proves it, with and without counting as activity", async () => {
      const { session, token } = await client.createSession({ userId: newUser() });
      expect((await client.verifySession({ token })).session).toEqual(session);
      expect((await client.verifySession({ token, noTouch: true })).session).toEqual(session);
    });

    test("no token but the right one proves a session, and none of them says why", async () => {
      const { token } = await client.createSession({ userId: newUser() });
      const { token: revoked } = await client.createSession({ userId: newUser() });
      await client.revokeSession({ target: { case: "token", value: revoked } });
      const wrong = [token.slice(0, -1), `${token}A`, `x${token}`, "sst_", "nonsense", revoked];
      for (const candidate of wrong) {
        expect(await failureOf(client.verifySession({ token: candidate }))).toEqual(NOT_FOUND);
      }
    });

    test("a batch of tokens is verified in order, and a bad one fails for itself alone", async () => {
      const first = await client.createSession({ userId: newUser() });
      const second = await client.createSession({ userId: newUser() });
      const { results } = await client.batchVerifySessions({
        tokens: [second.token, "sst_nonsense", first.token, second.token],
      });
      expect(results.map(idOrReason)).toEqual([
        second.session?.id,
        "5 SESSION_NOT_FOUND",
        first.session?.id,
        second.session?.id,
      ]);
    });

    test("a session is read by its id, alone or with its user, but not with another", async () => {
      const userId = newUser();
      for (const sessionId of ["", `chosen-${randomUUID()}`]) {
        const { session } = await client.createSession({ userId, sessionId });
        const id = session?.id ?? "";
        expect((await client.getSession({ sessionId: id })).session).toEqual(session);
        expect((await client.getSession({ sessionId: id, userId })).session).toEqual(session);
        const ofOther = client.getSession({ sessionId: id, userId: newUser() });
        expect(await failureOf(ofOther)).toEqual(NOT_FOUND);
      }
      expect(await failureOf(client.getSession({ sessionId: randomUUID() }))).toEqual(NOT_FOUND);
    });

    test("a read mask leaves out everything that it does not name", async () => {
      const { session } = await client.createSession({
        userId: newUser(),
        displayName: "Ann",
        roles: ["admin"],
        client: { ip: "::1", device: "phone" },
      });
      const sessionId = session?.id ?? "";
      const readMask = { paths: ["roles", "client.ip"] };
      const { session: masked } = await client.getSession({ sessionId, readMask });
      expect(masked).toMatchObject({ id: "", userId: "", displayName: "", roles: ["admin"] });
      expect(masked?.client).toMatchObject({ ip: "::1", device: "" });
      expect(masked?.createTime).toBeUndefined();

      const { results } = await client.batchGetSessions({
        sessionIds: [sessionId, "missing"],
        readMask: { paths: ["id", "display_name"] },
      });
      expect(results[0]?.result.value).toMatchObject({
        id: sessionId,
        displayName: "Ann",
        etag: "",
      });
      expect(results.map(idOrReason)).toEqual([sessionId, "5 SESSION_NOT_FOUND"]);
    });

    test("a list goes through a user's sessions page by page, in either order", async () => {
      const userId = newUser();
      const ids: string[] = [];
      for (let i = 0; i < 5; i++) {
        ids.push((await client.createSession({ userId })).session?.id ?? "");
      }
      const oldestFirst = await listAll(client, { userId, orderBy: "create_time", pageSize: 2 });
      const newestFirst = await listAll(client, { userId, pageSize: 2 });
      expect(oldestFirst.map(({ id }) => id).sort()).toEqual(ids.sort());
      expect(newestFirst.map(({ id }) => id)).toEqual(oldestFirst.map(({ id }) => id).reverse());
      expect(await client.countSessions({ userId })).toMatchObject({ count: 5 });
    });

    test("a list over all users keeps to its filters", async () => {
      const role = `role-${randomUUID()}`;
      const first = await client.createSession({ userId: newUser(), roles: [role, "b"] });
      const second = await client.createSession({
        userId: newUser(),
        roles: [role],
        client: { ip: "203.0.113.9" },
      });
      const idsWith = async (filter: object) => {
        const sessions = await listAll(client, { filter: { role, ...filter } });
        return sessions.map(({ id }) => id).sort();
      };
      const ids = [first, second].map(({ session }) => session?.id ?? "").sort();
      expect(await idsWith({})).toEqual(ids);
      expect(await idsWith({ ip: "203.0.113.9" })).toEqual([second.session?.id]);
      expect(await idsWith({ createTimeTo: first.session?.createTime })).toEqual([]);
      expect(await idsWith({ createTimeFrom: first.session?.createTime })).toEqual(ids);
      expect(await idsWith({ lastAccessTimeTo: first.session?.createTime })).toEqual([]);
      const { count } = await client.countSessions({});
      expect(count).toBeGreaterThanOrEqual(2);
    });

    test("an update changes the fields that its mask names and no others", async () => {
      const { session } = await client.createSession({
        userId: newUser(),
        displayName: "Ann",
        roles: ["admin"],
        client: { ip: "203.0.113.7", device: "laptop" },
        data: { theme: "dark", cart: [1], locale: "de" },
      });
      const sessionId = session?.id ?? "";
      const { session: updated } = await client.updateSession({
        sessionId,
        session: {
          displayName: "ignored",
          roles: [],
          client: { ip: "::1" },
          data: { theme: "light" },
        },
        updateMask: { paths: ["roles", "client.ip", "data.theme", "data.cart"] },
      });
      expect(updated).toMatchObject({
        displayName: "Ann",
        roles: [],
        client: { ip: "::1", device: "laptop" },
        data: { theme: "light", locale: "de" },
      });
      expect(updated?.data).not.toHaveProperty("cart");
      expect(updated?.etag).not.toBe(session?.etag);
      expect(updated?.lastAccessTime).toEqual(session?.lastAccessTime);
      expect((await client.getSession({ sessionId })).session).toEqual(updated);
    });

    test("an update with an outdated etag is refused and changes nothing", async () => {
      const { session } = await client.createSession({ userId: newUser(), displayName: "Ann" });
      const sessionId = session?.id ?? "";
      const rename = (displayName: string) =>
        client.updateSession({
          sessionId,
          session: { displayName },
          updateMask: { paths: ["display_name"] },
          etag: session?.etag ?? "",
        });
      const { session: updated } = await rename("Bob");
      expect(await failureOf(rename("Cem"))).toMatchObject({
        code: "ABORTED",
        reason: "ETAG_MISMATCH",
        domain: "sessiond",
      });
      expect((await client.getSession({ sessionId })).session).toEqual(updated);
    });

    test("a refresh moves the idle deadline, for whoever has the id or the token", async () => {
      const { session, token } = await client.createSession({ userId: newUser() });
      const targets = [
        { case: "sessionId", value: session?.id ?? "" },
        { case: "token", value: token },
      ] as const;
      let beforeMs = ms(session?.expireTime);
      for (const target of targets) {
        const { session: refreshed } = await client.refreshSession({ target });
        expect(refreshed?.id).toBe(session?.id);
        expect(ms(refreshed?.expireTime)).toBeGreaterThanOrEqual(beforeMs);
        expect(ms(refreshed?.expireTime)).toBe(ms(refreshed?.lastAccessTime) + 30 * MINUTE_MS);
        expect(refreshed?.absoluteExpireTime).toEqual(session?.absoluteExpireTime);
        beforeMs = ms(refreshed?.expireTime);
      }
    });

    test("a rotated token is dead at once, and the new one lives", async () => {
      const { session, token } = await client.createSession({ userId: newUser() });
      const rotated = await client.rotateSessionToken({ token });
      expect(rotated.session?.id).toBe(session?.id);
      expect(rotated.token).not.toBe(token);
      expect(ms(rotated.session?.authenticateTime)).toBeGreaterThanOrEqual(ms(session?.createTime));
      expect(await failureOf(client.verifySession({ token }))).toEqual(NOT_FOUND);
      expect(await failureOf(client.rotateSessionToken({ token }))).toEqual(NOT_FOUND);
      const { session: verified } = await client.verifySession({ token: rotated.token });
      expect(verified?.id).toBe(session?.id);
    });

    test("a revoked session is gone for every call, and only listed when asked for", async () => {
      const userId = newUser();
      const { session, token } = await client.createSession({ userId });
      const sessionId = session?.id ?? "";
      const target = { case: "sessionId", value: sessionId } as const;
      const reason = "logout — häufig";
      expect(await client.revokeSession({ target, reason })).toMatchObject({ revoked: true });
      expect(await client.revokeSession({ target })).toMatchObject({ revoked: false });
      expect(await client.revokeSession({ target: { case: "token", value: token } })).toMatchObject(
        {
          revoked: false,
        },
      );
      const attempts = [
        () => client.verifySession({ token }),
        () => client.getSession({ sessionId }),
        () => client.refreshSession({ target }),
        () => client.rotateSessionToken({ token }),
        () => client.updateSession({ sessionId, updateMask: { paths: ["roles"] } }),
      ];
      for (const attempt of attempts) expect(await failureOf(attempt())).toEqual(NOT_FOUND);

      expect(await client.countSessions({ userId })).toMatchObject({ count: 0 });
      expect(await listAll(client, { userId })).toEqual([]);
      const [listed, ...others] = await listAll(client, { userId, showRevoked: true });
      expect(others).toEqual([]);
      expect(listed).toMatchObject({ state: SessionState.REVOKED, revokeReason: reason });
      expect(ms(listed?.revokeTime)).toBeGreaterThanOrEqual(ms(session?.createTime));
    });

    test("all of a user's sessions but one are revoked in one step", async () => {
      const userId = newUser();
      const spared = (await client.createSession({ userId })).session?.id ?? "";
      await client.createSession({ userId });
      await client.createSession({ userId });
      const call = { userId, exceptSessionId: spared };
      expect(await client.revokeUserSessions(call)).toMatchObject({ revokedCount: 2 });
      expect((await listAll(client, { userId })).map(({ id }) => id)).toEqual([spared]);
      expect(await client.revokeUserSessions({ userId })).toMatchObject({ revokedCount: 1 });
      expect(await client.revokeUserSessions({ userId })).toMatchObject({ revokedCount: 0 });
    });

    test("the eleventh session of a user evicts the oldest, and says so", async () => {
      const userId = newUser();
      const { session: oldest, token } = await client.createSession({ userId });
      await atLaterTime(oldest?.createTime);
      for (let i = 0; i < 9; i++) await client.createSession({ userId });
      const { evictedSessionIds } = await client.createSession({ userId });
      expect(evictedSessionIds).toEqual([oldest?.id]);
      expect(await client.countSessions({ userId })).toMatchObject({ count: 10 });
      expect(await failureOf(client.verifySession({ token }))).toEqual(NOT_FOUND);
      const revoked = await listAll(client, { userId, showRevoked: true, orderBy: "create_time" });
      expect(revoked[0]).toMatchObject({ id: oldest?.id, revokeReason: "session limit reached" });
    });
  });

  test("verifying counts as activity once a tenth of the idle timeout is over, unless told not to", async () => {
    const client = clientOver(GRPC, server);
    const idleTimeout = { seconds: 5n };
    const create = () => client.createSession({ userId: newUser(), idleTimeout });
    const quiet = await create();
    const single = await create();
    const batched = await create();
    await atLaterTime(batched.session?.createTime, 500);

    await client.verifySession({ token: quiet.token, noTouch: true });
    await client.batchVerifySessions({ tokens: [quiet.token], noTouch: true });
    await client.verifySession({ token: single.token });
    await client.batchVerifySessions({ tokens: [batched.token] });
    const after = async ({ session }: typeof quiet) => {
      const { session: read } = await client.getSession({ sessionId: session?.id ?? "" });
      return {
        accessMs: ms(read?.lastAccessTime) - ms(session?.lastAccessTime),
        expireMs: ms(read?.expireTime) - ms(session?.expireTime),
      };
    };
    expect(await after(quiet)).toEqual({ accessMs: 0, expireMs: 0 });
    for (const touched of [single, batched]) {
      const { accessMs, expireMs } = await after(touched);
      expect(accessMs).toBeGreaterThanOrEqual(500);
      expect(expireMs).toBe(accessMs);
    }
  });

  test("a session is the same over every protocol", async () => {
    const clients = PROTOCOLS.map((protocol) => clientOver(protocol, server));
    for (const creator of clients) {
      const { session, token } = await creator.createSession({
        userId: newUser(),
        roles: ["admin"],
        data: { "": 1, "a.b": [true, null], deep: { number: -0.5, text: "\u0000\u2028" } },
      });
      for (const reader of clients) {
        expect((await reader.verifySession({ token })).session).toEqual(session);
      }
    }
  });
});

test("under the policy reject, a session beyond the limit is refused over every protocol", async () => {
  const policy = { maxSessionsPerUser: 1, policy: "reject" } as const;
  await using server = await startTestServer({ policy });
  for (const protocol of PROTOCOLS) {
    const client = clientOver(protocol, server);
    const userId = newUser();
    const { token } = await client.createSession({ userId });
    expect(await failureOf(client.createSession({ userId }))).toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      reason: "SESSION_LIMIT_REACHED",
      domain: "sessiond",
    });
    expect((await client.verifySession({ token })).session?.userId).toBe(userId);
  }
});

function newUser(): string {
  return `user-${randomUUID()}`;
}

function ms(timestamp: Timestamp | undefined): number {
  return timestamp === undefined ? Number.NaN : timestampMs(timestamp);
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

/** The id of a result's session, or the code and reason of its error. */
function idOrReason({ result }: SessionResult): string | undefined {
  if (result.case === "session") return result.value.id;
  const [detail] = result.value?.details ?? [];
  return `${result.value?.code} ${detail && anyUnpack(detail, ErrorInfoSchema)?.reason}`;
}
