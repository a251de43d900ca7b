import { randomBytes } from "node:crypto";
import { createSessionClient, hashCredential, SessiondError } from "@sessiond/client";
import { startTcpFaultProxy } from "@sessiond/core/testing";
import { describe, expect, test, vi } from "vitest";
import { useTestServer } from "../testing/test-server.js";

const server = useTestServer();

describe.each(["grpc", "connect"] as const)("the SDK over %s", (protocol) => {
  const urlOf = () => (protocol === "grpc" ? server.grpcUrl : server.httpUrl);
  const clientWith = (token = server.accessToken, baseUrl = urlOf()) =>
    createSessionClient({ baseUrl, protocol, token });

  test("takes a session through its whole life", async () => {
    using client = clientWith();
    const userId = `ann-${protocol}`;
    const request = {
      ...{ userId, displayName: "Ann", roles: ["editor"], client: { ip: "203.0.113.7" } },
      ...{ data: { theme: "dark" }, idleTimeoutMs: 60_000, lifetimeMs: 3_600_000 },
      requestId: `job-${protocol}-7`,
    };
    const created = await client.createSession(request);
    const { session, token, evictedSessionIds } = created;
    expect(evictedSessionIds).toEqual([]);
    expect(session).toMatchObject({ userId, idleTimeoutMs: 60_000, state: "active" });
    expect(await client.createSession(request)).toEqual(created);
    const reused = client.createSession({ ...request, displayName: "Bob" });
    await expect(reused).rejects.toMatchObject({ reason: "REQUEST_ID_REUSED" });
    expect(await client.verifySession(token)).toEqual(session);
    const roles = await client.getSession(session.id, { fields: ["roles"] });
    expect(roles).toEqual({ roles: ["editor"] });
    const verified = await client.batchVerifySessions([token, "sst_nonsense"]);
    const missing = { error: { reason: "SESSION_NOT_FOUND" } };
    expect(verified).toMatchObject([{ session: { id: session.id } }, missing]);
    const found = await client.batchGetSessions(["missing", session.id]);
    expect(found).toMatchObject([missing, { session: { id: session.id } }]);

    const changes = { displayName: "Bob", setData: { "a.B": [1] }, deleteData: ["theme"] };
    const updated = await client.updateSession(session.id, changes, { etag: session.etag });
    expect(updated).toMatchObject({ session: { displayName: "Bob" }, notices: [] });
    expect(updated.session.data).toEqual({ "a.B": [1] });
    const { lastAccessTime } = await client.refreshSession({ token });
    expect(lastAccessTime.getTime()).toBeGreaterThan(session.lastAccessTime.getTime());
    const { token: newToken } = await client.rotateSessionToken(token);
    expect(await client.verifySession(token)).toBeUndefined();
    expect((await client.verifySession(newToken))?.id).toBe(session.id);

    expect(await client.countSessions({ userId })).toBe(1);
    for await (const listed of client.listAllSessions({ userId })) {
      expect(listed.id).toBe(session.id);
    }
    expect(await client.revokeSession({ token: newToken })).toBe(true);
    expect(await client.verifySession(newToken)).toBeUndefined();
    expect(await client.getSession(session.id)).toBeUndefined();
    expect(await client.revokeUserSessions(userId)).toBe(0);
  });

  test("moves a session in with the cookie that its user has, and rotates it into a token", async () => {
    using client = clientWith();
    const cookie = randomBytes(24).toString("base64url");
    const createTime = new Date(Date.now() - 60_000);
    const moved = { userId: `moved-${protocol}`, tokenHash: hashCredential(cookie), createTime };
    const { session, token } = await client.createSession(moved);
    expect([token, session.createTime]).toEqual(["", createTime]);
    expect((await client.verifySession(cookie))?.id).toBe(session.id);
    const rotated = await client.rotateSessionToken(cookie, { graceMs: 30_000 });
    expect(rotated.session.tokenCreateTime.getTime()).toBeGreaterThan(createTime.getTime());
    for (const current of [cookie, rotated.token]) {
      expect((await client.verifySession(current))?.id).toBe(session.id);
    }
    await expect(client.createSession(moved)).rejects.toMatchObject({
      reason: "SESSION_ALREADY_EXISTS",
    });
  });

  test("lets users sign out their own devices by id, and nobody else's", async () => {
    using client = clientWith();
    const { session } = await client.createSession({ userId: `bob-${protocol}` });
    const signOut = (userId: string) => client.revokeSession({ sessionId: session.id }, { userId });
    expect(await signOut("mallory")).toBe(false);
    expect(await client.getSession(session.id)).toBeDefined();
    expect(await signOut(session.userId)).toBe(true);
  });

  test("rotates a token once although the answer is lost on the way, and has the new one", async () => {
    using client = clientWith();
    const { token } = await client.createSession({ userId: `lost-rotation-${protocol}` });
    const port = Number(new URL(urlOf()).port);
    await using proxy = await startTcpFaultProxy({ host: "127.0.0.1", port });
    using far = clientWith(server.accessToken, `http://127.0.0.1:${proxy.port}`);
    // A client of gRPC sends its calls after the server's first bytes.
    await far.countSessions();
    proxy.halfOpen();
    const rotating = far.rotateSessionToken(token);
    await vi.waitFor(async () => expect(await client.verifySession(token)).toBeUndefined());
    proxy.cut();
    proxy.pass();
    const rotated = await rotating;
    expect(await client.verifySession(rotated.token)).toEqual(rotated.session);
  });

  test("makes a creation once whose answer is lost on the way, and does not lose its token", async () => {
    using client = clientWith();
    const port = Number(new URL(urlOf()).port);
    await using proxy = await startTcpFaultProxy({ host: "127.0.0.1", port });
    using far = clientWith(server.accessToken, `http://127.0.0.1:${proxy.port}`);
    // A client of gRPC sends its calls after the server's first bytes.
    await far.countSessions();
    proxy.halfOpen();
    const userId = `lost-answer-${protocol}`;
    const creating = far.createSession({ userId });
    await vi.waitFor(async () => expect(await client.countSessions({ userId })).toBe(1));
    proxy.cut();
    proxy.pass();
    const { session, token } = await creating;
    expect(await client.verifySession(token)).toEqual(session);
    expect(await client.countSessions({ userId })).toBe(1);
  });

  test("says what is wrong with a request, and with the caller's own access token", async () => {
    using client = clientWith();
    using reader = clientWith(await server.issuer.sign({ claims: { scope: "sessions:read" } }));
    using stranger = clientWith("not.a.jwt");
    await expect(client.createSession({ userId: "" })).rejects.toMatchObject({
      reason: "INVALID_ARGUMENT",
      fieldViolations: [{ field: "user_id", description: "required" }],
    });
    await expect(reader.createSession({ userId: "ann" })).rejects.toMatchObject({
      reason: "PERMISSION_DENIED",
      metadata: { permission: "sessions:create" },
    });
    const refused = stranger.countSessions();
    await expect(refused).rejects.toBeInstanceOf(SessiondError);
    await expect(refused).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
  });
});
