import { once } from "node:events";
import { connect, constants } from "node:http2";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { Keyring } from "@sessiond/core";
import { SqliteSessionStore } from "@sessiond/core/sqlite";
import { freePort, startRedisServer } from "@sessiond/core/testing";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { holdKeys } from "../testing/held-issuer.js";
import { failureOf } from "../testing/outcome.js";
import { bearer, clientOver, GRPC, PROTOCOLS, sessionClient } from "../testing/protocols.js";
import { scrape } from "../testing/scrape.js";
import { byId, byToken, newSession, newUser } from "../testing/session-requests.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { startTestServer, type TestServer, useTestServer } from "../testing/test-server.js";

const SERVICE = "sessiond.v1.SessionService";
const INFO = 30;
const WARN = 40;
const ERROR = 50;

/** The lines of the log about the last calls. */
function lastCalls({ logs }: TestServer, count: number) {
  return logs.filter(({ msg }) => msg === "call").slice(-count);
}

describe.each(PROTOCOLS)("over $name", (protocol) => {
  const server = useTestServer();
  const client = clientOver(protocol, server);

  test("a call is logged in one line: which, how it ended, how long, whose, of what", async () => {
    const { sessionId, token } = await newSession(client);
    await client.verifySession({ token });
    await client.getSession({ sessionId });
    await client.refreshSession(byId(sessionId));
    await client.countSessions({});
    await client.revokeSession(byId(sessionId));
    await failureOf(client.verifySession({ token }));
    await failureOf(client.getSession({ sessionId }));
    await failureOf(client.listSessions({ pageSize: -1 }));

    const calls = lastCalls(server, 9);
    const line = (method: string, code: string, session_id?: string, error?: string) => ({
      ...{ caller: "billing", issuer: server.issuer.url, level: INFO, code },
      method: `${SERVICE}/${method}`,
      ...(session_id && { session_id }),
      ...(error && { error }),
    });
    expect(calls).toMatchObject([
      line("CreateSession", "ok", sessionId),
      line("VerifySession", "ok", sessionId),
      line("GetSession", "ok", sessionId),
      line("RefreshSession", "ok", sessionId),
      line("CountSessions", "ok"),
      line("RevokeSession", "ok", sessionId),
      line("VerifySession", "not_found", undefined, "session not found"),
      line("GetSession", "not_found", sessionId, "session not found"),
      line("ListSessions", "invalid_argument", undefined, "page_size: expected 0 to 1000, got -1"),
    ]);
    for (const call of calls) {
      expect(call["duration_ms"]).toBeGreaterThan(0);
      expect(call).not.toHaveProperty("err");
    }
    expect(calls[4]).not.toHaveProperty("session_id");
  });

  test("a call by a token is logged with the session that the token proved, and with no other", async () => {
    const { sessionId, token: old } = await newSession(client);
    const { token } = await client.rotateSessionToken({ token: old });
    // The old token still has the session's id in it, and no secret that matches.
    expect(await client.revokeSession(byToken(old))).toMatchObject({ revoked: false });
    await failureOf(client.refreshSession(byToken(old)));
    await failureOf(client.verifySession({ token: old }));
    await client.refreshSession(byToken(token));
    expect(await client.revokeSession(byToken(token))).toMatchObject({ revoked: true });
    // No store still knows the token of a session that was revoked.
    expect(await client.revokeSession(byToken(token))).toMatchObject({ revoked: false });

    // A reader of the log could check guesses of this text against an id that follows from it.
    expect(await client.revokeSession(byToken("hunter2hunter2hunter2"))).toMatchObject({
      revoked: false,
    });

    const logged = lastCalls(server, 7);
    expect(logged.map(({ method }) => String(method).split("/").at(-1))).toEqual([
      ...["RevokeSession", "RefreshSession", "VerifySession"],
      ...["RefreshSession", "RevokeSession", "RevokeSession", "RevokeSession"],
    ]);
    const none = undefined;
    const ids = [none, none, none, sessionId, sessionId, none, none];
    expect(logged.map(({ session_id }) => session_id)).toEqual(ids);
  });

  test("a caller that is refused is logged as far as it is known", async () => {
    await failureOf(sessionClient(protocol.open(server), {}).getSession({ sessionId: "unread" }));
    const claims = { sub: "reader", scope: "sessions:read" };
    const reader = clientOver(protocol, server, await server.issuer.sign({ claims }));
    await failureOf(reader.createSession({}));
    const missing = { code: "unauthenticated", error: expect.stringContaining("missing") };
    const refused = { code: "permission_denied", caller: "reader" };
    expect(lastCalls(server, 2)).toMatchObject([missing, refused]);
    const [stranger] = lastCalls(server, 2);
    expect(stranger).not.toHaveProperty("caller");
    expect(stranger).not.toHaveProperty("session_id");
  });

  test("a refused token of a known issuer is logged with what it claims, and no secret of its header", async () => {
    const { url } = server.issuer;
    const secret = "canary-of-32-characters-AAAA1111";
    const cases = [
      { header: { kid: "2026-09" }, claimed: { claimed_issuer: url, claimed_kid: "2026-09" } },
      { header: { kid: secret }, claimed: { claimed_issuer: url, claimed_kid: "[32 characters]" } },
      {
        header: { kid: `${"k ".repeat(50)}\n` },
        claimed: { claimed_issuer: url, claimed_kid: "k ".repeat(32) },
      },
      { claims: { iss: "https://unknown.example" }, claimed: {} },
    ];
    for (const { claimed, ...token } of cases) {
      const refused = clientOver(protocol, server, await server.issuer.sign(token));
      await failureOf(refused.countSessions({}));
      const [call = {}] = lastCalls(server, 1);
      expect(call).toMatchObject({ code: "unauthenticated", ...claimed });
      expect("claimed_issuer" in call).toBe("claimed_issuer" in claimed);
      for (const field of ["caller", "issuer"]) expect(call).not.toHaveProperty(field);
    }
  });

  test("no line ever holds a token, or anything of a session but its id", async () => {
    const content = {
      displayName: "canary-name",
      roles: ["canary-role"],
      data: { "canary-key": "canary-value" },
      client: { userAgent: "canary-agent" },
    };
    const { sessionId, token } = await newSession(client, content);
    const rotated = await client.rotateSessionToken({ token });
    await client.listSessions({ filter: { role: "canary-role" } });
    const update = (id: string, ...paths: string[]) =>
      client.updateSession({ sessionId: id, session: content, updateMask: { paths } });
    await update(sessionId, "display_name", "roles", "client", "data");
    // An address that is none is left empty.
    const { token: revoked } = await newSession(client, { client: { ip: "canary-value" } });
    await client.revokeSession({ ...byToken(revoked), reason: "canary-value" });
    // A caller's mistakes must not show it either.
    const mistakes = [
      client.getSession({ sessionId: token }),
      client.refreshSession(byId(token)),
      client.revokeSession({ ...byId(token), reason: "canary-value" }),
      update(token, "roles"),
      update(sessionId, token),
      update(sessionId, "data.other"),
      newSession(client, { ...content, userId: "" }),
      newSession(client, { roles: Array(65).fill("canary-role") }),
      client.listSessions({ orderBy: "canary-value" }),
      client.listSessions({ pageToken: token }),
      clientOver(protocol, server, token).countSessions({}),
      sessionClient(protocol.open(server), { authorization: token }).countSessions({}),
    ];
    await Promise.all(mistakes.map(failureOf));

    const text = JSON.stringify(server.logs);
    expect(text).not.toContain("canary");
    // Not even the beginning of one: some messages repeat no more than that.
    for (const secret of [token, rotated.token, revoked, server.accessToken]) {
      expect(text).not.toContain(secret.slice(0, 24));
    }
    expect(text).toContain(sessionId);
  });

  test("a fault of the server's own is an internal error to its caller, and explained in the log", async () => {
    const message = "the cause, which is for the log alone";
    const count = vi.spyOn(SqliteSessionStore.prototype, "count");
    onTestFinished(() => count.mockRestore());
    count.mockRejectedValueOnce(new TypeError(message));
    const told = { code: "INTERNAL", message: "internal error" };
    expect(await failureOf(client.countSessions({}))).toEqual(told);
    const err = { type: "TypeError", message, stack: expect.stringContaining("TypeError") };
    const logged = { level: ERROR, code: "internal", error: "internal error", err };
    expect(lastCalls(server, 1)).toMatchObject([{ method: `${SERVICE}/CountSessions`, ...logged }]);
    expect(await client.countSessions({})).toMatchObject({ count: expect.any(Number) });
  });
});

