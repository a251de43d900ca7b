import { once } from "node:events";
import { inspect } from "node:util";
import { serve } from "@hono/node-server";
import { createSessionClient } from "@sessiond/client";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import * as onExpress from "./express.js";
import * as onFastify from "./fastify.js";
import * as onHono from "./hono.js";
import type { WebSessionsOptions } from "./options.js";
import { Browser } from "./testing/browser.js";
import { listen } from "./testing/listen.js";
import { type Sessiond, startSessiond } from "./testing/sessiond.js";

let sessiond: Sessiond;
beforeAll(async () => {
  sessiond = await startSessiond({
    SESSIOND_RATE_LIMITS: "login: 1000 per 1m; login_user: 2 per 1h",
  });
});
afterAll(() => sessiond?.[Symbol.asyncDispose]());

/** Each application sets a cookie of its own before it logs the user in, whose password is `right`. */
const check = (name: string, password: string) => () =>
  password === "right" ? { userId: name, roles: ["reader"] } : undefined;

async function startExpress(options: WebSessionsOptions): Promise<string> {
  const app = express();
  app.use(express.urlencoded(), onExpress.sessions(options));
  app.post("/login", async (req, res) => {
    res.cookie("theme", "dark");
    const { name, password } = req.body;
    const created = await req.sessiond.attemptLogin(name, check(name, password));
    res.status(created ? 200 : 401).send("");
  });
  app.get("/mine", onExpress.requireSession(), (_req, res) => void res.send("mine"));
  app.get("/admin", onExpress.requireRole("admin"), (_req, res) => void res.send("admin"));
  app.get("/fresh", onExpress.requireFresh(60_000), (_req, res) => void res.send("fresh"));
  app.post("/logout", async (req, res) => {
    await req.sessiond.logout();
    res.send("");
  });
  app.use(onExpress.sessionErrors());
  return listen(app.set("env", "test"));
}

async function startFastify(options: WebSessionsOptions): Promise<string> {
  const app = fastify();
  onTestFinished(() => app.close());
  const type = "application/x-www-form-urlencoded";
  app.addContentTypeParser(type, { parseAs: "string" }, async (_request: unknown, body: string) =>
    Object.fromEntries(new URLSearchParams(body)),
  );
  await app.register(onFastify.sessions, options);
  app.post<{ Body: { name: string; password: string } }>("/login", async (request, reply) => {
    reply.header("Set-Cookie", "theme=dark; Path=/");
    const { name, password } = request.body;
    const created = await request.sessiond.attemptLogin(name, check(name, password));
    return reply.code(created ? 200 : 401).send("");
  });
  app.get("/mine", { preHandler: onFastify.requireSession() }, async () => "mine");
  app.get("/admin", { preHandler: onFastify.requireRole("admin") }, async () => "admin");
  app.get("/fresh", { preHandler: onFastify.requireFresh(60_000) }, async () => "fresh");
  app.post("/logout", async (request) => {
    await request.sessiond.logout();
    return "";
  });
  return app.listen({ host: "127.0.0.1", port: 0 });
}

async function startHono(options: WebSessionsOptions): Promise<string> {
  const app = new Hono();
  app.use(onHono.sessions(options));
  app.post("/login", async (c) => {
    c.header("Set-Cookie", "theme=dark; Path=/");
    const { name, password } = await c.req.parseBody<{ name: string; password: string }>();
    const created = await c.var.sessiond.attemptLogin(name, check(name, password));
    return c.body("", created ? 200 : 401);
  });
  app.get("/mine", onHono.requireSession(), (c) => c.text("mine"));
  app.get("/admin", onHono.requireRole("admin"), (c) => c.text("admin"));
  app.get("/fresh", onHono.requireFresh(60_000), (c) => c.text("fresh"));
  app.post("/logout", async (c) => {
    await c.var.sessiond.logout();
    return c.body("");
  });
  const server = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 });
  onTestFinished(() => void server.close());
  if (!server.listening) await once(server, "listening");
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
}

const DOORS = { Express: startExpress, Fastify: startFastify, Hono: startHono };
const COOKIE = "__Host-session";
const HTML = { accept: "text/html" };

