import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { SERVICES } from "../services/services.js";
import { failureIfAny } from "../testing/outcome.js";
import {
  clientOver,
  GRPC,
  locksOver,
  PROTOCOLS,
  type Protocol,
  pathOf,
  rateLimitsOver,
} from "../testing/protocols.js";
import { byId, byToken, newSession, newUser, renaming } from "../testing/session-requests.js";
import { useTestServer } from "../testing/test-server.js";

const server = useTestServer();
const OTHER_PROTOCOLS = PROTOCOLS.filter((protocol) => protocol !== GRPC);

/** What differs from one run of the same calls to the next. */
const CHANGING: readonly [pattern: RegExp, name: string][] = [
  [/sst_[\w-]{90,}/g, "<session token>"],
  [/[0-9a-f]{64}/g, "<session id>"],
  [/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "<random>"],
  [/("etag":|"nextPageToken":|"lockId":)"[\w-]+"/g, '$1"<text>"'],
  [/"seconds":"\d{10}","nanos":\d+/g, "<time>"],
  [/"\d{13,}"/g, "<fencing token>"],
  [/("retryAfter":|"resetTime":)\{[^}]*\}/g, "$1<from now>"],
];

/** The answers and failures of calls of every method over one protocol, as text. */
async function answersOver(protocol: Protocol): Promise<readonly string[]> {
  const answers: string[] = [];
  async function ask<T extends object>(name: string, call: Promise<T>): Promise<T> {
    const failure = await failureIfAny(call);
    let text = JSON.stringify(failure ?? (await call), (_, value) =>
      typeof value === "bigint" ? `${value}` : value,
    );
    for (const [pattern, placeholder] of CHANGING) text = text.replaceAll(pattern, placeholder);
    answers.push(`${name}: ${text}`);
    return failure ? ({} as T) : call;
  }
  await callSessions(protocol, ask);
  await callLocks(protocol, ask);
  await callRateLimits(protocol, ask);
  return answers;
}

type Ask = <T extends object>(name: string, call: Promise<T>) => Promise<T>;

async function callSessions(protocol: Protocol, ask: Ask): Promise<void> {
  const client = clientOver(protocol, server);
  const userId = newUser();
  const chosenId = `jti-${randomUUID()}`;
  const requestId = randomUUID();
  const created = await ask(
    "create",
    client.createSession({
      ...{ userId, displayName: "Ann Ähnlich 🙂", roles: ["admin", "b"] },
      client: { ip: "203.0.113.7", userAgent: "curl/8", device: "laptop" },
      data: { theme: "dark", cart: [1, 2.5, null, { nested: true }], "a.b": "" },
      ...{ idleTimeout: { seconds: 90n, nanos: 500_000_000 }, lifetime: { seconds: 3600n } },
    }),
  );
  // Sessions of the same millisecond are listed in any order.
  await sleep(2);
  const { token } = created;
  const sessionId = created.session?.id ?? "";
  const chosen = { userId, sessionId: chosenId, requestId };
  await ask("choose an id", client.createSession(chosen));
  await ask("repeat a request", client.createSession(chosen));
  await ask("reuse its id", client.createSession({ userId, requestId }));
  await ask("choose a taken id", client.createSession({ userId, sessionId: chosenId }));
  await ask("create nothing", client.createSession({}));
  await ask("verify", client.verifySession({ token, noTouch: true }));
  await ask("verify nonsense", client.verifySession({ token: "sst_nonsense" }));
  await ask("verify a batch", client.batchVerifySessions({ tokens: [token, "nonsense", token] }));
  await ask("get", client.getSession({ sessionId, userId }));
  await ask("get of another", client.getSession({ sessionId, userId: newUser() }));
  const readMask = { paths: ["roles", "client.ip"] };
  await ask("get a part", client.getSession({ sessionId, readMask }));
  await ask("get a batch", client.batchGetSessions({ sessionIds: ["none", sessionId], readMask }));
  const list = { userId, orderBy: "create_time", pageSize: 1, filter: { ip: "203.0.113.7" } };
  const { nextPageToken: pageToken = "" } = await ask("list", client.listSessions(list));
  await ask("list on", client.listSessions({ ...list, pageToken }));
  await ask("list in no order", client.listSessions({ orderBy: "user_id" }));
  await ask("count", client.countSessions({ userId }));
  const update = { sessionId, session: { roles: ["c"], data: { theme: "light" } } };
  const updateMask = { paths: ["roles", "data.theme", "data.cart", "client.ip"] };
  await ask("update", client.updateSession({ ...update, updateMask }));
  await ask("update late", client.updateSession({ ...renaming(sessionId, "x"), etag: "old" }));
  const fence = { lock: "l", token: 5n };
  await ask("update fenced", client.updateSession({ ...renaming(sessionId, "x"), fence }));
  const overtaken = { lock: "l", token: 4n };
  await ask("be late", client.updateSession({ ...renaming(sessionId, "x"), fence: overtaken }));
  await ask("refresh by id", client.refreshSession(byId(sessionId)));
  await ask("refresh by token", client.refreshSession(byToken(token)));
  await ask("refresh nothing", client.refreshSession({}));
  const { token: rotated = "" } = await ask("rotate", client.rotateSessionToken({ token }));
  await ask("rotate again", client.rotateSessionToken({ token }));
  const reason = "logout — häufig";
  await ask("revoke", client.revokeSession({ ...byToken(rotated), reason }));
  await ask("revoke again", client.revokeSession(byId(sessionId)));
  const ended = { userId, showRevoked: true, orderBy: "create_time" };
  await ask("list revoked", client.listSessions(ended));
  for (let i = 0; i < 9; i++) await newSession(client, { userId });
  await ask("evict", client.createSession({ userId }));
  const rest = { userId, exceptSessionId: chosenId, reason };
  await ask("revoke all", client.revokeUserSessions(rest));
}