test("JSON that is no message is quoted to its caller, but not in the log", async () => {
  await using server = await startTestServer();
  const undecodable = /^(token: |no_touch: )?cannot decode .* from JSON$/;
  const bodies: readonly [method: string, body: string, error: RegExp][] = [
    ["VerifySession", '{"token": canary-value}', undecodable],
    ["VerifySession", '{"token": ["canary-value"], "canary-key": 1}', undecodable],
    ["VerifySession", `{"${"canary-key".repeat(10_000)}": 1}`, undecodable],
    ["VerifySession", '"canary-value"', undecodable],
    ["VerifySession", '{"noTouch": "canary-value"}', undecodable],
    ["CreateSession", '{"data": "canary-value"}', /Struct from JSON$/],
    ["CreateSession", '{"data": 7272}', /Struct from JSON$/],
    ["CreateSession", '{"data": ["canary-value"]}', /Struct from JSON$/],
  ];
  const headers = { "content-type": "application/json", ...bearer(server.accessToken) };
  for (const [name, body, error] of bodies) {
    const method = `${SERVICE}/${name}`;
    const response = await fetch(`${server.httpUrl}/${method}`, { method: "POST", headers, body });
    expect(response.status).toBe(400);
    const expected = { method, code: "invalid_argument", caller: "billing" };
    expect(lastCalls(server, 1)).toMatchObject([
      { ...expected, error: expect.stringMatching(error) },
    ]);
  }
  expect(lastCalls(server, 100)).toHaveLength(bodies.length);
});

