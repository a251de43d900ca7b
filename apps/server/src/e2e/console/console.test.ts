import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { startTcpFaultProxy } from "@sessiond/core/testing";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import type { BrowserContextOptions, Page } from "playwright-core";
import { beforeAll, expect, test, vi } from "vitest";
import { KNOWN_PERMISSIONS } from "../../services/permissions.js";
import { screenshot, seriousFaults, useConsoleBrowser } from "../../testing/console-browser.js";
import {
  bearer,
  JSON_OVER_HTTP,
  type SessionServiceClient,
  sessionClient,
} from "../../testing/protocols.js";
import { byId, newSession, newUser } from "../../testing/session-requests.js";
import { useTestServer } from "../../testing/test-server.js";

vi.setConfig({ testTimeout: 120_000 });

const FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0";
const PHONE: BrowserContextOptions = { viewport: { width: 360, height: 740 } };

const server = useTestServer({ config: { console: { isDevelopment: true, login: undefined } } });
const browser = useConsoleBrowser();
let client: SessionServiceClient;
beforeAll(() => {
  client = sessionClient(JSON_OVER_HTTP.open(server), bearer(server.accessToken));
});

interface LogIn extends Omit<BrowserContextOptions, "permissions"> {
  readonly permissions?: readonly string[];
  readonly origin?: string;
  readonly claims?: Readonly<Record<string, unknown>>;
}

/** A page that a development server's link has logged in. */
async function loggedIn(options: LogIn = {}): Promise<Page> {
  const { permissions = KNOWN_PERMISSIONS, origin = server.httpUrl, claims, ...context } = options;
  const scope = permissions.join(" ");
  const token = await server.issuer.sign({ claims: { sub: "olga@example.com", scope, ...claims } });
  const page = await browser.open(`${origin}/console#token=${token}`, context);
  await page.getByRole("button", { name: "Log out" }).waitFor();
  expect(page.url()).toBe(`${origin}/console`);
  return page;
}

async function find(page: Page, userId: string): Promise<void> {
  await page.getByLabel("User id").fill(userId);
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("heading", { name: userId }).waitFor();
}

const isLive = (page: Page) => page.getByText("Live", { exact: true }).waitFor();
const rowOf = (page: Page, name: string) => page.getByRole("row", { name });
/** Sessions of one user, by the names of their devices. */
async function sessionsOn(userId: string, devices: readonly string[]) {
  const sessions = [];
  for (const device of devices) {
    const from = { ip: "203.0.113.7", userAgent: FIREFOX, device };
    const data = { theme: "dark", cart: ["green tea"] };
    const of = { userId, displayName: "Ann Lee", roles: ["admin"], client: from, data };
    sessions.push(await newSession(client, of));
  }
  return sessions;
}

test("an operator finds a user and revokes a session, and another tab drops it within a second", async () => {
  const userId = newUser();
  await sessionsOn(userId, ["Ann's phone", "Ann's laptop", "Ann's desktop"]);
  const [one, other] = [await loggedIn(), await loggedIn()];
  for (const page of [one, other]) {
    await find(page, userId);
    await rowOf(page, "phone").waitFor();
    await isLive(page);
  }
  const created = rowOf(one, "phone").locator(".created time");
  expect(await created.textContent()).toMatch(/^(now|\d+s ago)$/);
  expect(await created.getAttribute("title")).toMatch(/^\d+ \w+ 20\d\d, \d\d:\d\d:\d\d /);
  await rowOf(one, "phone").click();
  await one.getByText("Keys: theme").click();
  await one.getByText('"green tea"').waitFor();
  await screenshot(one, "details");
  await one.getByLabel("Reason").fill("lost phone");
  await one.getByRole("button", { name: "Revoke", exact: true }).click();
  await one.getByText("Revoked one session").waitFor();
  const startMs = performance.now();
  await rowOf(other, "phone").waitFor({ state: "detached" });
  expect(performance.now() - startMs).toBeLessThan(1_000);

  await rowOf(other, "laptop").click();
  await other.getByLabel("All sessions of this user but this one").check();
  await other.getByRole("button", { name: "Revoke", exact: true }).click();
  await rowOf(one, "desktop").waitFor({ state: "detached" });
  await one.getByLabel("Ended ones").check();
  await rowOf(one, "phone").click();
  await one.getByText("revoked: lost phone").waitFor();
  await one.keyboard.press("Escape");
  await one.getByRole("button", { name: "Revoke all" }).click();
  await one.getByRole("button", { name: "Revoke", exact: true }).click();
  await one.getByText("Revoked 1 session of").waitFor();
  const { sessions } = await client.listSessions({ userId });
  expect(sessions).toEqual([]);
});

