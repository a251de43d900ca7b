import { createSessionClient, type SessionClient, SessiondError } from "@sessiond/client";
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { createSessionStorage } from "./react-router.js";
import type { SessionData } from "./register.js";
import { type Sessiond, startSessiond } from "./testing/sessiond.js";

interface Data {
  userId: string;
  theme: string;
}

let sessiond: Sessiond;
beforeAll(async () => {
  sessiond = await startSessiond();
});
afterAll(() => sessiond?.[Symbol.asyncDispose]());

const storage = (client = sessiond.client) =>
  createSessionStorage<Data>({
    client,
    user: ({ userId }) => userId && { userId },
    cookie: { allowPlainLocalhost: false },
  });

/** The client with methods of a test's own: for what happens between two calls, or to one. */
const clientWith = (
  methods: Partial<Pick<SessionClient<SessionData>, "updateSession" | "revokeSession">>,
) =>
  new Proxy(sessiond.client, {
    get(client, name) {
      if (Object.hasOwn(methods, name)) return Reflect.get(methods, name);
      const value = Reflect.get(client, name);
      return typeof value === "function" ? value.bind(client) : value;
    },
  });

/** The `Cookie` that a browser sends after this `Set-Cookie`. */
const sent = (setCookie: string) => setCookie.split(";", 1)[0] ?? "";
const tokenIn = (cookie: string) => cookie.slice("__Host-session=".length);

test("a login gives a guest's session a new token, ends the old one, and keeps its data", async () => {
  const { getSession, commitSession } = storage();
  const guest = await getSession(null);
  guest.set("theme", "dark");
  guest.flash("userId", "");
  const planted = sent(await commitSession(guest));

  const session = await getSession(planted);
  session.unset("userId");
  session.set("userId", "ann");
  const setCookie = await commitSession(session);
  expect(setCookie).toMatch(
    /^__Host-session=sst_.*Max-Age=86400;.*HttpOnly; Secure; SameSite=Lax$/,
  );
  expect((await getSession(planted)).get("theme")).toBeUndefined();
  const now = await getSession(sent(setCookie));
  expect([now.get("userId"), now.get("theme")]).toEqual(["ann", "dark"]);
  const kept = await sessiond.client.verifySession(tokenIn(sent(setCookie)));
  expect(kept?.userId).toBe("ann");
});

test("a commit of the same user changes the data, and not the token", async () => {
  const { getSession, commitSession } = storage();
  const session = await getSession();
  session.set("userId", "bob");
  const cookie = sent(await commitSession(session));
  const again = await getSession(cookie);
  again.set("theme", "light");
  again.flash("theme", "once");
  expect(sent(await commitSession(again))).toBe(cookie);
  const read = await getSession(cookie);
  expect(read.get("theme")).toBe("light");
});

test("a session that was ended meanwhile does not come back by a commit", async () => {
  const { getSession, commitSession } = storage();
  const session = await getSession();
  session.set("userId", "cid");
  const cookie = sent(await commitSession(session));
  const late = await getSession(cookie);
  await sessiond.client.revokeUserSessions("cid");
  late.set("theme", "dark");
  expect(await commitSession(late)).toMatch(/^__Host-session=; Max-Age=0/);
  expect(await sessiond.client.countSessions({ userId: "cid" })).toBe(0);
});

test("a destroyed session is over, and a session without its user is a guest's", async () => {
  const { getSession, commitSession, destroySession } = storage();
  const session = await getSession();
  session.set("userId", "dan");
  const cookie = sent(await commitSession(session));
  const left = await getSession(cookie);
  left.unset("userId");
  const guest = sent(await commitSession(left));
  expect(await sessiond.client.countSessions({ userId: "dan" })).toBe(0);
  expect(await destroySession(await getSession(guest))).toMatch(/^__Host-session=; Max-Age=0/);
  expect(await sessiond.client.verifySession(tokenIn(guest))).toBeUndefined();
});

test("an outage is an error of status 503, never an empty session", async () => {
  const client = createSessionClient({ baseUrl: "http://127.0.0.1:1", token: "t", maxAttempts: 1 });
  const warnings: string[] = [];
  const warn = (message: string) => warnings.push(message);
  const { getSession } = createSessionStorage<Data>({ client, user: () => undefined, warn });
  const reading = getSession("__Host-session=sst_1");
  await expect(reading).rejects.toMatchObject({ name: "WebError", status: 503 });
  expect(warnings).toEqual([expect.stringContaining("ECONNREFUSED 127.0.0.1:1")]);
  client.close();
});

test("a refused access token is told to the operator", async () => {
  const client = createSessionClient({ baseUrl: sessiond.baseUrl, token: "expired" });
  const reported: unknown[] = [];
  const { getSession } = createSessionStorage<Data>({
    client,
    user: () => undefined,
    onError: (error) => reported.push(error),
  });
  await expect(getSession("__Host-session=sst_1")).rejects.toMatchObject({ status: 500 });
  expect(reported).toMatchObject([{ cause: { reason: "UNAUTHENTICATED" } }]);
  client.close();
});

test("a session that ends during its commit is answered as one that had ended before", async () => {
  let isLate = false;
  const ending = clientWith({
    async updateSession(...args) {
      if (isLate) await sessiond.client.revokeUserSessions("eva");
      return sessiond.client.updateSession(...args);
    },
  });
  const { getSession, commitSession } = storage(ending);
  const session = await getSession();
  session.set("userId", "eva");
  const late = await getSession(sent(await commitSession(session)));
  isLate = true;
  expect(await commitSession(late)).toMatch(/^__Host-session=; Max-Age=0/);
});

test("a login that cannot end the guest's session leaves no other one behind", async () => {
  const failing = clientWith({
    revokeSession: (target, options) =>
      options?.reason === undefined
        ? sessiond.client.revokeSession(target)
        : Promise.reject(new SessiondError("UNAVAILABLE", "lost")),
  });
  const { getSession, commitSession } = storage(failing);
  const guest = await getSession(sent(await storage().commitSession(await storage().getSession())));
  guest.set("userId", "fay");
  await expect(commitSession(guest)).rejects.toMatchObject({ status: 503 });
  expect(await sessiond.client.countSessions({ userId: "fay" })).toBe(0);
});

test.each([
  [{ warning: () => {} }, "warning: unknown; expected one of client, user, cookie"],
  [{ cookie: { Domain: "example.com" } }, "cookie.Domain: unknown"],
  [{ user: "ann" }, "user: expected a function"],
  [{ client: {} }, "client: expected a client"],
])("the option in %j is refused by its name", (options, message) => {
  const right = { client: sessiond.client, user: () => undefined };
  expect(() => createSessionStorage({ ...right, ...options } as never)).toThrow(message);
});

test.each([
  [undefined, /^__Host-session=.*Secure/],
  ["production", /^__Host-session=.*Secure/],
  ["development", /^session=sst_/],
])("the cookie needs TLS unless NODE_ENV is development: %s", async (mode, cookie) => {
  vi.stubEnv("NODE_ENV", mode);
  onTestFinished(() => void vi.unstubAllEnvs());
  const { getSession, commitSession } = createSessionStorage<Data>({
    client: sessiond.client,
    user: () => undefined,
    warn() {},
  });
  expect(await commitSession(await getSession())).toMatch(cookie);
});
