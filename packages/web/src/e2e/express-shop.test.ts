import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type RedisServer, startRedisServer } from "@sessiond/core/testing";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { launchChromium } from "../testing/chromium.js";
import { type ExampleProcess, startExample } from "../testing/example-process.js";
import { listen } from "../testing/listen.js";
import { type Sessiond, startSessiond } from "../testing/sessiond.js";

const PASSWORDS = { ann: "green tea", ada: "black tea" };
const FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0";
/** A busy machine may be slow, and what was stopped needs time to come back. */
const PATIENT = { timeout: 30_000 };
vi.setConfig({ testTimeout: 120_000 });

let redisDir: string;
let redis: RedisServer;
let sessiond: Sessiond;
let shop: ExampleProcess;
let browser: Browser;
const contexts: BrowserContext[] = [];

const startRedis = (port?: number) =>
  startRedisServer({
    args: ["--appendonly", "yes", "--appendfsync", "always", "--dir", redisDir],
    ...(port !== undefined && { port }),
  });

beforeAll(async () => {
  redisDir = await mkdtemp(join(tmpdir(), "sessiond-shop-redis-"));
  redis = await startRedis();
  sessiond = await startSessiond({
    SESSIOND_STORE: redis.url,
    SESSIOND_RATE_LIMITS: "login: 20 per 15m",
  });
  // As in production: the cookie of `__Host-`, which Chromium also takes from http://localhost.
  shop = await startExample("express-shop", sessiond, { env: { NODE_ENV: "production" } });
  browser = await launchChromium();
});
afterAll(async () => {
  await browser?.close();
  await shop?.[Symbol.asyncDispose]();
  await sessiond?.[Symbol.asyncDispose]();
  await redis?.stop();
  await rm(redisDir, { recursive: true, force: true });
});
afterEach(async () => {
  await Promise.all(contexts.splice(0).map((context) => context.close()));
});

/** A page of a browser that has no cookies yet. */
async function openPage(options: { userAgent?: string } = {}): Promise<Page> {
  const context = await browser.newContext({ baseURL: shop.url, ...options });
  contexts.push(context);
  return context.newPage();
}

async function submitLogin(page: Page, name: string, password: string): Promise<void> {
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("main").getByRole("button", { name: "Log in" }).click();
}

async function loggedIn(name: keyof typeof PASSWORDS = "ann", page?: Page): Promise<Page> {
  const used = page ?? (await openPage());
  await used.goto("/login");
  await submitLogin(used, name, PASSWORDS[name]);
  await used.getByRole("button", { name: "Log out" }).waitFor();
  return used;
}

async function sessionCookies(page: Page) {
  return (await page.context().cookies()).filter(({ name }) => name.includes("session"));
}

test("a user logs in where a page needs it, is led back, and logs out for good", async () => {
  const page = await openPage();
  await page.goto("/");
  await page.getByRole("button", { name: "Add Nana Mint" }).click();
  expect(new URL(page.url()).pathname).toBe("/login");
  await page.goto("/basket");
  await submitLogin(page, "ann", "wrong");
  expect(await page.getByRole("alert").textContent()).toContain("No user has this");
  await submitLogin(page, "ann", "green tea");
  expect(new URL(page.url()).pathname).toBe("/basket");

  await page.goto("/");
  await page.getByRole("button", { name: "Add Nana Mint" }).click();
  expect(await page.getByRole("listitem").allTextContents()).toEqual([
    expect.stringContaining("Nana Mint"),
  ]);

  const [kept] = await sessionCookies(page);
  await page.getByRole("button", { name: "Log out" }).click();
  expect(await sessionCookies(page)).toEqual([]);
  if (kept !== undefined) await page.context().addCookies([kept]);
  await page.goto("/basket");
  expect(new URL(page.url()).pathname).toBe("/login");
});

test("the cookie is out of reach for scripts, other hosts and other sites", async () => {
  const page = await loggedIn();
  const [cookie, ...others] = await sessionCookies(page);
  expect(others).toEqual([]);
  expect(cookie).toMatchObject({
    ...{ name: "__Host-session", domain: "localhost", path: "/" },
    ...{ httpOnly: true, secure: true, sameSite: "Lax" },
  });
  const days = ((cookie?.expires ?? 0) * 1000 - Date.now()) / 86_400_000;
  expect(days).toBeGreaterThan(0.99);
  expect(days).toBeLessThanOrEqual(1);
  expect(await page.evaluate("document.cookie")).toBe("");
});

