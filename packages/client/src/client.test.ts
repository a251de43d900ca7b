import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectError, createRouterTransport } from "@connectrpc/connect";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { SessionState } from "@sessiond/proto/sessiond/v1/session";
import {
  type CreateSessionRequest,
  type ListSessionsRequest,
  type RefreshSessionRequest,
  type RevokeSessionRequest,
  type RevokeUserSessionsRequest,
  SessionService,
  type UpdateSessionRequest,
  type VerifySessionRequest,
} from "@sessiond/proto/sessiond/v1/session_service";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createSessionClient } from "./client.js";
import { SessiondError, type SessiondErrorReason } from "./error.js";
import type { SessionClientOptions } from "./options.js";
import type { UpdateSessionOptions } from "./sessions/session-options.js";
import {
  answer,
  type Handlers,
  notFound,
  overloaded,
  type SessionServer,
  startSessionServer,
  storeUnavailable,
  wireSession,
} from "./testing/session-server.js";

const ACCESS_TOKEN = "header.access-token-payload.signature";
const SESSION_TOKEN = "sst_c2Vzc2lvbi10b2tlbg";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  for (const cleanup of cleanups.splice(0).reverse()) {
    await cleanup();
  }
});

type ExtraOptions = Partial<Pick<SessionClientOptions, "token" | "timeoutMs" | "maxAttempts">>;

