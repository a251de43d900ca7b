import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { Keyring } from "@sessiond/core";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import {
  type SessionEvent,
  SessionEventType,
  SessionService,
} from "@sessiond/proto/sessiond/v1/session_service";
import { describe, expect, onTestFinished, test } from "vitest";
import { MAX_LINES } from "../observability/line-limit.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { failureOf } from "../testing/outcome.js";
import { bearer, GRPC, JSON_OVER_HTTP, sessionClient } from "../testing/protocols.js";
import { scrape } from "../testing/scrape.js";
import { spawnServer } from "../testing/server-process.js";
import { byId, newSession, renaming } from "../testing/session-requests.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { type LogLine, startTestIssuer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const ALL = KNOWN_PERMISSIONS.join(" ");

/** A server process with an auth file and a keyring file, and callers with tokens of its issuer. */
async function startServer(env: Readonly<Record<string, string>>) {
  const { path: directory, remove } = await temporaryDirectory();
  onTestFinished(remove);
  const issuer = await startTestIssuer();
  onTestFinished(() => issuer.close());
  const [authFile, keyringFile] = [join(directory, "auth.json"), join(directory, "keyring")];
  const entry = { issuer: issuer.url, audience: "sessiond", algorithms: ["ES256"] };
  await writeFile(authFile, JSON.stringify({ issuers: [{ ...entry, jwks_uri: issuer.jwksUrl }] }));
  const keyring = Keyring.generateKey("first");
  await writeFile(keyringFile, keyring);
  const files = { SESSIOND_AUTH: authFile, SESSIOND_KEYRING_FILE: keyringFile };
  const server = await spawnServer({ env: { ...files, ...env } });
  onTestFinished(() => server[Symbol.asyncDispose]());
  const tokenOf = (sub: string, scope = ALL, claims = {}) =>
    issuer.sign({ claims: { sub, scope, ...claims } });
  const as = async (sub: string, scope?: string, claims?: object) =>
    sessionClient(GRPC.open(server), bearer(await tokenOf(sub, scope, claims)));
  return { server, issuer, keyring, keyringFile, tokenOf, as };
}

async function auditFile(): Promise<string> {
  const { path, remove } = await temporaryDirectory();
  onTestFinished(remove);
  return join(path, "audit.log");
}

/** The events of a watch so far. */
function watch(client: ReturnType<typeof sessionClient>): readonly SessionEvent[] {
  const events: SessionEvent[] = [];
  const end = new AbortController();
  onTestFinished(() => end.abort());
  const collect = async () => {
    for await (const { message } of client.watchSessions({}, { signal: end.signal })) {
      if (message.case === "events") events.push(...message.value.events);
    }
  };
  collect().catch(() => {});
  return events;
}

/** What the audit and a watch both say of a change. */
function changeIn({ event, session_id, user_id, version, caller, reason = "" }: LogLine) {
  const type = String(event).replace("session.", "");
  return { type, session_id, user_id, version, caller, reason };
}

function changeOf(event: SessionEvent) {
  const { sessionId, userId, version, changedBy, reason } = event;
  const type = (SessionEventType[event.type] ?? "").toLowerCase();
  const names = { session_id: sessionId, user_id: userId, caller: changedBy };
  return { type, ...names, version: Number(version), reason };
}

const changesIn = (lines: readonly LogLine[]) =>
  lines.filter(({ version, session_id }) => version && session_id).map(changeIn);

async function linesOf(file: string): Promise<readonly LogLine[]> {
  const text = await readFile(file, "utf8");
  return text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line)]));
}

