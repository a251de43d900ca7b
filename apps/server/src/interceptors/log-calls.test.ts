import { once } from "node:events";
import { connect, constants } from "node:http2";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { Keyring, type SessionStore, Sessions } from "@sessiond/core";
import { SqliteSessionStore } from "@sessiond/core/sqlite";
import { HealthImplementation } from "grpc-health-check";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createAccessTokenVerifier } from "../auth/access-token.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { sessionRoutes } from "../services/session-routes.js";
import { holdKeys } from "../testing/held-issuer.js";
import { failureOf } from "../testing/outcome.js";
import {
  bearer,
  clientOver,
  PROTOCOLS,
  type Protocol,
  sessionClient,
} from "../testing/protocols.js";
import {
  type LogLine,
  startTestIssuer,
  startTestServer,
  type TestServer,
  testConfig,
} from "../testing/test-server.js";
import { startGrpcServer } from "../transport/grpc-server.js";
import { startHttpServer } from "../transport/http-server.js";
import { Readiness } from "../transport/readiness.js";
import { createRequestGate } from "../transport/request-gate.js";
import { createInterceptors } from "./interceptors.js";

const SERVICE = "sessiond.v1.SessionService";
const INFO = 30;
const WARN = 40;
const ERROR = 50;
const CANARIES = ["canary-name", "canary-role", "canary-key", "canary-value", "canary-agent"];

function callsIn(logs: readonly LogLine[]): readonly LogLine[] {
  return logs.filter(({ msg }) => msg === "call");
}

describe.each(PROTOCOLS)("over $name", (protocol) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test("a call is logged in one line: which, how it ended, how long, whose, of what", async () => {
    const client = clientOver(protocol, server);
    const { session, token } = await client.createSession({ userId: "ann" });
    const sessionId = session?.id ?? "";
    const target = { case: "sessionId", value: sessionId } as const;
    await client.verifySession({ token });
    await client.getSession({ sessionId });
    await client.refreshSession({ target });
    await client.countSessions({});
    await client.revokeSession({ target });
    await failureOf(client.verifySession({ token }));
    await failureOf(client.getSession({ sessionId }));
    await failureOf(client.listSessions({ pageSize: -1 }));

    const calls = callsIn(server.logs).slice(-9);
    const shared = { caller: "billing", issuer: server.issuer.url, level: INFO };
    const line = (method: string, code: string, fields: object = {}) => ({
      ...shared,
      method: `${SERVICE}/${method}`,
      code,
      ...fields,
    });
    expect(calls).toMatchObject([
      line("CreateSession", "ok", { session_id: sessionId }),
      line("VerifySession", "ok", { session_id: sessionId }),
      line("GetSession", "ok", { session_id: sessionId }),
      line("RefreshSession", "ok", { session_id: sessionId }),
      line("CountSessions", "ok"),
      line("RevokeSession", "ok", { session_id: sessionId }),
      line("VerifySession", "not_found", { error: "session not found" }),
      line("GetSession", "not_found", { session_id: sessionId, error: "session not found" }),
      line("ListSessions", "invalid_argument", { error: "page_size: expected 0 to 1000, got -1" }),
    ]);
    for (const call of calls) {
      expect(call["duration_ms"]).toBeGreaterThan(0);
      expect(call).not.toHaveProperty("err");
    }
    expect(calls[4]).not.toHaveProperty("session_id");
  });

  test("a call by a token is logged with the session that the token proved, and with no other", async () => {
    const client = clientOver(protocol, server);
    const { session, token: old } = await client.createSession({ userId: "ann" });
    const { token } = await client.rotateSessionToken({ token: old });
    // The old token still has the session's id in it, and no secret that matches.
    const unproven = { case: "token", value: old } as const;
    const proven = { case: "token", value: token } as const;
    expect(await client.revokeSession({ target: unproven })).toMatchObject({ revoked: false });
    await failureOf(client.refreshSession({ target: unproven }));
    await failureOf(client.verifySession({ token: old }));
    await client.refreshSession({ target: proven });
    expect(await client.revokeSession({ target: proven })).toMatchObject({ revoked: true });
    // No store knows any more what the token of a session was that has been revoked.
    expect(await client.revokeSession({ target: proven })).toMatchObject({ revoked: false });

    const seen = callsIn(server.logs)
      .slice(-6)
      .map((call) => [String(call["method"]).split("/").at(-1), call["code"], call["session_id"]]);
    expect(seen).toEqual([
      ["RevokeSession", "ok", undefined],
      ["RefreshSession", "not_found", undefined],
      ["VerifySession", "not_found", undefined],
      ["RefreshSession", "ok", session?.id],
      ["RevokeSession", "ok", session?.id],
      ["RevokeSession", "ok", undefined],
    ]);
  });

  test("a caller who is refused is logged as far as it is known", async () => {
    await failureOf(sessionClient(protocol.open(server), {}).getSession({ sessionId: "unread" }));
    const reader = await server.issuer.sign({ claims: { sub: "reader", scope: "sessions:read" } });
    await failureOf(sessionClient(protocol.open(server), bearer(reader)).createSession({}));
    const [stranger, refused] = callsIn(server.logs).slice(-2);
    expect(stranger).toMatchObject({
      code: "unauthenticated",
      error: expect.stringContaining("missing"),
    });
    expect(stranger).not.toHaveProperty("caller");
    expect(stranger).not.toHaveProperty("session_id");
    expect(refused).toMatchObject({ code: "permission_denied", caller: "reader" });
  });

  test("no line ever holds a token, or anything of a session but its id", async () => {
    const client = clientOver(protocol, server);
    const content = {
      displayName: "canary-name",
      roles: ["canary-role"],
      data: { "canary-key": "canary-value" },
      client: { userAgent: "canary-agent" },
    };
    const { session, token } = await client.createSession({ userId: "ann", ...content });
    const sessionId = session?.id ?? "";
    const rotated = await client.rotateSessionToken({ token });
    await client.listSessions({ filter: { role: "canary-role" } });
    const paths = ["display_name", "roles", "client", "data"];
    await client.updateSession({ sessionId, session: content, updateMask: { paths } });
    // What callers get wrong must not show it either.
    const target = { case: "sessionId", value: token } as const;
    const mistakes = [
      () => client.getSession({ sessionId: token }),
      () => client.refreshSession({ target }),
      () => client.revokeSession({ target, reason: "canary-value" }),
      () => client.updateSession({ sessionId: token, updateMask: { paths: ["roles"] } }),
      () => client.updateSession({ sessionId, updateMask: { paths: [token] } }),
      () =>
        client.updateSession({
          sessionId,
          session: content,
          updateMask: { paths: ["data.other"] },
        }),
      () => client.createSession({ userId: "", ...content }),
      () => client.createSession({ userId: "ann", roles: Array(65).fill("canary-role") }),
      () => client.createSession({ userId: "ann", client: { ip: "canary-value" } }),
      () => client.listSessions({ orderBy: "canary-value" }),
      () => client.listSessions({ pageToken: token }),
      () => sessionClient(protocol.open(server), bearer(token)).countSessions({}),
      () => sessionClient(protocol.open(server), { authorization: token }).countSessions({}),
    ];
    for (const mistake of mistakes) await failureOf(mistake());
    const { token: revoked } = await client.createSession({ userId: "ann" });
    const proven = { case: "token", value: revoked } as const;
    await client.revokeSession({ target: proven, reason: "canary-value" });

    const text = JSON.stringify(server.logs);
    // Not even the beginning of one: some messages repeat no more than that.
    const tokens = [token, rotated.token, server.accessToken].map((each) => each.slice(0, 24));
    expect([...tokens, ...CANARIES].filter((secret) => text.includes(secret))).toEqual([]);
    expect(text).toContain(sessionId);
  });
});