describe.each(Object.entries(DOORS))("a browser of an application on %s", (door, start) => {
  async function open(options: Partial<WebSessionsOptions> = {}): Promise<Browser> {
    const loginLimit = { userPolicy: "login_user" };
    const origin = await start({ client: sessiond.client, loginLimit, ...options });
    return new Browser(origin, { "x-forwarded-proto": "https" });
  }
  const login = (name: string, password = "right") => ({ form: { name: door + name, password } });

  test("logs in, reads what is theirs, and logs out", async () => {
    const browser = await open();
    const { status, setCookie, headers } = await browser.send("/login", login("ann"));
    expect([status, headers["cache-control"]]).toEqual([200, "no-store"]);
    expect(setCookie).toEqual([
      expect.stringContaining("theme=dark"),
      expect.stringMatching(/^__Host-session=sst_.*Path=\/;.*HttpOnly; Secure; SameSite=Lax$/),
    ]);
    const token = browser.cookies.get(COOKIE);
    expect((await browser.send("/mine")).body).toBe("mine");
    expect((await browser.send("/fresh")).body).toBe("fresh");
    expect((await browser.send("/admin")).status).toBe(403);
    await browser.send("/logout", { form: {} });
    expect([...browser.cookies]).toEqual([["theme", "dark"]]);
    expect(await sessiond.client.verifySession(token)).toBeUndefined();
  });

  test("is refused when another site sent it, and when it guesses", async () => {
    const browser = await open();
    const evil = { "sec-fetch-site": "cross-site", origin: "https://evil.example", ...HTML };
    const forged = await browser.send("/login", { ...login("bob"), headers: evil });
    expect([forged.status, forged.setCookie]).toEqual([403, []]);
    expect(forged.body).toContain("<h1>Forbidden</h1>");
    for (let i = 0; i < 2; i++) await browser.send("/login", login("bob", "wrong"));
    const { status, headers, body } = await browser.send("/login", login("bob"));
    expect([status, JSON.parse(body).reason]).toEqual([429, "TOO_MANY_ATTEMPTS"]);
    expect(headers["content-type"]).toContain("application/problem+json");
    expect(Number(headers["retry-after"])).toBeGreaterThan(3000);
    expect(headers["ratelimit-policy"]).toBe('"login";q=1000;w=60, "login_user";q=2;w=3600');
    expect(browser.cookies.has(COOKIE)).toBe(false);
  });

  test("is sent to the login page by a page, and told 401 by all else", async () => {
    const browser = await open({ loginPath: "/login" });
    browser.cookies.set(COOKIE, "sst_invalid");
    const page = await browser.send("/mine", { headers: HTML });
    expect([page.status, page.headers.location]).toEqual([303, "/login?return_to=%2Fmine"]);
    expect(browser.cookies.has(COOKIE)).toBe(false);
    expect((await browser.send("/mine")).status).toBe(401);
  });

  test("keeps its cookie while sessiond is away, and the operator learns why", async () => {
    const nowhere = createSessionClient({
      baseUrl: "http://127.0.0.1:1",
      token: "t",
      maxAttempts: 1,
    });
    onTestFinished(() => nowhere.close());
    const warnings: string[] = [];
    const browser = await open({ client: nowhere, warn: (message) => warnings.push(message) });
    browser.cookies.set(COOKIE, "sst_kept");
    const { status, headers, setCookie } = await browser.send("/mine");
    expect([status, headers["retry-after"], setCookie]).toEqual([503, "2", []]);
    expect(warnings).toEqual([expect.stringContaining("ECONNREFUSED 127.0.0.1:1")]);
  });

  test("is told nothing of a refused access token, and the operator why it was refused", async () => {
    const refused = createSessionClient({ baseUrl: sessiond.baseUrl, token: "expired" });
    onTestFinished(() => refused.close());
    const reported: unknown[] = [];
    const browser = await open({ client: refused, onError: (error) => reported.push(error) });
    browser.cookies.set(COOKIE, "sst_secret");
    const { status, body } = await browser.send("/mine");
    expect([status, JSON.parse(body).reason]).toEqual([500, "UNAUTHENTICATED"]);
    expect(reported).toMatchObject([{ status: 500, cause: { reason: "UNAUTHENTICATED" } }]);
    expect(inspect(reported, { depth: null })).not.toContain("sst_secret");
  });

  test("is not blamed for a rate limit that the server does not have", async () => {
    const reported: unknown[] = [];
    const loginLimit = { userPolicy: "misspelled" };
    const browser = await open({ loginLimit, onError: (error) => reported.push(error) });
    expect((await browser.send("/login", login("cal"))).status).toBe(500);
    expect(reported).toMatchObject([{ cause: { reason: "INVALID_ARGUMENT" } }]);
  });
});