test("a record that cannot be read fails its session alone, and is an error in the log", async () => {
  await using directory = await temporaryDirectory();
  const store = `sqlite:${join(directory.path, "sessions.db")}`;
  const keyring = Keyring.parse(Keyring.generateKey("forgotten"));
  await using former = await startTestServer({ store, keyring });
  await using server = await startTestServer({ store });
  const client = clientOver(GRPC, server);
  const userId = newUser();
  const first = await newSession(clientOver(GRPC, former), { userId });
  const second = await newSession(client, { userId });

  expect(await failureOf(client.verifySession({ token: first.token }))).toMatchObject({
    code: "DATA_LOSS",
    reason: "SESSION_UNREADABLE",
    domain: "sessiond",
    metadata: { key_id: "forgotten" },
  });
  expect(lastCalls(server, 1)).toMatchObject([{ level: ERROR, code: "data_loss" }]);
  const tokens = [first.token, second.token];
  const { results } = await client.batchVerifySessions({ tokens });
  expect(results.map(({ result }) => result.case)).toEqual(["error", "session"]);
  const list = await client.listSessions({ userId });
  expect(list.sessions.map(({ id }) => id)).toEqual([second.sessionId]);
  expect(list.unreadableSessionIds).toEqual([first.sessionId]);
  expect(await client.countSessions({ userId })).toMatchObject({ count: 2 });
  expect(await client.revokeSession(byToken(first.token))).toMatchObject({ revoked: true });
});