async function callLocks(protocol: Protocol, ask: Ask): Promise<void> {
  const locks = locksOver(protocol, server);
  const name = `lock-${randomUUID()}`;
  const ttl = durationFromMs(60_000);
  await ask("get no lock", locks.getLock({ name }));
  const { lockId = "" } = await ask("acquire", locks.acquireLock({ name, ttl }));
  await ask("get a lock", locks.getLock({ name }));
  const waitTimeout = durationFromMs(0);
  await ask("find it held", locks.acquireLock({ name, waitTimeout }));
  await ask("renew", locks.renewLock({ name, lockId, ttl }));
  await ask("release", locks.releaseLock({ name, lockId }));
  await ask("release again", locks.releaseLock({ name, lockId }));
  await ask("acquire no name", locks.acquireLock({ name: "" }));
}

async function callRateLimits(protocol: Protocol, ask: Ask): Promise<void> {
  const limits = rateLimitsOver(protocol, server);
  const attempt = { policy: "login", key: `203.0.113.7/${randomUUID()}` };
  await ask("look", limits.getRateLimit(attempt));
  await ask("attempt", limits.checkRateLimit({ ...attempt, cost: 10 }));
  await ask("attempt too much", limits.checkRateLimit(attempt));
  await ask("reset", limits.resetRateLimit(attempt));
  await ask("attempt nothing", limits.checkRateLimit({ ...attempt, cost: 0 }));
  await ask("attempt elsewhere", limits.checkRateLimit({ ...attempt, policy: "none" }));
}

test.each(OTHER_PROTOCOLS)("every call over $name is answered as over gRPC", async (protocol) => {
  expect(await answersOver(protocol)).toEqual(await answersOver(GRPC));
});

test("the calls above are of every unary method", () => {
  const called = new Set(server.logs.map(({ method }) => method));
  const methods = SERVICES.flatMap((service) => service.methods);
  const unary = methods.filter(({ methodKind }) => methodKind === "unary").map(pathOf);
  expect(unary.filter((path) => !called.has(path.slice(1)))).toEqual([]);
});

test("a session and a repeated request are the same over every protocol", async () => {
  const clients = PROTOCOLS.map((protocol) => clientOver(protocol, server));
  for (const creator of clients) {
    const request = {
      ...{ userId: newUser(), requestId: randomUUID(), roles: ["admin"] },
      data: { "": 1, "a.b": [true, null], deep: { number: -0.5, text: "\u0000\u2028" } },
    };
    const first = await creator.createSession(request);
    for (const reader of clients) {
      const { session } = await reader.verifySession({ token: first.token });
      expect(session).toEqual(first.session);
      expect(await reader.createSession(request)).toEqual(first);
    }
  }
});