describe.each(["grpc", "connect"] as const)("over %s", (protocol) => {
  async function serve(handlers: Handlers, port?: number): Promise<SessionServer> {
    const server = await startSessionServer(protocol, handlers, port);
    cleanups.push(() => server[Symbol.asyncDispose]());
    return server;
  }

  function connect(baseUrl: string, options: ExtraOptions = {}) {
    const client = createSessionClient({ baseUrl, protocol, token: ACCESS_TOKEN, ...options });
    cleanups.push(() => client.close());
    return client;
  }

  async function start(handlers: Handlers, options?: ExtraOptions) {
    const server = await serve(handlers);
    return { server, client: connect(server.baseUrl, options) };
  }

  describe("a call", () => {
    test("carries the access token", async () => {
      const { server, client } = await start({ countSessions: () => ({ count: 1 }) });
      await client.countSessions();
      expect(server.calls).toEqual([
        { method: "CountSessions", authorization: `Bearer ${ACCESS_TOKEN}` },
      ]);
    });

    test("is described in full when the server refuses it", async () => {
      const violations = [{ field: "user_id", description: "expected 1 to 256 bytes" }];
      const { client } = await start({
        createSession() {
          throw answer(Code.InvalidArgument, "INVALID_ARGUMENT", {
            message: "user_id: expected 1 to 256 bytes",
            metadata: { field: "user_id" },
            violations,
          });
        },
      });
      const error = await rejection(client.createSession({ userId: "" }));
      expect(error).toMatchObject({
        name: "SessiondError",
        reason: "INVALID_ARGUMENT",
        code: Code.InvalidArgument,
        message: "user_id: expected 1 to 256 bytes",
        metadata: { field: "user_id" },
        fieldViolations: violations,
      });
      expect(error.stack).toContain("client.test.ts");
    });
  });

  describe("createSession", () => {
    test("returns the session, its token and what was evicted for it", async () => {
      let received: CreateSessionRequest | undefined;
      const { client } = await start({
        createSession(request) {
          received = request;
          return { session: wireSession(), token: SESSION_TOKEN, evictedSessionIds: ["old-1"] };
        },
      });
      const created = await client.createSession({
        userId: "user-1",
        sessionId: "jti-1",
        roles: ["admin"],
        data: { theme: "dark", visits: [1, 2, { deep: null }] },
        idleTimeoutMs: 900_000,
      });
      expect(received).toMatchObject({
        userId: "user-1",
        sessionId: "jti-1",
        roles: ["admin"],
        data: { theme: "dark", visits: [1, 2, { deep: null }] },
        idleTimeout: { seconds: 900n },
      });
      expect(created.token).toBe(SESSION_TOKEN);
      expect(created.evictedSessionIds).toEqual(["old-1"]);
      expect(created.session).toMatchObject({
        id: "session-1",
        state: "active",
        createTime: new Date(1_700_000_000_000),
        idleTimeoutMs: 1_800_000,
      });
    });
  });

  describe("verifySession", () => {
    test("returns the session of a valid token, and counts as activity unless told not to", async () => {
      const received: VerifySessionRequest[] = [];
      const { client } = await start({
        verifySession(request) {
          received.push(request);
          return { session: wireSession() };
        },
      });
      const session = await client.verifySession(SESSION_TOKEN);
      expect(session?.userId).toBe("user-1");
      await client.verifySession(SESSION_TOKEN, { noTouch: true });
      expect(received).toMatchObject([
        { token: SESSION_TOKEN, noTouch: false },
        { token: SESSION_TOKEN, noTouch: true },
      ]);
    });

    test("returns nothing for a token that is not valid", async () => {
      const { server, client } = await start({
        verifySession() {
          throw notFound();
        },
      });
      expect(await client.verifySession(SESSION_TOKEN)).toBeUndefined();
      expect(server.calls).toHaveLength(1);
    });

    const failures: [SessiondErrorReason, ConnectError][] = [
      ["STORE_UNAVAILABLE", storeUnavailable()],
      ["UNAUTHENTICATED", answer(Code.Unauthenticated, "UNAUTHENTICATED")],
      ["PERMISSION_DENIED", answer(Code.PermissionDenied, "PERMISSION_DENIED")],
      ["SESSION_UNREADABLE", answer(Code.DataLoss, "SESSION_UNREADABLE")],
      ["UNKNOWN", answer(Code.NotFound, "TENANT_NOT_FOUND")],
    ];
    test.each(failures)("rejects when the server could not tell: %s", async (reason, error) => {
      const { client } = await start({
        verifySession() {
          throw error;
        },
      });
      expect((await rejection(client.verifySession(SESSION_TOKEN))).reason).toBe(reason);
    });

    test("rejects an answer without a session", async () => {
      const { client } = await start({ verifySession: () => ({}) });
      expect((await rejection(client.verifySession(SESSION_TOKEN))).reason).toBe("INTERNAL");
    });

    test("refuses what is no string before it is sent, without repeating it", async () => {
      const { server, client } = await start({});
      const token = { secret: SESSION_TOKEN } as unknown as string;
      const error = await rejection(client.verifySession(token));
      expect(error.reason).toBe("INVALID_ARGUMENT");
      expect(error.message).toBe("token: expected a string, not Object");
      expect(server.calls).toHaveLength(0);
    });
  });

  describe("getSession", () => {
    test("returns the session, or nothing", async () => {
      const { client } = await start({
        getSession({ sessionId, userId }) {
          if (sessionId !== "session-1") {
            throw notFound();
          }
          return { session: wireSession({ userId }) };
        },
      });
      expect(await client.getSession("session-1", { userId: "user-7" })).toMatchObject({
        id: "session-1",
        userId: "user-7",
      });
      expect(await client.getSession("session-2")).toBeUndefined();
    });

    test("reads only the fields asked for", async () => {
      let paths: string[] | undefined;
      const { client } = await start({
        getSession({ readMask }) {
          paths = readMask?.paths;
          return { session: { roles: ["admin"], expireTime: timestampFromMs(5) } };
        },
      });
      const session = await client.getSession("session-1", { fields: ["roles", "expireTime"] });
      expect(paths).toEqual(["roles", "expire_time"]);
      expect(session).toEqual({ roles: ["admin"], expireTime: new Date(5) });
    });
  });

  describe("a batch", () => {
    const error = {
      $typeName: StatusSchema.typeName,
      code: Code.NotFound,
      message: "session not found",
      details: [],
    };

    test("has a session or an error for each token, in order", async () => {
      const { client } = await start({
        batchVerifySessions: ({ tokens, noTouch }) => ({
          results: tokens.map((id) => ({
            result:
              id === "bad"
                ? { case: "error", value: error }
                : { case: "session", value: wireSession({ id, userId: `touch ${!noTouch}` }) },
          })),
        }),
      });
      const results = await client.batchVerifySessions(["a", "bad", "b"], { noTouch: true });
      expect(results.map(({ session, error }) => session?.id ?? error?.message)).toEqual([
        "a",
        "session not found",
        "b",
      ]);
      expect(results[0]?.session?.userId).toBe("touch false");
    });

    test("has a session or an error for each id, in order and with the fields asked for", async () => {
      const { client } = await start({
        batchGetSessions: ({ sessionIds, readMask }) => ({
          results: sessionIds.map((id) => ({
            result: { case: "session", value: { id, userId: String(readMask?.paths) } },
          })),
        }),
      });
      const results = await client.batchGetSessions(["a", "b"], { fields: ["id", "userId"] });
      expect(results).toEqual([
        { session: { id: "a", userId: "id,user_id" } },
        { session: { id: "b", userId: "id,user_id" } },
      ]);
    });

    test("of nothing needs no call", async () => {
      const { server, client } = await start({});
      expect(await client.batchVerifySessions([])).toEqual([]);
      expect(await client.batchGetSessions([])).toEqual([]);
      expect(server.calls).toHaveLength(0);
    });

    test("that does not match the tokens vouches for none of them", async () => {
      const { client } = await start({ batchVerifySessions: () => ({ results: [] }) });
      const failure = await rejection(client.batchVerifySessions([SESSION_TOKEN]));
      expect(failure.reason).toBe("INTERNAL");
    });
  });

  describe("a list", () => {
    /** Seven sessions; the page token is the number of the first session of the page. */
    function pages(received: ListSessionsRequest[] = []): Handlers {
      return {
        listSessions(request) {
          received.push(request);
          const first = Number(request.pageToken);
          const end = Math.min(7, first + request.pageSize);
          const sessions = [];
          for (let i = first; i < end; i++) {
            sessions.push(wireSession({ id: String(i), state: SessionState.EXPIRED }));
          }
          return { sessions, nextPageToken: end === 7 ? "" : String(end) };
        },
      };
    }

    test("is read page by page", async () => {
      const { client } = await start(pages());
      const first = await client.listSessions({ pageSize: 4 });
      expect(first.sessions.map(({ id }) => id)).toEqual(["0", "1", "2", "3"]);
      expect(first.sessions[0]?.state).toBe("expired");
      expect(first.nextPageToken).toBe("4");
      const second = await client.listSessions({ pageSize: 4, pageToken: first.nextPageToken });
      expect(second.sessions.map(({ id }) => id)).toEqual(["4", "5", "6"]);
      expect(second.nextPageToken).toBeUndefined();
    });

    test("is walked to its end with the same query on each page", async () => {
      const received: ListSessionsRequest[] = [];
      const { client } = await start(pages(received));
      const ids: string[] = [];
      const query = { pageSize: 3, userId: "user-1", filter: { role: "admin" } };
      for await (const session of client.listAllSessions(query)) {
        ids.push(session.id);
      }
      expect(ids).toEqual(["0", "1", "2", "3", "4", "5", "6"]);
      expect(received.map(({ pageToken }) => pageToken)).toEqual(["", "3", "6"]);
      for (const request of received) {
        expect(request).toMatchObject({ userId: "user-1", filter: { role: "admin" } });
      }
    });

    test("is read no further than it is consumed", async () => {
      const { server, client } = await start(pages());
      for await (const session of client.listAllSessions({ pageSize: 3 })) {
        if (session.id === "2") {
          break;
        }
      }
      expect(server.calls).toHaveLength(1);
    });

    test("goes on after an empty page", async () => {
      const { client } = await start({
        listSessions: ({ pageToken }) =>
          pageToken === ""
            ? { sessions: [], nextPageToken: "next" }
            : { sessions: [wireSession()], nextPageToken: "" },
      });
      expect(await all(client.listAllSessions())).toHaveLength(1);
    });

    test("tells of sessions that cannot be read, and goes on", async () => {
      const { client } = await start({
        listSessions: ({ pageToken }) =>
          pageToken === ""
            ? { unreadableSessionIds: ["sealed-1", "sealed-2"], nextPageToken: "next" }
            : { sessions: [wireSession()] },
      });
      const page = await client.listSessions();
      expect(page).toMatchObject({ sessions: [], unreadableSessionIds: ["sealed-1", "sealed-2"] });
      const unreadable: string[] = [];
      const onUnreadable = (ids: readonly string[]) => unreadable.push(...ids);
      expect(await all(client.listAllSessions({}, { onUnreadable }))).toHaveLength(1);
      expect(await all(client.listAllSessions())).toHaveLength(1);
      expect(unreadable).toEqual(["sealed-1", "sealed-2"]);
    });

    test("does not go round in circles", async () => {
      const { server, client } = await start({
        listSessions: () => ({ sessions: [], nextPageToken: "again" }),
      });
      const error = await rejection(all(client.listAllSessions()));
      expect(error.reason).toBe("INTERNAL");
      expect(server.calls).toHaveLength(2);
    });
  });

  test("countSessions returns the number", async () => {
    const { client } = await start({
      countSessions: ({ userId }) => ({ count: userId === "user-1" ? 3 : 1000 }),
    });
    expect(await client.countSessions({ userId: "user-1" })).toBe(3);
    expect(await client.countSessions()).toBe(1000);
  });

  describe("updateSession", () => {
    test("sends what changes, and returns the session as it is then", async () => {
      let received: UpdateSessionRequest | undefined;
      const { client } = await start({
        updateSession(request) {
          received = request;
          return { session: wireSession({ etag: "etag-2" }) };
        },
      });
      const session = await client.updateSession(
        "session-1",
        { displayName: "Ada", setData: { fooBar: 1, "a.b": null }, deleteData: ["old"] },
        { etag: "etag-1", userId: "user-1" },
      );
      expect(received).toMatchObject({
        sessionId: "session-1",
        userId: "user-1",
        etag: "etag-1",
        session: { displayName: "Ada", data: { fooBar: 1, "a.b": null } },
        updateMask: { paths: ["display_name", "data.fooBar", "data.a.b", "data.old"] },
      });
      expect(session.etag).toBe("etag-2");
    });

    test("rejects if the session is not there or has changed", async () => {
      const { client } = await start({
        updateSession({ etag }) {
          throw etag === "" ? notFound() : answer(Code.Aborted, "ETAG_MISMATCH");
        },
      });
      const update = { displayName: "Ada" };
      const missing = await rejection(client.updateSession("s", update));
      expect(missing.reason).toBe("SESSION_NOT_FOUND");
      const changed = await rejection(client.updateSession("s", update, { etag: "e" }));
      expect(changed.reason).toBe("ETAG_MISMATCH");
    });

    test("sends a fence, and rejects where a later holder has written", async () => {
      const fences: UpdateSessionRequest["fence"][] = [];
      const { client } = await start({
        updateSession({ fence }) {
          fences.push(fence);
          throw answer(Code.FailedPrecondition, "LOCK_NOT_HELD");
        },
      });
      const fence = { lock: "names", token: 1_700_000_000_000 };
      const call = client.updateSession("s", { displayName: "Ada" }, { fence });
      expect(await rejection(call)).toMatchObject({ reason: "LOCK_NOT_HELD" });
      expect(fences).toMatchObject([{ lock: "names", token: 1_700_000_000_000n }]);
    });

    test.each([
      [undefined, "fence.lock"],
      [{ lock: "", token: 1 }, "fence.lock"],
      [{ lock: "names", token: undefined }, "fence.token"],
      [{ lock: "names", token: 0.5 }, "fence.token"],
    ])("refuses a fence that is there but would keep out nobody: %j", async (fence, field) => {
      const { server, client } = await start({});
      const options = { fence } as unknown as UpdateSessionOptions;
      const error = await rejection(client.updateSession("s", { displayName: "Ada" }, options));
      expect(error).toMatchObject({ reason: "INVALID_ARGUMENT", fieldViolations: [{ field }] });
      expect(server.calls).toEqual([]);
    });
  });

  test("refreshSession goes by id or by token, and rejects if the session is not there", async () => {
    const received: RefreshSessionRequest["target"][] = [];
    const { client } = await start({
      refreshSession({ target }) {
        received.push(target);
        if (target.value === "gone") {
          throw notFound();
        }
        return { session: wireSession() };
      },
    });
    expect((await client.refreshSession({ sessionId: "session-1" })).id).toBe("session-1");
    expect((await client.refreshSession({ token: SESSION_TOKEN })).id).toBe("session-1");
    const error = await rejection(client.refreshSession({ sessionId: "gone" }));
    expect(error.reason).toBe("SESSION_NOT_FOUND");
    expect(received).toEqual([
      { case: "sessionId", value: "session-1" },
      { case: "token", value: SESSION_TOKEN },
      { case: "sessionId", value: "gone" },
    ]);
  });

  test("rotateSessionToken returns the new token", async () => {
    const { client } = await start({
      rotateSessionToken: ({ token }) => ({ session: wireSession(), token: `${token}-2` }),
    });
    const rotated = await client.rotateSessionToken(SESSION_TOKEN);
    expect(rotated.token).toBe(`${SESSION_TOKEN}-2`);
    expect(rotated.session.id).toBe("session-1");
  });

  test("revokeSession tells whether it ended the session", async () => {
    const received: RevokeSessionRequest[] = [];
    const { client } = await start({
      revokeSession(request) {
        received.push(request);
        return { revoked: received.length === 1 };
      },
    });
    expect(await client.revokeSession({ sessionId: "s" }, { reason: "logout" })).toBe(true);
    expect(await client.revokeSession({ token: SESSION_TOKEN })).toBe(false);
    expect(received).toMatchObject([
      { target: { case: "sessionId", value: "s" }, reason: "logout" },
      { target: { case: "token", value: SESSION_TOKEN }, reason: "" },
    ]);
  });

  test("revokeUserSessions tells how many sessions it ended, and can spare one", async () => {
    let received: RevokeUserSessionsRequest | undefined;
    const { server, client } = await start({
      revokeUserSessions(request) {
        received = request;
        return { revokedCount: 4 };
      },
    });
    const options = { exceptSessionId: "this-one", reason: "password changed" };
    expect(await client.revokeUserSessions("user-1", options)).toBe(4);
    expect(received).toMatchObject({ userId: "user-1", ...options });
    const spareNone = { exceptSessionId: "" };
    const error = await rejection(client.revokeUserSessions("user-1", spareNone));
    expect(error.reason).toBe("INVALID_ARGUMENT");
    expect(server.calls).toHaveLength(1);
  });

  describe("a timeout", () => {
    const hang: Handlers = {
      async getSession(_, { signal }) {
        await sleep(10_000, undefined, { signal }).catch(() => {});
        return { session: wireSession() };
      },
    };

    test("ends a call, of the client or of the call itself", async () => {
      const { server, client } = await start(hang, { timeoutMs: 80 });
      const ofClient = await timed(rejection(client.getSession("s")));
      expect(ofClient.value.reason).toBe("DEADLINE_EXCEEDED");
      expect(ofClient.elapsedMs).toBeGreaterThanOrEqual(75);
      expect(ofClient.elapsedMs).toBeLessThan(1000);
      const ofCall = await timed(rejection(client.getSession("s", { timeoutMs: 300 })));
      expect(ofCall.value.reason).toBe("DEADLINE_EXCEEDED");
      expect(ofCall.elapsedMs).toBeGreaterThanOrEqual(290);
      expect(server.calls).toHaveLength(2);
    });

    test("is told to the server", async () => {
      let timeoutMs: number | undefined;
      const { client } = await start({
        countSessions(_, context) {
          timeoutMs = context.timeoutMs();
          return { count: 0 };
        },
      });
      await client.countSessions({}, { timeoutMs: 1234.5 });
      expect(timeoutMs).toBeGreaterThan(1000);
      expect(timeoutMs).toBeLessThanOrEqual(1234);
    });

    test("covers all attempts together", async () => {
      const { client } = await start(
        {
          async getSession() {
            await sleep(60);
            throw storeUnavailable();
          },
        },
        { maxAttempts: 10 },
      );
      const failed = await timed(rejection(client.getSession("s", { timeoutMs: 200 })));
      expect(["STORE_UNAVAILABLE", "DEADLINE_EXCEEDED"]).toContain(failed.value.reason);
      expect(failed.elapsedMs).toBeLessThan(400);
    });

    test.each([0, -5, Number.NaN])("of %d ms is refused", async (timeoutMs) => {
      const { client } = await start({});
      const error = await rejection(client.getSession("s", { timeoutMs }));
      expect(error.fieldViolations[0]?.field).toBe("timeoutMs");
    });
  });

  describe("a signal", () => {
    const hang: Handlers = {
      getSession: () => new Promise(() => {}),
      createSession: () => new Promise(() => {}),
    };

    test.each(["a read", "a creation"])("cancels %s under way", async (kind) => {
      const { server, client } = await start(hang);
      const controller = new AbortController();
      const options = { signal: controller.signal };
      const call = rejection(
        kind === "a read"
          ? client.getSession("s", options)
          : client.createSession({ userId: "u" }, options),
      );
      await vi.waitFor(() => expect(server.calls).toHaveLength(1));
      const cause = new Error("the user went away");
      controller.abort(cause);
      const error = await call;
      expect(error.reason).toBe("CANCELED");
      expect(error.code).toBe(Code.Canceled);
      expect(error.cause).toBe(cause);
    });

    test("cancels the wait for another attempt", async () => {
      const { server, client } = await start({
        getSession() {
          throw overloaded(3000);
        },
      });
      const signal = AbortSignal.timeout(100);
      const canceled = await timed(rejection(client.getSession("s", { signal })));
      expect(canceled.value.reason).toBe("CANCELED");
      expect(canceled.elapsedMs).toBeLessThan(1000);
      expect(server.calls).toHaveLength(1);
    });

    test("that is aborted already keeps a call from being made", async () => {
      const token = vi.fn(() => ACCESS_TOKEN);
      const { server, client } = await start({}, { token });
      const error = await rejection(client.getSession("s", { signal: AbortSignal.abort() }));
      expect(error.reason).toBe("CANCELED");
      expect(token).not.toHaveBeenCalled();
      expect(server.calls).toHaveLength(0);
    });
  });

  describe("another attempt", () => {
    let requestIds: string[] = [];
    const failing = (times: number, error: () => ConnectError): Handlers => {
      let calls = 0;
      requestIds = [];
      const fail = () => {
        calls++;
        if (calls <= times) {
          throw error();
        }
      };
      return {
        getSession() {
          fail();
          return { session: wireSession() };
        },
        createSession({ requestId }) {
          requestIds.push(requestId);
          fail();
          return { session: wireSession(), token: SESSION_TOKEN };
        },
        updateSession() {
          fail();
          return { session: wireSession() };
        },
        revokeSession() {
          fail();
          return { revoked: true };
        },
      };
    };

    test("is made of a read, and of a revocation, while the store is unavailable", async () => {
      const read = await start(failing(2, storeUnavailable));
      expect(await read.client.getSession("s")).toBeDefined();
      expect(read.server.calls).toHaveLength(3);
      const revocation = await start(failing(1, storeUnavailable));
      expect(await revocation.client.revokeSession({ sessionId: "s" })).toBe(true);
      expect(revocation.server.calls).toHaveLength(2);
    });

    test("is made so often and no more", async () => {
      const { server, client } = await start(failing(100, storeUnavailable));
      expect((await rejection(client.getSession("s"))).reason).toBe("STORE_UNAVAILABLE");
      expect(server.calls).toHaveLength(3);
      const once = connect(server.baseUrl, { maxAttempts: 1 });
      await rejection(once.getSession("s"));
      expect(server.calls).toHaveLength(4);
    });

    test("is made of a creation that may have happened, under the same request id", async () => {
      const { client } = await start(failing(2, storeUnavailable));
      expect((await client.createSession({ userId: "u" })).token).toBe(SESSION_TOKEN);
      expect(requestIds).toHaveLength(3);
      expect(new Set(requestIds).size).toBe(1);
      await client.createSession({ userId: "u" });
      expect(requestIds[3]).not.toBe(requestIds[0]);
      await client.createSession({ userId: "u", requestId: "job-7" });
      expect(requestIds[4]).toBe("job-7");
    });

    test("is not made of an update that may have happened", async () => {
      const { server, client } = await start(failing(1, storeUnavailable));
      const error = await rejection(client.updateSession("s", { displayName: "Ada" }));
      expect(error.reason).toBe("STORE_UNAVAILABLE");
      expect(server.calls).toHaveLength(1);
    });

    test("is made of anything that an overloaded server turned away", async () => {
      const { server, client } = await start(failing(2, overloaded));
      expect((await client.createSession({ userId: "u" })).token).toBe(SESSION_TOKEN);
      expect(server.calls).toHaveLength(3);
    });

    test("waits as long as the server asks", async () => {
      const { server, client } = await start(failing(1, () => overloaded(400)));
      const created = await timed(client.createSession({ userId: "u" }));
      expect(created.elapsedMs).toBeGreaterThanOrEqual(395);
      expect(server.calls).toHaveLength(2);
    });

    test("is not waited for if the server asks for more time than is left", async () => {
      const { server, client } = await start(failing(1, () => overloaded(60_000)));
      const failed = await timed(rejection(client.getSession("s")));
      expect(failed.value).toMatchObject({ reason: "OVERLOADED", retryAfterMs: 60_000 });
      expect(failed.elapsedMs).toBeLessThan(1000);
      expect(server.calls).toHaveLength(1);
    });
  });

  describe("a connection that breaks before the answer", () => {
    async function breaking(times: number) {
      const handle = () => {
        if (server.calls.length <= times) {
          server.breakConnections();
          return new Promise<never>(() => {});
        }
        return { session: wireSession(), token: SESSION_TOKEN };
      };
      const handlers = { getSession: handle, createSession: handle, updateSession: handle };
      const server: SessionServer = await serve(handlers);
      return { server, client: connect(server.baseUrl) };
    }

    test("is made anew for a read, and for a creation", async () => {
      const read = await breaking(1);
      expect(await read.client.getSession("s")).toBeDefined();
      expect(read.server.calls).toHaveLength(2);
      const creation = await breaking(1);
      expect((await creation.client.createSession({ userId: "u" })).token).toBe(SESSION_TOKEN);
      expect(creation.server.calls).toHaveLength(2);
    });

    test("fails an update, which may have happened", async () => {
      const { server, client } = await breaking(1);
      const error = await rejection(client.updateSession("s", { displayName: "Ada" }));
      expect(error.reason).toBe("UNAVAILABLE");
      expect(error.code).toBe(Code.Unavailable);
      expect(server.calls).toHaveLength(1);
      expect((await client.updateSession("s", { displayName: "Ada" })).id).toBe("session-1");
    });
  });

  describe("a server that is not there", () => {
    test("is UNAVAILABLE, and the message says where", async () => {
      const server = await startSessionServer(protocol, {});
      await server[Symbol.asyncDispose]();
      const error = await rejection(connect(server.baseUrl).getSession("s"));
      expect(error.reason).toBe("UNAVAILABLE");
      expect(error.message).toMatch(/^connect ECONNREFUSED 127\.0\.0\.1:\d+$/);
    });

    test("is tried again even for a creation, since nothing was sent", async () => {
      vi.spyOn(Math, "random").mockReturnValue(0.99);
      const before = await startSessionServer(protocol, {});
      await before[Symbol.asyncDispose]();
      const client = connect(before.baseUrl, { maxAttempts: 10 });
      const creation = client.createSession({ userId: "u" });
      await sleep(150);
      const server = await serve(
        { createSession: () => ({ session: wireSession(), token: SESSION_TOKEN }) },
        Number(new URL(before.baseUrl).port),
      );
      expect((await creation).token).toBe(SESSION_TOKEN);
      expect(server.calls).toHaveLength(1);
    });
  });

  describe("a token function", () => {
    const count: Handlers = { countSessions: () => ({ count: 1 }) };

    test("is asked once per call, so that tokens can change", async () => {
      let issued = 0;
      const token = async () => `token-${++issued}`;
      let attempts = 0;
      const { server, client } = await start(
        {
          countSessions() {
            attempts++;
            if (attempts === 1) {
              throw overloaded();
            }
            return { count: 1 };
          },
        },
        { token },
      );
      await client.countSessions();
      await client.countSessions();
      expect(server.calls.map(({ authorization }) => authorization)).toEqual([
        "Bearer token-1",
        "Bearer token-1",
        "Bearer token-2",
      ]);
    });

    test("may answer at once", async () => {
      const { client } = await start(count, { token: () => "token" });
      expect(await client.countSessions()).toBe(1);
    });

    test("that fails leaves the call unsent and its error as the cause", async () => {
      // Even an error that another client of this package threw.
      const cause = new SessiondError("SESSION_NOT_FOUND", "no credentials");
      const { server, client } = await start(count, {
        token() {
          throw cause;
        },
      });
      const error = await rejection(client.verifySession(SESSION_TOKEN));
      expect(error.reason).toBe("UNAUTHENTICATED");
      expect(error.cause).toBe(cause);
      expect(server.calls).toHaveLength(0);
    });

    test("that hangs is waited for no longer than the call may take", async () => {
      const token = () => new Promise<string>(() => {});
      const { server, client } = await start(count, { token });
      const failed = await timed(rejection(client.countSessions({}, { timeoutMs: 60 })));
      expect(failed.value.reason).toBe("DEADLINE_EXCEEDED");
      expect(failed.elapsedMs).toBeLessThan(1000);
      const signal = AbortSignal.timeout(60);
      expect((await rejection(client.countSessions({}, { signal }))).reason).toBe("CANCELED");
      expect(server.calls).toHaveLength(0);
    });

    test.each(["", "two words", "line\nbreak", "Bearer x", 5, undefined])(
      "that returns %j leaves the call unsent",
      async (token) => {
        const { server, client } = await start(count, { token: () => token as string });
        const error = await rejection(client.countSessions());
        expect(error.reason).toBe("UNAUTHENTICATED");
        expect(error.message).toMatch(/^token \(what the function returned\): expected/);
        expect(server.calls).toHaveLength(0);
      },
    );
  });

  describe("closing", () => {
    test("ends calls under way and refuses others", async () => {
      const { server, client } = await start({
        getSession: () => new Promise(() => {}),
        createSession: () => new Promise(() => {}),
      });
      const read = rejection(client.getSession("s"));
      const creation = rejection(client.createSession({ userId: "u" }));
      await vi.waitFor(() => expect(server.calls).toHaveLength(2));
      client.close();
      const closed = { reason: "CANCELED", message: "the client is closed" };
      expect(await read).toMatchObject(closed);
      expect(await creation).toMatchObject(closed);
      expect((await rejection(client.getSession("s"))).reason).toBe("CANCELED");
      client.close();
    });

    test("happens at the end of a `using` block", async () => {
      const server = await serve({ countSessions: () => ({ count: 1 }) });
      let outside: { countSessions(): Promise<number> };
      {
        using client = createSessionClient({
          baseUrl: server.baseUrl,
          protocol,
          token: ACCESS_TOKEN,
        });
        expect(await client.countSessions()).toBe(1);
        outside = client;
      }
      expect((await rejection(outside.countSessions())).reason).toBe("CANCELED");
    });
  });

  test("no token appears in what a client or an error shows of itself", async () => {
    const { server, client } = await start(
      {
        verifySession(_, { requestHeader }) {
          // A server that answers with an error keeps tokens out of it; the SDK adds none.
          throw requestHeader.has("authorization") ? storeUnavailable() : notFound();
        },
        rotateSessionToken: () => {
          throw answer(Code.Internal, "INTERNAL");
        },
        refreshSession: () => new Promise(() => {}),
        createSession: () => {
          server.breakConnections();
          return new Promise(() => {});
        },
      },
      { maxAttempts: 1 },
    );
    const shown: unknown[] = [client];
    shown.push(await rejection(client.verifySession(SESSION_TOKEN)));
    shown.push(await rejection(client.verifySession(`${SESSION_TOKEN}\ud800`)));
    shown.push(
      await rejection(client.batchVerifySessions([SESSION_TOKEN, `${SESSION_TOKEN}\ud800`])),
    );
    shown.push(await rejection(client.rotateSessionToken(SESSION_TOKEN)));
    shown.push(await rejection(client.refreshSession({ token: SESSION_TOKEN }, { timeoutMs: 30 })));
    shown.push(await rejection(client.createSession({ userId: "u" })));
    client.close();
    shown.push(client, await rejection(client.verifySession(SESSION_TOKEN)));
    const broken = connect(server.baseUrl, { token: () => `${ACCESS_TOKEN}\n` });
    shown.push(broken, await rejection(broken.verifySession(SESSION_TOKEN)));
    for (const each of shown) {
      const text = inspect(each, { depth: Number.POSITIVE_INFINITY, showHidden: true });
      expect(text).not.toContain("access-token-payload");
      expect(text).not.toContain(SESSION_TOKEN);
    }
  });
});

