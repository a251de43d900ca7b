import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, createRouterTransport } from "@connectrpc/connect";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { SessionState } from "@sessiond/proto/sessiond/v1/session";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { describe, expect, onTestFinished, test } from "vitest";
import { createSessionClient } from "./client.js";
import type { UpdateSessionOptions } from "./sessions/session-options.js";
import {
  answer,
  collect,
  type Handlers,
  notFound,
  protoSession,
  rejection,
  startClient,
  storeUnavailable,
  throwing,
} from "./testing/session-server.js";

const SESSION_TOKEN = "sst_c2Vzc2lvbi10b2tlbg";
const notice = { field: "display_name", description: "cut to 256 bytes" };

test("createSession returns the session, its token, the evicted sessions and the notices", async () => {
  const answered = { token: SESSION_TOKEN, evictedSessionIds: ["old-1"], notices: [notice] };
  const { server, client } = await startClient({
    createSession: () => ({ session: protoSession(), ...answered }),
  });
  const created = await client.createSession({ userId: "user-1", idleTimeoutMs: 900_000 });
  expect(server.requests("createSession")).toMatchObject([
    { userId: "user-1", idleTimeout: { seconds: 900n } },
  ]);
  expect(created).toEqual({ session: created.session, ...answered });
  expect(created.session).toMatchObject({
    id: "session-1",
    state: "active",
    createTime: new Date(1_700_000_000_000),
    idleTimeoutMs: 1_800_000,
  });
});

describe("verifySession", () => {
  test("returns the session of a valid token, and counts as activity unless told not to", async () => {
    const { server, client } = await startClient({
      verifySession: () => ({ session: protoSession() }),
    });
    expect((await client.verifySession(SESSION_TOKEN))?.userId).toBe("user-1");
    await client.verifySession(SESSION_TOKEN, { noTouch: true });
    expect(server.requests("verifySession")).toMatchObject([
      { token: SESSION_TOKEN, noTouch: false },
      { token: SESSION_TOKEN, noTouch: true },
    ]);
  });

  test("returns undefined for an invalid token", async () => {
    const { server, client } = await startClient({ verifySession: throwing(notFound) });
    expect(await client.verifySession(SESSION_TOKEN)).toBeUndefined();
    expect(server.calls).toHaveLength(1);
  });

  test.each([
    ["STORE_UNAVAILABLE", storeUnavailable],
    ["UNAUTHENTICATED", () => answer(Code.Unauthenticated, "UNAUTHENTICATED")],
    ["PERMISSION_DENIED", () => answer(Code.PermissionDenied, "PERMISSION_DENIED")],
    ["SESSION_UNREADABLE", () => answer(Code.DataLoss, "SESSION_UNREADABLE")],
    ["UNKNOWN", () => answer(Code.NotFound, "TENANT_NOT_FOUND")],
  ])("rejects when the server could not tell: %s", async (reason, error) => {
    const { client } = await startClient({ verifySession: throwing(error) });
    expect(await rejection(client.verifySession(SESSION_TOKEN))).toMatchObject({ reason });
  });
});

describe("getSession", () => {
  test("returns the session, or undefined", async () => {
    const { client } = await startClient({
      getSession({ sessionId, userId }) {
        if (sessionId !== "session-1") throw notFound();
        return { session: protoSession({ userId }) };
      },
    });
    const session = await client.getSession("session-1", { userId: "user-7" });
    expect(session).toMatchObject({ id: "session-1", userId: "user-7" });
    expect(await client.getSession("session-2")).toBeUndefined();
  });

  test("reads only the requested fields", async () => {
    const { server, client } = await startClient({
      getSession: () => ({ session: { roles: ["admin"], expireTime: timestampFromMs(5) } }),
    });
    const session = await client.getSession("session-1", { fields: ["roles", "expireTime"] });
    expect(server.requests("getSession")[0]?.readMask?.paths).toEqual(["roles", "expire_time"]);
    expect(session).toEqual({ roles: ["admin"], expireTime: new Date(5) });
  });
});