describe.each(STORES)("on $name", ({ open }) => {
  test("each event of a day stands in the audit once, with its caller, and a watch says the same", async () => {
    await using store = await open();
    const { server, issuer, keyring, keyringFile, tokenOf, as } = await startServer({
      SESSIOND_STORE: store.url,
      SESSIOND_MAX_SESSIONS_PER_USER: "2",
      SESSIOND_RATE_LIMITS: "login: 1 per 15m",
    });
    const [web, support] = [await as("web"), await as("support", "sessions:delete")];
    const limits = createClient(RateLimitService, GRPC.open(server));
    const headers = bearer(await tokenOf("web"));
    const told = watch(await as("auditor", "sessions:read"));
    await web.countSessions({});

    const login = { policy: "login", key: "203.0.113.7" };
    for (let i = 0; i < 2; i++) await limits.checkRateLimit(login, { headers });
    const one = await newSession(web, { userId: "ann", data: { canary: "canary" } });
    const two = await newSession(web, { userId: "ann" });
    const three = await newSession(web, { userId: "ann", sessionId: "three" });
    await web.rotateSessionToken({ token: two.token });
    await failureOf((await as("api")).verifySession({ token: two.token }));
    await failureOf(web.verifySession({ token: one.token }));
    await web.updateSession(renaming("three", "canary"));
    const revoke = { ...byId(two.sessionId), reason: "laptop stolen" };
    for (let i = 0; i < 2; i++) await support.revokeSession(revoke);
    const four = await newSession(web, { userId: "ann", sessionId: "four" });
    await support.revokeUserSessions({ userId: "ann", reason: "account closed" });
    await failureOf((await as("guest", "sessions:read")).revokeSession(byId("four")));
    await failureOf((await as("web", ALL, { aud: "another" })).countSessions({}));
    await failureOf(createClient(SessionService, JSON_OVER_HTTP.open(server)).countSessions({}));
    await writeFile(keyringFile, `${Keyring.generateKey("second")},${keyring}`);
    server.kill("SIGHUP");
    await server.logged("reloaded keyring and auth file");
    await expect.poll(() => told.length).toBe(11);
    server.kill("SIGTERM");
    expect(await server.ended).toBe(0);

    const by = (caller: string) => ({ namespace: "", caller, issuer: issuer.url });
    const of = (session: { readonly sessionId: string }, version: number) => ({
      ...{ session_id: session.sessionId, user_id: "ann", version },
    });
    const full = { reason: "session limit reached" };
    const method = (name: string) => ({ method: `sessiond.v1.SessionService/${name}` });
    const expected = [
      { event: "server.started", key_ids: ["first"], issuers: [issuer.url] },
      { event: "rate_limit.refused", ...by("web"), ...login, limit: "1 per 15m" },
      { event: "session.created", ...by("web"), ...of(one, 1) },
      { event: "session.created", ...by("web"), ...of(two, 1) },
      { event: "session.evicted", ...by("web"), ...of(one, 2), ...full },
      { event: "session.created", ...by("web"), ...of(three, 1) },
      { event: "session.token_rotated", ...by("web"), ...of(two, 2) },
      { event: "session.token_reused", ...by("api"), ...of(two, 3) },
      { event: "session.updated", ...by("web"), ...of(three, 2) },
      { event: "session.revoked", ...by("support"), ...of(two, 4), reason: "laptop stolen" },
      { event: "session.created", ...by("web"), ...of(four, 1) },
      { event: "session.revoked", ...by("support"), ...of(three, 3), reason: "account closed" },
      { event: "session.revoked", ...by("support"), ...of(four, 2), reason: "account closed" },
      {
        event: "permission.denied",
        ...by("guest"),
        permission: "sessions:delete",
        ...method("RevokeSession"),
      },
      {
        ...{ event: "access_token.refused", reason: "audience", ...method("CountSessions") },
        ...{ claimed_issuer: issuer.url, claimed_kid: "test" },
      },
      { event: "access_token.refused", reason: "missing", ...method("CountSessions") },
      { event: "keyring.changed", old_key: "first", new_key: "second", keys_added: ["second"] },
      { event: "server.stopped" },
    ];
    const byText = (a: object, b: object) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
    // A bulk revocation has no order.
    expect(server.audit.toSorted(byEvent)).toMatchObject(expected.toSorted(byEvent));
    expect(server.audit).toHaveLength(expected.length);
    expect(told.map(changeOf).toSorted(byText)).toEqual(changesIn(server.audit).toSorted(byText));
    const text = JSON.stringify(server.audit);
    for (const secret of [one.token, two.token, "canary", keyring.slice(6)]) {
      expect(text).not.toContain(secret);
    }
  });
});

