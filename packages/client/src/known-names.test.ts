import { expect, test } from "vitest";
import { createSessionClient, type SessionClient } from "./client.js";
import type { LockClient } from "./locks/lock-client.js";
import type { RateLimitClient } from "./rate-limits/rate-limit-client.js";
import { createRateLimitMiddleware } from "./rate-limits/rate-limit-middleware.js";
import { collect, rejection, startClient } from "./testing/session-server.js";

/** Every method of a client that takes options, called with these. */
type CallsOf<C, Without extends keyof C> = {
  [M in Exclude<keyof C, Without>]: (client: SessionClient, options: object) => Promise<unknown>;
};
const lock = { name: "invoices", lockId: "1" };
const calls = {
  createSession: (client, options) => client.createSession({ userId: "u" }, options),
  verifySession: (client, options) => client.verifySession("t", options),
  batchVerifySessions: (client, options) => client.batchVerifySessions(["t"], options),
  getSession: (client, options) => client.getSession("s", options),
  batchGetSessions: (client, options) => client.batchGetSessions(["s"], options),
  listSessions: (client, options) => client.listSessions({}, options),
  listAllSessions: (client, options) => collect(client.listAllSessions({}, options)),
  countSessions: (client, options) => client.countSessions({}, options),
  updateSession: (client, options) => client.updateSession("s", { data: {} }, options),
  refreshSession: (client, options) => client.refreshSession({ token: "t" }, options),
  rotateSessionToken: (client, options) => client.rotateSessionToken("t", options),
  revokeSession: (client, options) => client.revokeSession({ token: "t" }, options),
  revokeUserSessions: (client, options) => client.revokeUserSessions("u", options),
  watchSessions: (client, options) => client.watchSessions(options).next(),
  withLock: ({ locks }, options) => locks.withLock("invoices", options, () => {}),
  acquire: ({ locks }, options) => locks.acquire("invoices", options),
  renew: ({ locks }, options) => locks.renew(lock, options),
  release: ({ locks }, options) => locks.release(lock, options),
  get: async ({ locks, rateLimits }, options) => {
    await rejection(locks.get("invoices", options));
    await rateLimits.get("login", "k", options);
  },
  check: ({ rateLimits }, options) => rateLimits.check("login", "k", options),
  reset: ({ rateLimits }, options) => rateLimits.reset("login", "k", options),
} satisfies CallsOf<
  SessionClient,
  "close" | "locks" | "nearCache" | "rateLimits" | typeof Symbol.dispose
> &
  CallsOf<LockClient, never> &
  CallsOf<RateLimitClient, never>;

test.each(Object.entries(calls))("%s refuses a misspelt option by name", async (_, call) => {
  const { server, client } = await startClient({});
  expect(await rejection(call(client, { singal: undefined }))).toMatchObject({
    reason: "INVALID_ARGUMENT",
    message: "singal: unknown; did you mean signal?",
    fieldViolations: [{ field: "singal" }],
  });
  expect(server.calls).toEqual([]);
});

test.each<[string, (client: SessionClient, wrong: object) => unknown, object, string]>([
  [
    "a session",
    (client, wrong) => client.createSession({ userId: "u", ...wrong }),
    { idle_timeout: 1, userid: "u" },
    "idle_timeout: unknown; did you mean idleTimeoutMs?; userid: unknown; did you mean userId?",
  ],
  [
    "a session's client",
    (client, wrong) => client.createSession({ userId: "u", client: wrong }),
    { useragent: "curl" },
    "client.useragent: unknown; did you mean userAgent?",
  ],
  [
    "an update",
    (client, wrong) => client.updateSession("s", { setClient: wrong }),
    { "user-agent": "curl" },
    "setClient.user-agent: unknown; did you mean userAgent?",
  ],
  [
    "an update that names another field",
    (client, wrong) => client.updateSession("s", wrong),
    { expireTime: new Date() },
    "expireTime: unknown; expected one of displayName, roles, client, setClient, data, setData, deleteData",
  ],
  [
    "a fence",
    (client, wrong) => client.updateSession("s", { data: {} }, { fence: wrong as never }),
    { lock: "l", fencingToken: 1 },
    "fence.fencingToken: unknown; expected one of lock, token",
  ],
  [
    "a query",
    (client, wrong) => client.listSessions(wrong),
    { userid: "u" },
    "userid: unknown; did you mean userId?",
  ],
  [
    "a list of all pages that begins at one",
    (client, wrong) => collect(client.listAllSessions(wrong)),
    { pageToken: "2" },
    "pageToken: unknown; expected one of userId",
  ],
  [
    "a filter",
    (client, wrong) => client.listSessions({ filter: wrong }),
    { roles: "admin" },
    "filter.roles: unknown; did you mean role?",
  ],
  [
    "a count",
    (client, wrong) => client.countSessions(wrong),
    { user_id: "u" },
    "user_id: unknown; did you mean userId?",
  ],
  [
    "a target",
    (client, wrong) => client.revokeSession(wrong as never),
    { sessionID: "s" },
    "sessionID: unknown; did you mean sessionId?",
  ],
  ["options", (client, wrong) => client.getSession("s", wrong), [5], "0: unknown"],
])("%s with a misspelt field is refused by its name", async (_, call, wrong, message) => {
  const { server, client } = await startClient({});
  const error = await rejection(Promise.resolve(call(client, wrong)));
  expect(error.message.slice(0, message.length)).toBe(message);
  expect(server.calls).toEqual([]);
});

test("the client and the middleware refuse a misspelt option, too", () => {
  const options = { baseUrl: "http://127.0.0.1:1", token: "t", timeOut: 5, tokn: "t" };
  expect(() => createSessionClient(options)).toThrow(
    "timeOut: unknown; did you mean timeoutMs?; tokn: unknown; did you mean token?",
  );
  const middleware = { policy: "login", key: () => "k", rateLimits: {}, whenUnavailible: "allow" };
  expect(() => createRateLimitMiddleware(middleware as never)).toThrow(
    "whenUnavailible: unknown; did you mean whenUnavailable?",
  );
});

test("an argument that is no object is refused as what it is", async () => {
  const { client } = await startClient({});
  const error = await rejection(client.createSession("user-1" as never));
  expect(error.message).toBe("session: expected an object, not string");
});
