import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Browser, send } from "./testing/browser.js";
import { type Sessiond, startSessiond } from "./testing/sessiond.js";
import { form, startShop } from "./testing/shop.js";

const TLS = { "x-forwarded-proto": "https" };
const PAGE = { accept: "text/html,*/*;q=0.8", "sec-fetch-dest": "document" };
const BACKGROUND = { accept: "*/*", "sec-fetch-dest": "empty" };

let sessiond: Sessiond;
beforeAll(async () => {
  sessiond = await startSessiond({
    SESSIOND_RATE_LIMITS: "login: 1000 per 1m; login_user: 3 per 1h",
  });
});
afterAll(() => sessiond?.[Symbol.asyncDispose]());

const options = () => ({ client: sessiond.client, loginLimit: { userPolicy: "login_user" } });

/** A browser that talks to a shop of its own, as through a proxy that terminates TLS. */
async function browserAt(shop: Promise<string> = startShop(options())) {
  return new Browser(await shop, TLS);
}

async function loggedIn(name: string, browser?: Browser): Promise<Browser> {
  const used = browser ?? (await browserAt());
  expect((await used.send("/login", { form: form(name) })).status).toBe(200);
  return used;
}

const COOKIE = "__Host-session";

describe("the cookie", () => {
  test("is for this host, over TLS, hidden from scripts, and ends with the session", async () => {
    const browser = await browserAt();
    const { setCookie, headers } = await browser.send("/login", { form: form("ann") });
    expect(setCookie).toEqual([
      expect.stringMatching(
        /^__Host-session=sst_[\w-]+; Max-Age=86400; Path=\/; Expires=[^;]+ GMT; HttpOnly; Secure; SameSite=Lax$/,
      ),
    ]);
    expect(headers["cache-control"]).toBe("no-store");
    const [, expires = ""] = /Expires=([^;]+)/.exec(setCookie[0] ?? "") ?? [];
    const session = await sessiond.client.verifySession(browser.cookies.get(COOKIE));
    expect(Date.parse(expires)).toBe(Math.floor(Number(session?.absoluteExpireTime) / 1000) * 1000);
  });

  test("is called session on plain-http localhost, which is said once", async () => {
    const warnings: string[] = [];
    const shop = await startShop({ ...options(), warn: (message) => warnings.push(message) });
    for (const name of ["ben", "bea"]) {
      const { setCookie } = await send(`${shop}/login`, { form: form(name) });
      expect(setCookie[0]).toMatch(/^session=sst_.*; HttpOnly; SameSite=Lax$/);
    }
    expect(warnings).toEqual([expect.stringContaining("not Secure")]);
  });

  test.each([
    ["that a browser drops", { host: "192.0.2.7:3000" }, ["Browsers drop"]],
    ["that a browser drops behind a proxy", { "x-forwarded-proto": "http" }, ["Browsers drop"]],
    ["that a browser keeps", { "x-forwarded-proto": "https" }, []],
    ["that a browser keeps behind a proxy with TLS", { via: "1.1 proxy" }, []],
  ])("%s is told to the operator only if it will be missing", async (_, fields, expected) => {
    const warnings: string[] = [];
    const shop = await startShop({ ...options(), warn: (message) => warnings.push(message) });
    const headers = { host: "shop.test", ...fields };
    for (const name of ["pip", "pam"]) await send(`${shop}/login`, { form: form(name), headers });
    expect(warnings).toEqual(expected.map((text) => expect.stringContaining(text)));
  });

  test.each([
    ["behind a proxy that names localhost", TLS, {}],
    ["in production", {}, { cookie: { allowPlainLocalhost: false } }],
  ])("needs TLS %s", async (_, headers, more) => {
    const shop = await startShop({ ...options(), ...more });
    const { setCookie } = await send(`${shop}/login`, { form: form("cid"), headers });
    expect(setCookie[0]).toMatch(/^__Host-session=.*Secure/);
  });

  test("that is not valid is cleared", async () => {
    const browser = await browserAt();
    browser.cookies.set(COOKIE, "sst_nonsense");
    const { status, body } = await browser.send("/me", { headers: PAGE });
    expect([status, body]).toEqual([200, "{}"]);
    expect(browser.cookies.has(COOKIE)).toBe(false);
  });

  test("that is not valid is kept by what runs in the background beside a login", async () => {
    const browser = await loggedIn("dora");
    const old = new Browser(await startShop(options()), TLS);
    old.cookies.set(COOKIE, browser.cookies.get(COOKIE) ?? "");
    await browser.send("/logout", { form: {} });
    // As if another process had logged the user out.
    expect((await old.send("/mine", { headers: BACKGROUND })).status).toBe(401);
    expect(old.cookies.has(COOKIE)).toBe(true);
    expect((await old.send("/mine", { headers: PAGE })).status).toBe(401);
    expect(old.cookies.has(COOKIE)).toBe(false);
  });

  test("of a login is not cleared by a late answer to what was sent before it", async () => {
    const browser = await loggedIn("eve");
    const before = new Map(browser.cookies);
    const login = await browser.sendOnly("/login", { form: form("eve") });
    const late = await browser.sendOnly("/me", { headers: PAGE });
    expect(browser.cookies).toEqual(before);
    browser.receive(login);
    browser.receive(late);
    expect((await browser.send("/mine")).status).toBe(200);
  });
});