describe("a batch", () => {
  test("has a session or an error for each token, in order", async () => {
    const value = create(StatusSchema, { code: Code.NotFound, message: "none" });
    const { server, client } = await startClient({
      batchVerifySessions: ({ tokens }) => ({
        results: tokens.map((id) => ({
          result:
            id === "bad"
              ? { case: "error", value }
              : { case: "session", value: protoSession({ id }) },
        })),
      }),
    });
    const results = await client.batchVerifySessions(["a", "bad", "b"], { noTouch: true });
    const shown = results.map(({ session, error }) => session?.id ?? error?.message);
    expect(shown).toEqual(["a", "none", "b"]);
    expect(server.requests("batchVerifySessions")).toMatchObject([{ noTouch: true }]);
  });

  test("has a session for each id, in order and with the requested fields", async () => {
    const { client } = await startClient({
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
    const { server, client } = await startClient({});
    expect(await client.batchVerifySessions([])).toEqual([]);
    expect(await client.batchGetSessions([])).toEqual([]);
    expect(server.calls).toHaveLength(0);
  });
});

describe("a list", () => {
  /** Seven sessions. The page token is the number of the first session of the page. */
  const pages: Handlers = {
    listSessions({ pageToken, pageSize }) {
      const first = Number(pageToken);
      const end = Math.min(7, first + pageSize);
      const sessions = Array.from({ length: end - first }, (_, i) =>
        protoSession({ id: String(first + i), state: SessionState.EXPIRED }),
      );
      return { sessions, nextPageToken: end === 7 ? "" : String(end) };
    },
  };

  test("is read page by page", async () => {
    const { client } = await startClient(pages);
    const first = await client.listSessions({ pageSize: 4 });
    expect(first.sessions.map(({ id }) => id)).toEqual(["0", "1", "2", "3"]);
    expect(first.sessions[0]?.state).toBe("expired");
    expect(first.nextPageToken).toBe("4");
    const second = await client.listSessions({ pageSize: 4, pageToken: first.nextPageToken });
    expect(second.sessions.map(({ id }) => id)).toEqual(["4", "5", "6"]);
    expect(second.nextPageToken).toBeUndefined();
  });

  test("is read to its end with the same query on each page", async () => {
    const { server, client } = await startClient(pages);
    const query = { pageSize: 3, userId: "user-1", filter: { role: "admin" } };
    const sessions = await collect(client.listAllSessions(query));
    expect(sessions.map(({ id }) => id)).toEqual(["0", "1", "2", "3", "4", "5", "6"]);
    const same = { userId: "user-1", filter: { role: "admin" } };
    expect(server.requests("listSessions")).toMatchObject([
      { pageToken: "", ...same },
      { pageToken: "3", ...same },
      { pageToken: "6", ...same },
    ]);
  });

  test("is read only as far as the loop goes", async () => {
    const { server, client } = await startClient(pages);
    for await (const session of client.listAllSessions({ pageSize: 3 })) {
      if (session.id === "2") break;
    }
    expect(server.calls).toHaveLength(1);
  });

  test("continues after an empty page, and reports sessions that cannot be read", async () => {
    const { client } = await startClient({
      listSessions: ({ pageToken }) =>
        pageToken === ""
          ? { unreadableSessionIds: ["sealed-1", "sealed-2"], nextPageToken: "next" }
          : { sessions: [protoSession()] },
    });
    const page = await client.listSessions();
    expect(page).toMatchObject({ sessions: [], unreadableSessionIds: ["sealed-1", "sealed-2"] });
    const unreadable: string[] = [];
    const onUnreadable = (ids: readonly string[]) => unreadable.push(...ids);
    expect(await collect(client.listAllSessions({}, { onUnreadable }))).toHaveLength(1);
    expect(await collect(client.listAllSessions())).toHaveLength(1);
    expect(unreadable).toEqual(["sealed-1", "sealed-2"]);
  });

  test("does not go round in circles", async () => {
    const { server, client } = await startClient({
      listSessions: () => ({ sessions: [], nextPageToken: "again" }),
    });
    const error = await rejection(collect(client.listAllSessions()));
    expect(error.reason).toBe("INTERNAL");
    expect(server.calls).toHaveLength(2);
  });
});

test("countSessions returns the number", async () => {
  const { client } = await startClient({
    countSessions: ({ userId }) => ({ count: userId === "user-1" ? 3 : 1000 }),
  });
  expect(await client.countSessions({ userId: "user-1" })).toBe(3);
  expect(await client.countSessions()).toBe(1000);
});

describe("updateSession", () => {
  const update = { displayName: "Ada" };

  test("sends the changes, and returns the new session", async () => {
    const { server, client } = await startClient({
      updateSession: () => ({ session: protoSession({ etag: "etag-2" }), notices: [notice] }),
    });
    const { session, notices } = await client.updateSession(
      "session-1",
      { displayName: "Ada", setData: { fooBar: 1, "a.b": null }, deleteData: ["old"] },
      { etag: "etag-1", userId: "user-1", fence: { lock: "names", token: 1_700_000_000_000 } },
    );
    expect(server.requests("updateSession")).toMatchObject([
      {
        sessionId: "session-1",
        userId: "user-1",
        etag: "etag-1",
        fence: { lock: "names", token: 1_700_000_000_000n },
        session: { displayName: "Ada" },
        updateMask: { paths: ["display_name"] },
        setData: { fooBar: 1, "a.b": null },
        deleteData: ["old"],
      },
    ]);
    expect([session.etag, notices]).toEqual(["etag-2", [notice]]);
  });

  test("rejects if there is no session", async () => {
    const { client } = await startClient({ updateSession: throwing(notFound) });
    const error = await rejection(client.updateSession("s", update));
    expect(error.reason).toBe("SESSION_NOT_FOUND");
  });

  test.each([
    [undefined, "fence.lock"],
    [{ lock: "", token: 1 }, "fence.lock"],
    [{ lock: "names", token: undefined }, "fence.token"],
    [{ lock: "names", token: 0.5 }, "fence.token"],
  ])("refuses a fence that would keep out nobody: %j", async (fence, field) => {
    const { server, client } = await startClient({});
    const options = { fence } as unknown as UpdateSessionOptions;
    const error = await rejection(client.updateSession("s", update, options));
    expect(error).toMatchObject({ reason: "INVALID_ARGUMENT", fieldViolations: [{ field }] });
    expect(server.calls).toEqual([]);
  });
});

test("refreshSession takes an id or a token, and rejects if there is no session", async () => {
  const { server, client } = await startClient({
    refreshSession({ target }) {
      if (target.value === "gone") throw notFound();
      return { session: protoSession() };
    },
  });
  expect((await client.refreshSession({ sessionId: "session-1" })).id).toBe("session-1");
  expect((await client.refreshSession({ token: SESSION_TOKEN })).id).toBe("session-1");
  const error = await rejection(client.refreshSession({ sessionId: "gone" }));
  expect(error.reason).toBe("SESSION_NOT_FOUND");
  expect(server.requests("refreshSession")).toMatchObject([
    { target: { case: "sessionId", value: "session-1" } },
    { target: { case: "token", value: SESSION_TOKEN } },
    { target: { case: "sessionId", value: "gone" } },
  ]);
});

test("rotateSessionToken returns the new token, and the old one may live for a while", async () => {
  const { server, client } = await startClient({
    rotateSessionToken: ({ token }) => ({ session: protoSession(), token: `${token}-2` }),
  });
  const rotated = await client.rotateSessionToken(SESSION_TOKEN);
  expect(rotated).toMatchObject({ token: `${SESSION_TOKEN}-2`, session: { id: "session-1" } });
  await client.rotateSessionToken(SESSION_TOKEN, { graceMs: 20_500, requestId: "night-7" });
  expect(server.requests("rotateSessionToken")).toMatchObject([
    {
      token: SESSION_TOKEN,
      requestId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      grace: { seconds: 0n, nanos: 0 },
    },
    { requestId: "night-7", grace: { seconds: 20n, nanos: 500_000_000 } },
  ]);
});

test("a user can be let sign out their own devices by id, and nobody else's", async () => {
  const { server, client } = await startClient({
    revokeSession: ({ userId }) => ({ revoked: userId === "user-1" }),
  });
  const revoke = (userId: string) => client.revokeSession({ sessionId: "s" }, { userId });
  expect([await revoke("user-1"), await revoke("user-2")]).toEqual([true, false]);
  for (const call of [revoke(""), client.revokeSession({ token: "t" }, { userId: "user-1" })]) {
    expect((await rejection(call)).fieldViolations).toMatchObject([{ field: "user_id" }]);
  }
  expect(server.calls).toHaveLength(2);
});

test("revokeSession tells whether it ended the session", async () => {
  const { server, client } = await startClient({
    revokeSession: ({ target }) => ({ revoked: target.case === "sessionId" }),
  });
  expect(await client.revokeSession({ sessionId: "s" }, { reason: "logout" })).toBe(true);
  expect(await client.revokeSession({ token: SESSION_TOKEN })).toBe(false);
  expect(server.requests("revokeSession")).toMatchObject([
    { target: { case: "sessionId", value: "s" }, reason: "logout" },
    { target: { case: "token", value: SESSION_TOKEN }, reason: "" },
  ]);
});

test("revokeUserSessions tells how many sessions it ended, and can spare one", async () => {
  const { server, client } = await startClient({ revokeUserSessions: () => ({ revokedCount: 4 }) });
  const options = { exceptSessionId: "this-one", reason: "password changed" };
  expect(await client.revokeUserSessions("user-1", options)).toBe(4);
  const error = await rejection(client.revokeUserSessions("user-1", { exceptSessionId: "" }));
  expect(error.reason).toBe("INVALID_ARGUMENT");
  expect(server.requests("revokeUserSessions")).toMatchObject([{ userId: "user-1", ...options }]);
});

test("a transport of the caller's own carries the calls, and stays open", async () => {
  const transport = createRouterTransport(({ service }) => {
    service(SessionService, { countSessions: () => ({ count: 2 }) });
  });
  const first = createSessionClient({ transport, token: "token" });
  expect(await first.countSessions()).toBe(2);
  first.close();
  expect((await rejection(first.countSessions())).reason).toBe("CANCELED");
  const second = createSessionClient({ transport, token: "token" });
  expect(await second.countSessions()).toBe(2);
});

test("the data has the type that the client is made with", async () => {
  interface Cart {
    theme: "light" | "dark";
    items?: string[];
  }
  const data = { theme: "dark", items: ["tea"] };
  const { server } = await startClient({
    createSession: () => ({ session: protoSession({ data }) }),
    updateSession: () => ({ session: protoSession({ data }) }),
  });
  const client = createSessionClient<Cart>({ baseUrl: server.baseUrl, token: "token" });
  onTestFinished(() => client.close());
  const { session } = await client.createSession({ userId: "u", data: { theme: "dark" } });
  expect(session.data.items?.[0]?.toUpperCase()).toBe("TEA");
  await client.updateSession("s", { setData: { theme: "dark" }, deleteData: ["items"] });
  // @ts-expect-error no such theme
  await client.createSession({ userId: "u", data: { theme: "blue" } });
  // @ts-expect-error no such key
  await client.updateSession("s", { setData: { itms: [] } });
  // @ts-expect-error no such key
  await client.updateSession("s", { deleteData: ["itms"] });
});

test("the types prevent what callers forget", async () => {
  const { client } = await startClient({
    verifySession: () => ({ session: protoSession() }),
    getSession: () => ({ session: { roles: ["admin"] } }),
  });
  const verified = await client.verifySession(SESSION_TOKEN);
  // @ts-expect-error the session may be undefined
  expect(verified.userId).toBe("user-1");
  const partial = await client.getSession("s", { fields: ["roles"] });
  expect(partial?.roles).toEqual(["admin"]);
  // @ts-expect-error a field that was not requested
  expect(partial?.userId).toBeUndefined();
  // @ts-expect-error neither id nor token
  await rejection(client.refreshSession({}));
  // @ts-expect-error both id and token
  await rejection(client.revokeSession({ sessionId: "s", token: "t" }));
  // @ts-expect-error neither address nor transport
  expect(() => createSessionClient({ token: "token" })).toThrow("baseUrl");
});
