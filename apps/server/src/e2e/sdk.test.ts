import { createSessionClient, type SessionClient, SessiondError } from "@sessiond/client";
import { startTcpFaultProxy } from "@sessiond/core/testing";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { startTestServer, type TestServer } from "../testing/test-server.js";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server[Symbol.asyncDispose]());

describe.each(["grpc", "connect"] as const)("the SDK over %s", (protocol) => {
  let client: SessionClient;
  beforeAll(() => {
    client = clientWith(server.accessToken);
  });
  afterAll(() => client.close());

  function clientWith(token: string): SessionClient {
    const baseUrl = protocol === "grpc" ? server.grpcUrl : server.httpUrl;
    return createSessionClient({ baseUrl, protocol, token });
  }

  test("takes a session through its whole life", async () => {
    const userId = `ann-${protocol}`;
    const { session, token, evictedSessionIds } = await client.createSession({
      userId,
      displayName: "Ann",
      roles: ["editor"],
      client: { ip: "203.0.113.7" },
      data: { theme: "dark" },
      idleTimeoutMs: 60_000,
      lifetimeMs: 3_600_000,
    });
    expect(evictedSessionIds).toEqual([]);
    expect(session).toMatchObject({ userId, idleTimeoutMs: 60_000, state: "active" });
    expect(await client.verifySession(token)).toEqual(session);
    expect(await client.getSession(session.id, { fields: ["roles"] })).toEqual({
      roles: ["editor"],
    });

    const updated = await client.updateSession(
      session.id,
      { displayName: "Bob", setData: { "a.B": [1] }, deleteData: ["theme"] },
      { etag: session.etag },
    );
    expect(updated).toMatchObject({ displayName: "Bob", data: { "a.B": [1] } });
    const { token: newToken } = await client.rotateSessionToken(token);
    expect(await client.verifySession(token)).toBeUndefined();
    expect((await client.refreshSession({ token: newToken })).id).toBe(session.id);

    expect(await client.countSessions({ userId })).toBe(1);
    for await (const listed of client.listAllSessions({ userId })) {
      expect(listed.id).toBe(session.id);
    }
    expect(await client.revokeSession({ token: newToken })).toBe(true);
    expect(await client.verifySession(newToken)).toBeUndefined();
    expect(await client.getSession(session.id)).toBeUndefined();
    expect(await client.revokeUserSessions(userId)).toBe(0);
  });

  test("a creation whose answer is lost on the way is made once, and its token is not lost", async () => {
    const port = portOf(server, protocol);
    await using proxy = await startTcpFaultProxy({ host: "127.0.0.1", port });
    proxy.halfOpen();
    const baseUrl = `http://127.0.0.1:${proxy.port}`;
    using far = createSessionClient({ baseUrl, protocol, token: server.accessToken });
    const userId = `lost-answer-${protocol}`;

    const creating = far.createSession({ userId, displayName: "Ann" });
    await vi.waitFor(async () => expect(await client.countSessions({ userId })).toBe(1));
    proxy.cut();
    proxy.pass();

    const { session, token } = await creating;
    expect(await client.verifySession(token)).toEqual(session);
    expect(await client.countSessions({ userId })).toBe(1);
  });

  test("a creation may be repeated later under a request id of the caller's own", async () => {
    const job = { userId: `job-${protocol}`, requestId: `job-${protocol}-7`, displayName: "Ann" };
    const first = await client.createSession(job);
    expect(await client.createSession(job)).toEqual(first);
    await expect(client.createSession({ ...job, displayName: "Bob" })).rejects.toMatchObject({
      reason: "REQUEST_ID_REUSED",
    });
    expect(await client.countSessions({ userId: job.userId })).toBe(1);
  });

  test("has a result for each token and id of a batch", async () => {
    const { session, token } = await client.createSession({ userId: "batch" });
    const verified = await client.batchVerifySessions([token, "sst_nonsense"]);
    expect(verified[0]).toEqual({ session });
    expect(verified[1]?.error).toMatchObject({ reason: "SESSION_NOT_FOUND" });
    const found = await client.batchGetSessions(["missing", session.id]);
    expect(found[0]?.error).toMatchObject({ reason: "SESSION_NOT_FOUND" });
    expect(found[1]).toEqual({ session });
  });

  test("names the field that the server refused", async () => {
    await expect(client.createSession({ userId: "" })).rejects.toMatchObject({
      reason: "INVALID_ARGUMENT",
      fieldViolations: [{ field: "user_id", description: "required" }],
    });
  });

  test("says what is wrong with the caller's own access token", async () => {
    const reader = clientWith(await server.issuer.sign({ claims: { scope: "sessions:read" } }));
    const stranger = clientWith("not.a.jwt");
    try {
      await expect(reader.createSession({ userId: "ann" })).rejects.toMatchObject({
        reason: "PERMISSION_DENIED",
        metadata: { permission: "sessions:create" },
      });
      const refused = stranger.countSessions();
      await expect(refused).rejects.toBeInstanceOf(SessiondError);
      await expect(refused).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
    } finally {
      reader.close();
      stranger.close();
    }
  });
});

function portOf({ grpcUrl, httpUrl }: TestServer, protocol: "grpc" | "connect"): number {
  return Number(new URL(protocol === "grpc" ? grpcUrl : httpUrl).port);
}
