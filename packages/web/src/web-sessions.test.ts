import { createSessionClient, SessiondError } from "@sessiond/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Sessiond, startSessiond } from "./testing/sessiond.js";
import { createWebSessions, type WebSessions } from "./web-sessions.js";

let sessiond: Sessiond;
let web: WebSessions;
beforeAll(async () => {
  sessiond = await startSessiond();
  web = createWebSessions({ client: sessiond.client });
});
afterAll(() => sessiond?.[Symbol.asyncDispose]());

const URL_OF_LOGIN = "https://shop.example.com/login";

test("a login with the Fetch API gives the cookie, also with a redirect, and keeps other cookies", async () => {
  const request = new Request(URL_OF_LOGIN, { method: "POST" });
  const response = await web.handle(request, "203.0.113.7", async (session) => {
    const { notices } = await session.login({ userId: "ann", data: { theme: "dark" } });
    expect(notices).toEqual([]);
    const response = Response.redirect("https://shop.example.com/", 303);
    const headers = new Headers(response.headers);
    headers.append("Set-Cookie", "theme=dark");
    return new Response(null, { status: response.status, headers });
  });
  const [theme, session = ""] = response.headers.getSetCookie();
  expect([response.status, theme]).toEqual([303, "theme=dark"]);
  const [, token] = /^__Host-session=(sst_[\w-]+);/.exec(session) ?? [];
  expect(await sessiond.client.verifySession(token)).toMatchObject({
    userId: "ann",
    client: { ip: "203.0.113.7" },
  });
});

test("a handler has the token for a call to another service, also after a login", async () => {
  const headers = { cookie: "__Host-session=sst_old" };
  const request = new Request(URL_OF_LOGIN, { method: "POST", headers });
  await web.handle(request, undefined, async (session) => {
    expect(session.token()).toBe("sst_old");
    const { token } = await session.login({ userId: "cat" });
    expect(session.token()).toBe(token);
    await session.logout();
    expect(session.token()).toBeUndefined();
    return new Response();
  });
});

test("a forged request does not reach its handler", async () => {
  const headers = { origin: "https://evil.example", accept: "text/html" };
  const request = new Request(URL_OF_LOGIN, { method: "POST", headers });
  const response = await web.handle(request, undefined, () => {
    throw new Error("reached");
  });
  expect(response.status).toBe(403);
  expect(await response.text()).toContain("<h1>Forbidden</h1>");
});

test("a session is asked for once a request, and not before a handler wants it", async () => {
  let calls = 0;
  const counting = new Proxy(sessiond.client, {
    get(client, name) {
      if (name !== "verifySession") return Reflect.get(client, name);
      return (...args: Parameters<typeof client.verifySession>) => {
        calls += 1;
        return client.verifySession(...args);
      };
    },
  });
  const { token } = await sessiond.client.createSession({ userId: "bob" });
  const headers = { cookie: `__Host-session=${token}` };
  const request = new Request("https://shop.example.com/", { headers });
  await createWebSessions({ client: counting }).handle(request, undefined, async (session) => {
    expect(calls).toBe(0);
    const [first, second] = await Promise.all([session.get(), session.require()]);
    expect(first).toBe(second);
    return new Response();
  });
  expect(calls).toBe(1);
});

test("what else a handler throws passes through, and what the SDK throws is told to the operator alone", async () => {
  const request = new Request("https://shop.example.com/");
  const fault = new RangeError("mine");
  await expect(web.handle(request, undefined, () => Promise.reject(fault))).rejects.toBe(fault);
  const reported: unknown[] = [];
  const onError = (error: unknown) => reported.push(error);
  const telling = createWebSessions({ client: sessiond.client, onError });
  const response = await telling.handle(request, undefined, () => {
    throw new SessiondError("PERMISSION_DENIED", "the secret is 42");
  });
  expect([response.status, await response.text()]).toEqual([
    500,
    expect.not.stringContaining("42"),
  ]);
  expect(reported).toMatchObject([{ cause: { message: "the secret is 42" } }]);
});

test.each([
  [{ trustedOrigin: [] }, "trustedOrigin: unknown"],
  [{ cookie: { samesite: "strict" } }, "cookie.samesite: unknown; expected one of name, domain"],
  [{ cookie: { sameSite: "none" } }, "cookie.sameSite: expected lax or strict"],
  [{ loginLimit: { userpolicy: "u" } }, "loginLimit.userpolicy: unknown; expected one of"],
  [{ trustedOrigins: ["login.example.com"] }, "trustedOrigins: expected origins"],
  [{ trustedProxies: ["10.0.0.0/99"] }, "trustedProxies: expected"],
  [{ loginPath: "//evil.example" }, "loginPath: expected a path"],
  [
    { cookie: { domain: "example.com", name: "__Host-s" } },
    "cookie.name: a cookie with the prefix",
  ],
  [{ client: undefined }, "client: expected"],
])("the option in %j is refused by its name", (options, message) => {
  expect(() => createWebSessions({ client: sessiond.client, ...options } as never)).toThrow(
    message,
  );
});

test("an outage is told to the operator with its cause, and again after a minute", async () => {
  const client = createSessionClient({ baseUrl: "http://127.0.0.1:1", token: "t", maxAttempts: 1 });
  const warnings: string[] = [];
  let nowMs = 0;
  const away = createWebSessions({
    client,
    warn: (message) => warnings.push(message),
    now: () => nowMs,
  });
  const headers = { cookie: "__Host-session=sst_old" };
  for (nowMs of [0, 59_999, 60_000]) {
    const request = new Request("https://shop.example.com/", { headers });
    await away.handle(request, undefined, async (session) => Response.json(await session.get()));
  }
  client.close();
  const told = expect.stringMatching(/^sessiond cannot answer.*UNAVAILABLE.*127\.0\.0\.1:1/);
  expect(warnings).toEqual([told, told]);
});

test("what an operator set up wrong in front of the application is told once", async () => {
  const warnings: string[] = [];
  const warn = (message: string) => warnings.push(message);
  const options = { client: sessiond.client, warn };
  const logIn = async (web: WebSessions, headers: Record<string, string>) => {
    const request = new Request(URL_OF_LOGIN, { method: "POST", headers });
    return web.handle(request, "127.0.0.1", async (session) => {
      await session.attemptLogin("ann", () => undefined);
      return new Response();
    });
  };
  const proxied = { "x-forwarded-for": "203.0.113.7" };
  await logIn(createWebSessions({ ...options, trustedProxies: ["loopback"] }), proxied);
  expect(warnings).toEqual([]);
  const web = createWebSessions(options);
  for (const headers of [proxied, { origin: "https://other.example" }]) {
    await logIn(web, headers);
    await logIn(web, headers);
  }
  const texts = ["trustedProxies", "trustedOrigins"];
  expect(warnings).toEqual(texts.map((text) => expect.stringContaining(text)));
});

test("a login without a user name is told what is missing", async () => {
  const request = new Request(URL_OF_LOGIN, { method: "POST" });
  const response = await web.handle(request, "127.0.0.1", async (session) => {
    await session.attemptLogin(undefined as never, () => undefined);
    return new Response();
  });
  const detail = "The request is not valid: expected a user name.";
  expect(await response.json()).toMatchObject({ status: 400, detail });
});