test("a device that is signed out is thrown out at its next click", async () => {
  const laptop = await loggedIn("ann", await openPage({ userAgent: FIREFOX }));
  const phone = await loggedIn("ann");
  await phone.getByRole("link", { name: "My devices" }).click();
  const row = phone.getByRole("listitem").filter({ hasText: "Firefox on Linux" }).first();
  await row.getByRole("button", { name: "Sign out" }).click();
  await laptop.getByRole("link", { name: "My devices" }).click();
  expect(new URL(laptop.url()).pathname).toBe("/login");
  expect(await sessionCookies(laptop)).toEqual([]);

  const tablet = await loggedIn("ann");
  await phone.reload();
  await phone.getByRole("button", { name: "Sign out everywhere else" }).click();
  expect(await phone.getByRole("listitem").count()).toBe(1);
  await tablet.goto("/devices");
  expect(new URL(tablet.url()).pathname).toBe("/login");
});

test("a session that an attacker planted is worth nothing after the login", async () => {
  const attacker = await loggedIn("ann");
  const [planted] = await sessionCookies(attacker);
  const victim = await openPage();
  if (planted !== undefined) await victim.context().addCookies([planted]);
  await loggedIn("ada", victim);
  const [own] = await sessionCookies(victim);
  expect(own?.value).not.toBe(planted?.value);
  await attacker.goto("/basket");
  expect(new URL(attacker.url()).pathname).toBe("/login");
});

test("only the admin sees who is logged in", async () => {
  const ann = await loggedIn("ann");
  expect((await ann.goto("/admin"))?.status()).toBe(403);
  const ada = await loggedIn("ada");
  await ada.getByRole("link", { name: "Admin" }).click();
  expect((await ada.getByRole("listitem").allTextContents()).join()).toMatch(/Ada.*Ann/s);
});

test("a page of another port of this host changes nothing, although the browser sends the cookie", async () => {
  const page = await loggedIn();
  const evil = await listen((_request, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end(
      `<form method="post" action="${shop.url}/logout"><button>Win a prize</button></form>`,
    );
  });
  await page.goto(evil.replace("127.0.0.1", "localhost"));
  const [request] = await Promise.all([
    page.waitForRequest(`${shop.url}/logout`),
    page.getByRole("button", { name: "Win a prize" }).click(),
  ]);
  expect((await request.allHeaders())["cookie"]).toContain("__Host-session=");
  expect((await request.response())?.status()).toBe(403);
  await page.goto("/basket");
  expect(new URL(page.url()).pathname).toBe("/basket");
});

test("a session outlives a restart of the server, and of Redis", async () => {
  const page = await loggedIn();
  const isIn = async () => (await page.goto("/basket"))?.status() === 200;

  await sessiond.kill();
  expect((await page.goto("/basket"))?.status()).toBe(503);
  expect(await page.getByRole("heading").textContent()).toBe("Service Unavailable");
  expect(await sessionCookies(page)).toHaveLength(1);
  await sessiond.start();
  await expect.poll(isIn, PATIENT).toBe(true);

  await redis.kill();
  expect((await page.goto("/basket"))?.status()).toBe(503);
  expect(await sessionCookies(page)).toHaveLength(1);
  redis = await startRedis(redis.port);
  await expect.poll(isIn, PATIENT).toBe(true);
  expect(new URL(page.url()).pathname).toBe("/basket");
});

test("a login without a form is a bad request", async () => {
  const { status } = await fetch(`${shop.url}/login`, { method: "POST" });
  expect(status).toBe(400);
});

test("a guesser of passwords is stopped, and told when to try again", async () => {
  const page = await openPage();
  await page.goto("/login");
  let status = 401;
  for (let guess = 0; guess < 30 && status === 401; guess++) {
    const [response] = await Promise.all([
      page.waitForResponse(`${shop.url}/login`),
      submitLogin(page, "ann", `guess ${guess}`),
    ]);
    status = response.status();
    if (status === 429) expect(await response.headerValue("retry-after")).toMatch(/^\d+$/);
  }
  expect(status).toBe(429);
  expect(await page.getByRole("paragraph").textContent()).toMatch(/Try again in \d+ minutes\./);
});