test("a store that is down is a warning in the log", async () => {
  await using server = await startTestServer({ store: `redis://127.0.0.1:${await freePort()}` });
  const call = clientOver(GRPC, server).countSessions({});
  expect(await failureOf(call)).toMatchObject({ code: "UNAVAILABLE" });
  expect(lastCalls(server, 1)).toMatchObject([{ level: WARN, code: "unavailable" }]);
});

test("a store that is full is a warning in the log", async () => {
  await using redis = await startRedisServer({ args: ["--maxmemory", "100kb"] });
  await using server = await startTestServer({ store: redis.url });
  const call = newSession(clientOver(GRPC, server), {});
  expect(await failureOf(call)).toMatchObject({ reason: "OVERLOADED" });
  expect(lastCalls(server, 1)).toMatchObject([{ level: WARN, code: "resource_exhausted" }]);
});

// Node says of a request that was reset that it is at its end; nothing at all is a message, too.
test("a call over HTTP/2 that was taken back before it was read is logged once, and not made", async () => {
  await using server = await startTestServer();
  const keys = holdKeys(server.issuer);
  const session = connect(server.httpUrl);
  const call = session.request({
    ":method": "POST",
    ":path": `/${SERVICE}/ListSessions`,
    "content-type": "application/proto",
    ...bearer(server.accessToken),
  });
  // The sessions of one user; without the message it would be those of all.
  call.end(Buffer.from([0x0a, 1, 0x61]));
  await keys.asked();
  call.close(constants.NGHTTP2_CANCEL);
  await once(call, "close");
  // What comes after it on the same connection has been seen, and so has its end.
  expect(await text(session.request({ ":path": "/healthz" }))).toBe("ok\n");
  keys.release();
  await sleep(200);
  const expected = { method: `${SERVICE}/ListSessions`, code: "canceled" };
  expect(lastCalls(server, 2)).toMatchObject([expected]);
  session.close();
});

test("a call over gRPC whose client leaves before its request is whole is logged and counted", async () => {
  await using server = await startTestServer();
  const session = connect(server.grpcUrl);
  await once(session, "connect");
  const call = session.request({
    ":method": "POST",
    ":path": `/${SERVICE}/ListSessions`,
    "content-type": "application/grpc",
    ...bearer(server.accessToken),
  });
  call.on("error", () => {});
  call.write(Buffer.of(0, 0, 0));
  await new Promise<void>((resolve) => session.ping(() => resolve()));
  session.destroy();
  const expected = { method: `${SERVICE}/ListSessions`, code: "canceled" };
  await vi.waitFor(() => expect(lastCalls(server, 1)).toMatchObject([expected]));
  const labels = { grpc_method: "ListSessions", grpc_code: "Canceled" };
  expect((await scrape(server.httpUrl)).sum("grpc_server_handled_total", labels)).toBe(1);
});

test("a call over gRPC whose client leaves while its issuer's keys load is logged and counted", async () => {
  await using server = await startTestServer();
  const keys = holdKeys(server.issuer);
  const session = connect(server.grpcUrl);
  const call = session.request({
    ":method": "POST",
    ":path": `/${SERVICE}/ListSessions`,
    "content-type": "application/grpc",
    ...bearer(server.accessToken),
  });
  await keys.asked();
  call.close(constants.NGHTTP2_CANCEL);
  await once(call, "close");
  // The server answers the ping after it has seen the end of the call.
  await new Promise<void>((resolve) => session.ping(() => resolve()));
  keys.release();
  const expected = { method: `${SERVICE}/ListSessions`, code: "canceled" };
  await vi.waitFor(() => expect(lastCalls(server, 1)).toMatchObject([expected]));
  const labels = { grpc_method: "ListSessions", grpc_code: "Canceled" };
  expect((await scrape(server.httpUrl)).sum("grpc_server_handled_total", labels)).toBe(1);
  session.close();
});