test("JSON that is no message is not quoted in the log, as it is to its caller", async () => {
  await using server = await startTestServer();
  const bodies = [
    '{"token": canary-value}',
    '{"token": ["canary-value"], "canary-key": 1}',
    `{"${"canary-key".repeat(10_000)}": 1}`,
    '"canary-value"',
    '{"noTouch": "canary-value"}',
  ];
  for (const body of bodies) {
    const headers = { "content-type": "application/json", ...bearer(server.accessToken) };
    const url = `${server.httpUrl}/${SERVICE}/VerifySession`;
    const response = await fetch(url, { method: "POST", headers, body });
    expect(response.status).toBe(400);
    expect(callsIn(server.logs).at(-1)).toMatchObject({
      method: `${SERVICE}/VerifySession`,
      code: "invalid_argument",
      error: expect.stringMatching(/^(token: |no_touch: )?cannot decode .* from JSON$/),
      caller: "billing",
    });
  }
  expect(callsIn(server.logs)).toHaveLength(bodies.length);
});

test("data that is no object is not quoted in the log either", async () => {
  await using server = await startTestServer();
  const headers = { "content-type": "application/json", ...bearer(server.accessToken) };
  const url = `${server.httpUrl}/${SERVICE}/CreateSession`;
  for (const data of ["canary-value", 7272, ["canary-value"]]) {
    const body = JSON.stringify({ userId: "ann", data });
    expect((await fetch(url, { method: "POST", headers, body })).status).toBe(400);
    expect(callsIn(server.logs).at(-1)).toMatchObject({
      error: expect.stringMatching(/Struct from JSON$/),
    });
  }
});