function byEvent(a: object, b: object): number {
  const [one, other] = [a, b] as readonly LogLine[];
  const name = ({ event, session_id, reason, version }: LogLine = {}) =>
    JSON.stringify([event, session_id, reason, version]);
  return name(one) < name(other) ? -1 : 1;
}

test("a flood of refused calls has few lines that say how many there were, and hides no change", async () => {
  const file = await auditFile();
  const { server, as } = await startServer({
    SESSIOND_AUDIT_LOG: file,
    SESSIOND_STORE: "sqlite::memory:",
  });
  const stranger = createClient(SessionService, JSON_OVER_HTTP.open(server));
  const web = await as("web");
  const guest = await as("guest", "sessions:read");
  // Few at a time, so that none is shed before anybody asks who calls.
  const floods = Array.from({ length: MAX_LINES / 4 }, async () => {
    for (let i = 0; i < 3 * 4; i++) {
      await failureOf(stranger.countSessions({}));
      await failureOf(guest.revokeSession(byId("any")));
      await web.createSession({ userId: `user-${i}` });
    }
  });
  await Promise.all(floods);
  server.kill("SIGTERM");
  await server.ended;
  const lines = await linesOf(file);
  const of = (name: string) => lines.filter(({ event }) => event === name);
  expect(of("session.created")).toHaveLength(3 * MAX_LINES);
  for (const name of ["access_token.refused", "permission.denied"]) {
    expect(of(name)).toHaveLength(MAX_LINES + 1);
    expect(of(name).at(-1)).toMatchObject({ suppressed: 2 * MAX_LINES });
  }
  expect(of("permission.denied").at(-1)).toMatchObject({ caller: "guest" });
});

test("a renamed file is written on until SIGHUP, and then a new one that only its owner reads", async () => {
  const file = await auditFile();
  const env = { SESSIOND_AUDIT_LOG: file, SESSIOND_STORE: "sqlite::memory:" };
  const { server, as } = await startServer(env);
  const web = await as("web");
  await web.createSession({ userId: "ann" });
  await rename(file, `${file}.1`);
  await web.createSession({ userId: "bob" });
  const users = async (path: string) =>
    (await linesOf(path)).flatMap(({ user_id }) => user_id ?? []);
  await expect.poll(() => users(`${file}.1`)).toEqual(["ann", "bob"]);
  server.kill("SIGHUP");
  await server.logged("reloaded keyring and auth file: no change");
  await web.createSession({ userId: "cat" });
  await expect.poll(() => users(file)).toEqual(["cat"]);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect(await users(`${file}.1`)).toEqual(["ann", "bob"]);
});

test("a full disk under the audit fails no call and holds up no stop, and the log says so", async () => {
  const { server, as } = await startServer({
    SESSIOND_AUDIT_LOG: "/dev/full",
    SESSIOND_STORE: "sqlite::memory:",
  });
  const web = await as("web");
  for (let i = 0; i < 50; i++) await newSession(web);
  expect(await server.logged("the audit cannot be written")).toMatchObject({ level: "error" });
  expect((await scrape(server.httpUrl)).sum("sessiond_audit_lines_dropped_total")).toBe(0);
  const startMs = performance.now();
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
  expect(performance.now() - startMs).toBeLessThan(3_000);
});

test("at level warn the audit has only what was refused or reused", async () => {
  const { server, as } = await startServer({
    SESSIOND_AUDIT_LEVEL: "warn",
    SESSIOND_STORE: "sqlite::memory:",
  });
  const web = await as("web");
  const { token } = await newSession(web);
  await web.rotateSessionToken({ token });
  await failureOf(web.verifySession({ token }));
  await failureOf((await as("guest", "")).countSessions({}));
  const events = () => server.audit.map(({ event }) => event);
  await expect.poll(events).toEqual(["session.token_reused", "permission.denied"]);
});