test("a transport of the caller's own carries the calls and is left open", async () => {
  const transport = createRouterTransport(({ service }) => {
    service(SessionService, { countSessions: () => ({ count: 2 }) });
  });
  const first = createSessionClient({ transport, token: ACCESS_TOKEN });
  expect(await first.countSessions()).toBe(2);
  first.close();
  expect((await rejection(first.countSessions())).reason).toBe("CANCELED");
  const second = createSessionClient({ transport, token: ACCESS_TOKEN });
  expect(await second.countSessions()).toBe(2);
});

test("the types ask for what must not be forgotten", async () => {
  const transport = createRouterTransport(({ service }) => {
    service(SessionService, {
      verifySession: () => ({ session: wireSession() }),
      getSession: () => ({ session: { roles: ["admin"] } }),
    });
  });
  const client = createSessionClient({ transport, token: ACCESS_TOKEN });
  const verified = await client.verifySession(SESSION_TOKEN);
  // @ts-expect-error a session may not be there
  expect(verified.userId).toBe("user-1");
  const partial = await client.getSession("s", { fields: ["roles"] });
  expect(partial?.roles).toEqual(["admin"]);
  // @ts-expect-error a field that was not asked for
  expect(partial?.userId).toBeUndefined();
  // @ts-expect-error neither id nor token
  await rejection(client.refreshSession({}));
  // @ts-expect-error both id and token
  await rejection(client.revokeSession({ sessionId: "s", token: "t" }));
  // @ts-expect-error neither address nor transport
  expect(() => createSessionClient({ token: ACCESS_TOKEN })).toThrow("baseUrl");
});

/** The error that a call rejects with, which is always a SessiondError. */
async function rejection(call: Promise<unknown>): Promise<SessiondError> {
  const outcome = await call.then(
    () => new Error("the call was expected to reject"),
    (error: unknown) => error,
  );
  if (!(outcome instanceof SessiondError)) {
    throw outcome;
  }
  return outcome;
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) {
    collected.push(item);
  }
  return collected;
}

async function timed<T>(work: Promise<T>): Promise<{ value: T; elapsedMs: number }> {
  const start = performance.now();
  const value = await work;
  return { value, elapsedMs: performance.now() - start };
}