describe("a fault of the server's own", () => {
  const CAUSE = "the cause, which is for the log alone";
  const opened = new AsyncDisposableStack();
  const logs: LogLine[] = [];
  let store: SessionStore;
  let addresses: Parameters<Protocol["open"]>[0];
  let headers: { readonly authorization: string };

  beforeAll(async () => {
    const issuer = opened.adopt(await startTestIssuer(), (started) => started.close());
    const { auth, keyring } = testConfig({}, issuer);
    if (auth === undefined || keyring === undefined) throw new Error("expected both");
    store = opened.adopt(await SqliteSessionStore.open({ path: ":memory:" }), (db) => db.close());
    const logger = pino({ base: null }, { write: (line) => logs.push(JSON.parse(line)) });
    const verifier = createAccessTokenVerifier(auth);
    const served = {
      address: { host: "127.0.0.1", port: 0 },
      routes: sessionRoutes(new Sessions({ store, keyring: Keyring.parse(Keyring.generateKey()) })),
      interceptors: createInterceptors({ logger, verifier }),
      requestGate: createRequestGate({ logger, verifier }),
      health: new HealthImplementation(),
      readiness: new Readiness(store, logger),
      reflection: false,
      shutdownSignal: new AbortController().signal,
    };
    const grpc = opened.adopt(await startGrpcServer(served), (server) => server.stop(0));
    const http = opened.adopt(await startHttpServer(served), (server) => server.stop(0));
    const grpcAddress = `127.0.0.1:${grpc.address.port}`;
    const httpUrl = `http://127.0.0.1:${http.address.port}`;
    addresses = { grpcAddress, grpcUrl: `http://${grpcAddress}`, httpUrl };
    headers = bearer(await issuer.sign({ claims: { scope: KNOWN_PERMISSIONS.join(" ") } }));
  });
  afterAll(() => opened.disposeAsync());

  test.each(PROTOCOLS)(
    "is an internal error to its caller over $name, and explained in the log",
    async (protocol) => {
      const client = sessionClient(protocol.open(addresses), headers);
      const { count } = store;
      store.count = () => Promise.reject(new TypeError(CAUSE));
      expect(await failureOf(client.countSessions({}))).toEqual({
        code: "INTERNAL",
        message: "internal error",
      });
      store.count = count;
      expect(logs.at(-1)).toMatchObject({
        level: ERROR,
        method: `${SERVICE}/CountSessions`,
        code: "internal",
        error: "internal error",
        err: { type: "TypeError", message: CAUSE, stack: expect.stringContaining("TypeError") },
      });
      expect(await client.countSessions({})).toMatchObject({ count: expect.any(Number) });
    },
  );

  test.each(PROTOCOLS)(
    "in a record that cannot be read fails that session alone, over $name",
    async (protocol) => {
      const client = sessionClient(protocol.open(addresses), headers);
      const userId = `unreadable over ${protocol.name}`;
      const first = await client.createSession({ userId });
      const second = await client.createSession({ userId });
      const foreign = Keyring.parse(Keyring.generateKey("forgotten"));
      const key = { id: first.session?.id ?? "", partition: first.session?.id.slice(0, 2) ?? "" };
      await store.replaceRecord(key, 1, foreign.seal(Buffer.from("[]"), Buffer.alloc(0)));

      expect(await failureOf(client.verifySession({ token: first.token }))).toMatchObject({
        code: "DATA_LOSS",
        reason: "SESSION_UNREADABLE",
        domain: "sessiond",
        metadata: { key_id: "forgotten" },
      });
      expect(logs.at(-1)).toMatchObject({ level: ERROR, code: "data_loss" });
      const tokens = [first.token, second.token];
      const { results } = await client.batchVerifySessions({ tokens });
      expect(results.map(({ result }) => result.case)).toEqual(["error", "session"]);
      const list = await client.listSessions({ userId });
      expect(list.sessions.map(({ id }) => id)).toEqual([second.session?.id]);
      expect(list.unreadableSessionIds).toEqual([first.session?.id]);
      expect(await client.countSessions({ userId })).toMatchObject({ count: 2 });
      const target = { case: "token", value: first.token } as const;
      expect(await client.revokeSession({ target })).toMatchObject({ revoked: true });
    },
  );

  test("and a store that is down are told apart by their levels", async () => {
    const [protocol] = PROTOCOLS;
    if (protocol === undefined) throw new Error("expected a protocol");
    const client = sessionClient(protocol.open(addresses), headers);
    await store.close();
    expect(await failureOf(client.countSessions({}))).toMatchObject({ code: "UNAVAILABLE" });
    expect(logs.at(-1)).toMatchObject({ level: WARN, code: "unavailable" });
  });
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
  expect(callsIn(server.logs)).toMatchObject([
    { method: `${SERVICE}/ListSessions`, code: "canceled" },
  ]);
  session.close();
});