describe("a login", () => {
  test("makes a new token, and ends the session that the browser brought", async () => {
    const browser = await loggedIn("fay");
    const planted = browser.cookies.get(COOKIE);
    await loggedIn("gil", browser);
    expect(browser.cookies.get(COOKIE)).not.toBe(planted);
    expect(await sessiond.client.verifySession(planted)).toBeUndefined();
    expect(JSON.parse((await browser.send("/me")).body).user).toBe("gil");
  });

  test("ends no session of a browser whose password was wrong", async () => {
    const browser = await loggedIn("hal");
    const { status } = await browser.send("/login", { form: { name: "ida", password: "?" } });
    expect(status).toBe(401);
    expect((await browser.send("/mine")).status).toBe(200);
  });

  test("is refused after too many wrong passwords, with the time to wait", async () => {
    const browser = await browserAt();
    const wrong = { name: "jan", password: "?" };
    for (let i = 0; i < 3; i++)
      expect((await browser.send("/login", { form: wrong })).status).toBe(401);
    const refused = await browser.send("/login", { form: form("JAN ") });
    expect(refused.status).toBe(429);
    expect(Number(refused.headers["retry-after"])).toBeGreaterThan(3500);
    expect(refused.headers["ratelimit"]).toMatch(/^"login";r=\d+;t=\d+, "login_user";r=0;t=\d+$/);
    expect(refused.headers["content-type"]).toBe("application/problem+json");
    const page = await browser.send("/login", { form: wrong, headers: PAGE });
    expect(page.body).toContain("<h1>Too Many Requests</h1>");
    await loggedIn("kim", browser);
  });

  test("that succeeds forgets the attempts of its user, and not those of its address", async () => {
    const browser = await browserAt();
    const remaining = async (password: string) => {
      const { headers } = await browser.send("/login", { form: { name: "leo", password } });
      return String(headers["ratelimit"])
        .match(/r=\d+/g)
        ?.map((each) => Number(each.slice(2)));
    };
    const [address = 0] = (await remaining("?")) ?? [];
    expect(await remaining("oel")).toEqual([address - 1, 1]);
    expect(await remaining("?")).toEqual([address - 2, 2]);
  });

  test("without a name is the client's mistake", async () => {
    const browser = await browserAt();
    expect((await browser.send("/login", { form: { password: "x" } })).status).toBe(400);
  });
});