test("a list whose stream is cut says that it is stale, and then shows what it has missed", async () => {
  const userId = newUser();
  const [phone] = await sessionsOn(userId, ["Ann's phone"]);
  const proxy = await startTcpFaultProxy({
    host: "127.0.0.1",
    port: Number(new URL(server.httpUrl).port),
  });
  const page = await loggedIn({ origin: `http://127.0.0.1:${proxy.port}` });
  await find(page, userId);
  await rowOf(page, "phone").waitFor();
  await isLive(page);
  proxy.refuse();
  await page.getByText("Stale").waitFor();
  await screenshot(page, "stale");
  await sessionsOn(userId, ["Ann's laptop"]);
  await client.revokeSession(byId(phone?.sessionId ?? ""));
  expect(await rowOf(page, "phone").count()).toBe(1);
  proxy.pass();
  await isLive(page);
  await rowOf(page, "laptop").waitFor();
  await rowOf(page, "phone").waitFor({ state: "detached" });
  await proxy.stop();
});

test("an operator sees only what the access token permits", async () => {
  const userId = newUser();
  await sessionsOn(userId, ["Ann's phone"]);
  const reader = await loggedIn({ permissions: ["sessions:read"] });
  expect(await reader.getByRole("navigation").getByRole("link").allTextContents()).toEqual([
    "Sessions",
    "Counts",
    "Events",
  ]);
  await find(reader, userId);
  await rowOf(reader, "phone").click();
  await reader.getByText("needs sessions:delete").waitFor();
  expect(await reader.getByRole("button", { name: "Revoke" }).count()).toBe(0);

  const nobody = await loggedIn({ permissions: [] });
  await nobody.getByText("Ask whoever grants permissions").waitFor();
  await screenshot(nobody, "no-permission");
});

test("an operator whose token expires is told so, and keeps what is on the screen", async () => {
  const userId = newUser();
  await sessionsOn(userId, ["Ann's phone"]);
  const exp = Math.floor(Date.now() / 1000) + 15;
  const page = await loggedIn({ claims: { exp } });
  await find(page, userId);
  await rowOf(page, "phone").waitFor();
  await page.getByText("Your login has expired").waitFor();
  await page.getByText("Stale").waitFor();
  let calls = 0;
  page.on("request", () => calls++);
  await sleep(7_000);
  // Each would be a line in the audit.
  expect(calls).toBe(0);
  expect(await rowOf(page, "phone").count()).toBe(1);
});

test("names that are markup, written from right to left, or endless are only text", async () => {
  const userId = `${newUser()}<img src=x onerror=alert(1)>`;
  const displayName = "\u202Eגברת כהן <script>alert(2)</script> 👩🏽‍🚀";
  const device = `"><svg onload=alert(3)>`;
  const userAgent = `<b>${"W".repeat(1_021)}`;
  const data = { "<img src=x onerror=alert(4)>": "</pre><script>alert(5)</script>" };
  const roles = ["<i>admin</i>"];
  await newSession(client, { userId, displayName, roles, client: { userAgent, device }, data });
  const page = await loggedIn(PHONE);
  await find(page, userId);
  await page.getByRole("gridcell", { name: userId }).waitFor();
  const { height } = (await rowOf(page, device).boundingBox()) ?? {};
  expect(height).toBe(60);
  await rowOf(page, device).click();
  for (const text of [userAgent, device, displayName, "<i>admin</i>"]) {
    await page.getByRole("dialog").getByText(text, { exact: true }).waitFor();
  }
  await screenshot(page, "hostile");
  expect(await page.locator("#app img, #app script, #app svg, #app b, #app i").count()).toBe(0);
  expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(360);
});