describe("a session", () => {
  test("is over after a logout, also for who kept the token", async () => {
    const browser = await loggedIn("mia");
    const token = browser.cookies.get(COOKIE) ?? "";
    const { setCookie } = await browser.send("/logout", { form: {} });
    expect(setCookie[0]).toMatch(/^__Host-session=; Max-Age=0; Path=\/; .*Secure/);
    browser.cookies.set(COOKIE, token);
    expect((await browser.send("/mine")).status).toBe(401);
  });

  test("gets a new token by a rotation, which loses no request that was under way", async () => {
    const browser = await loggedIn("ned");
    const old = browser.cookies.get(COOKIE) ?? "";
    const rotation = await browser.sendOnly("/rotate", { form: {} });
    expect((await browser.send("/mine")).status).toBe(200);
    browser.receive(rotation);
    expect(browser.cookies.get(COOKIE)).not.toBe(old);
    expect((await browser.send("/mine")).status).toBe(200);
  });

  test("has the same new token after two rotations at once", async () => {
    const browser = await loggedIn("ola");
    const rotate = () => browser.send("/rotate", { form: {} });
    const answers = await Promise.all([rotate(), rotate()]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    expect(new Set(answers.flatMap(({ setCookie }) => setCookie)).size).toBe(1);
    expect((await browser.send("/mine")).status).toBe(200);
  });

  test("is fresh again after the user proved their identity", async () => {
    const browser = await loggedIn("pam");
    await new Promise((resolve) => setTimeout(resolve, 300));
    const stale = await browser.send("/fresh/250");
    expect([stale.status, JSON.parse(stale.body).reason]).toEqual([401, "LOGIN_TOO_OLD"]);
    await browser.send("/rotate", { form: {} });
    expect((await browser.send("/fresh/250")).status).toBe(401);
    await browser.send("/reauthenticated", { form: {} });
    expect((await browser.send("/fresh/60000")).status).toBe(200);
    expect((await browser.send("/mine")).status).toBe(200);
  });

  test("of a user without the role gets nowhere", async () => {
    expect((await (await loggedIn("quin")).send("/admin")).status).toBe(403);
    expect((await (await loggedIn("admin")).send("/admin")).status).toBe(200);
    expect((await (await browserAt()).send("/admin")).status).toBe(401);
  });

  test("that a page needs leads to the login page, and back", async () => {
    const shop = await startShop({ ...options(), loginPath: "/login" });
    const page = await send(`${shop}/mine?a=1`, { headers: PAGE });
    expect([page.status, page.headers.location]).toEqual([303, "/login?return_to=%2Fmine%3Fa%3D1"]);
    const json = await send(`${shop}/mine`, { headers: { accept: "application/json" } });
    expect([json.status, json.headers["www-authenticate"]]).toEqual([401, "Bearer"]);
  });

  test("of a bearer token needs no cookie and gets none", async () => {
    const shop = await startShop(options());
    const { token } = JSON.parse((await send(`${shop}/token`, { form: { name: "rex" } })).body);
    const headers = { authorization: `Bearer ${token}` };
    const evil = { ...headers, origin: "https://evil.example" };
    expect((await send(`${shop}/note`, { method: "POST", headers: evil })).status).toBe(200);
    const rotation = await send(`${shop}/rotate`, { form: { graceMs: "0" }, headers });
    expect([rotation.status, rotation.setCookie]).toEqual([200, []]);
    const cookie = `session=${token}`;
    const ended = await send(`${shop}/mine`, { headers: { ...headers, cookie } });
    expect([ended.status, ended.setCookie]).toEqual([401, []]);
  });
});

describe("the devices of a user", () => {
  const firefox = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0",
  };

  test("are listed with their browsers, and one can be signed out", async () => {
    const shop = startShop({ ...options(), trustedProxies: ["loopback"] });
    const laptop = new Browser(await shop, {
      ...TLS,
      ...firefox,
      "x-forwarded-for": "6.6.6.6, 203.0.113.7",
    });
    const phone = new Browser(await shop, TLS);
    await loggedIn("sue", laptop);
    await loggedIn("sue", phone);
    const devices = JSON.parse((await phone.send("/devices")).body);
    expect(devices).toMatchObject([
      { isCurrent: true, device: "", ip: "127.0.0.1" },
      { isCurrent: false, device: "Firefox on Linux", ip: "203.0.113.7" },
    ]);
    const revoked = await phone.send(`/devices/${devices[1].id}/revoke`, { form: {} });
    expect(JSON.parse(revoked.body)).toEqual({ revoked: true });
    expect((await laptop.send("/mine")).status).toBe(401);
    await phone.send(`/devices/${devices[0].id}/revoke`, { form: {} });
    expect(phone.cookies.size).toBe(0);
  });

  test("of another user cannot be signed out", async () => {
    const victim = await loggedIn("tom");
    const [{ id }] = JSON.parse((await victim.send("/devices")).body);
    const attacker = await loggedIn("uma");
    const answer = await attacker.send(`/devices/${id}/revoke`, { form: {} });
    expect(JSON.parse(answer.body)).toEqual({ revoked: false });
    expect((await victim.send("/mine")).status).toBe(200);
  });

  test("are all signed out but this one", async () => {
    const shop = startShop(options());
    const browsers = await Promise.all([browserAt(shop), browserAt(shop), browserAt(shop)]);
    for (const browser of browsers) await loggedIn("vic", browser);
    const answer = await browsers[0]?.send("/elsewhere", { form: {} });
    expect(JSON.parse(answer?.body ?? "")).toEqual({ ended: 2 });
    const statuses = await Promise.all(
      browsers.map(async (each) => (await each.send("/mine")).status),
    );
    expect(statuses).toEqual([200, 401, 401]);
  });
});