test("all of it works with the keyboard alone", async () => {
  const userId = newUser();
  await sessionsOn(userId, ["Ann's phone", "Ann's laptop"]);
  const page = await loggedIn();
  const focused = () => page.evaluate<string>("document.activeElement.textContent");
  const tabTo = async (text: string) => {
    for (let presses = 0; presses < 30 && !(await focused()).startsWith(text); presses++) {
      await page.keyboard.press("Tab");
    }
    expect(await focused()).toContain(text);
  };
  await tabTo("Skip to");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.type(userId);
  await page.keyboard.press("Enter");
  await rowOf(page, "phone").waitFor();
  await tabTo("UserDevice");
  // The newest stands first.
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByText("Ann's phone").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  expect(await focused()).toContain("UserDevice");
  await page.keyboard.press("Home");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByText("Ann's laptop").waitFor();
  await tabTo("Keys:");
  await page.keyboard.press("Tab");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Tab");
  await page.keyboard.type("left the company");
  await page.keyboard.press("Enter");
  await page.getByText("Revoked 1 session of").waitFor();
  await rowOf(page, "phone").waitFor({ state: "detached" });
  expect(await rowOf(page, "laptop").count()).toBe(1);
});

test("counts and events follow what happens, and say who did it", async () => {
  const page = await loggedIn();
  await page.getByRole("link", { name: "Events" }).click();
  await page.getByText("Nothing has happened").waitFor();
  const userId = newUser();
  const [session] = await sessionsOn(userId, ["Ann's phone"]);
  await client.revokeSession({ ...byId(session?.sessionId ?? ""), reason: "left the company" });
  await page.getByRole("row", { name: `created ${userId} billing` }).waitFor();
  await page.getByRole("row", { name: `revoked ${userId} billing left the company` }).waitFor();
  await screenshot(page, "events");
  await page.getByRole("link", { name: "Counts" }).click();
  await page.locator("dt", { hasText: "Created since" }).waitFor();
  const count = page.locator("dt", { hasText: "Created since" }).locator("xpath=../dd");
  await vi.waitFor(async () => expect(await count.textContent()).not.toBe("0"), 15_000);
  await screenshot(page, "counts");
});

test("a rate limit's key is looked up and reset, and a lock is looked up", async () => {
  const transport = JSON_OVER_HTTP.open(server);
  const limits = createClient(RateLimitService, transport);
  const locks = createClient(LockService, transport);
  const headers = { authorization: `Bearer ${server.accessToken}` };
  const key = newUser();
  for (let i = 0; i < 10; i++) await limits.checkRateLimit({ policy: "login", key }, { headers });
  await locks.acquireLock({ name: `nightly ${key}` }, { headers });

  const page = await loggedIn();
  await page.getByRole("link", { name: "Rate limits" }).click();
  await page.getByLabel("Key").fill(key);
  await page.getByRole("button", { name: "Look up" }).click();
  await page.getByText("0 of 10").waitFor();
  await screenshot(page, "rate-limits");
  await page.getByRole("button", { name: "Forget all attempts" }).click();
  await page.getByText("10 of 10").waitFor();
  await page.getByLabel("Policy").fill("logon");
  await page.getByRole("button", { name: "Look up" }).click();
  await page.getByRole("alert").getByText("policy").waitFor();

  await page.getByRole("link", { name: "Locks" }).click();
  await page.getByLabel("Name").fill(`nightly ${key}`);
  await page.getByRole("button", { name: "Look up" }).click();
  await page.getByText("is held").waitFor();
  await screenshot(page, "locks");
  await page.getByLabel("Name").fill("nobody's");
  await page.keyboard.press("Enter");
  await page.getByText("is free").waitFor();
});

test.each([
  ["light", { colorScheme: "light" }],
  ["narrow-dark", { ...PHONE, colorScheme: "dark" }],
] as const)("axe-core finds nothing serious on any screen (%s)", async (name, context) => {
  const userId = newUser();
  await sessionsOn(userId, ["Ann's phone", "Ann's laptop", ""]);
  const page = await loggedIn(context);
  const screens = await page.getByRole("navigation").getByRole("link").allTextContents();
  for (const screen of screens) {
    await page.getByRole("link", { name: screen, exact: true }).click();
    await page.getByRole("heading", { level: 1 }).waitFor();
    if (screen === "Sessions") await rowOf(page, "laptop").first().waitFor();
    await screenshot(page, `${screen.toLowerCase().replace(" ", "-")}-${name}`);
    expect(await seriousFaults(page)).toEqual([]);
    const width = await page.evaluate("document.documentElement.scrollWidth");
    expect(width).toBe(page.viewportSize()?.width);
  }
  await page.getByRole("link", { name: "Sessions" }).click();
  await find(page, userId);
  await screenshot(page, `user-${name}`);
  await rowOf(page, "phone").click();
  await screenshot(page, `details-${name}`);
  expect(await seriousFaults(page)).toEqual([]);
});
