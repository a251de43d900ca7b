import { afterAll, beforeAll, expect, test } from "vitest";
import { Browser } from "../testing/browser.js";
import { type Sessiond, startSessiond } from "../testing/sessiond.js";
import { form, startShop } from "../testing/shop.js";

const COOKIE = "__Host-session";

let sessiond: Sessiond;
beforeAll(async () => {
  sessiond = await startSessiond();
});
afterAll(() => sessiond?.[Symbol.asyncDispose]());

test("an outage of sessiond is 503, and keeps the cookie and the session", async () => {
  const shop = await startShop({ client: sessiond.client });
  const browser = new Browser(shop, { "x-forwarded-proto": "https" });
  await browser.send("/login", { form: form("wes") });
  const kept = browser.cookies.get(COOKIE);
  await sessiond.kill();
  const requests = [
    browser.send("/mine", { headers: { accept: "text/html" } }),
    browser.send("/logout", { form: {} }),
    browser.send("/rotate", { form: {} }),
    browser.send("/login", { form: form("wes") }),
  ];
  for (const { status, headers, setCookie, body } of await Promise.all(requests)) {
    expect([status, headers["retry-after"], setCookie]).toEqual([503, "2", []]);
    expect(body).not.toContain("127.0.0.1");
  }
  await sessiond.start();
  expect(browser.cookies.get(COOKIE)).toBe(kept);
  await expect.poll(async () => (await browser.send("/mine")).status, { timeout: 8000 }).toBe(200);
  // Neither the logout nor the login happened, so the session goes on as before.
  await browser.send("/rotate", { form: {} });
  expect(browser.cookies.get(COOKIE)).not.toBe(kept);
  expect((await browser.send("/mine")).status).toBe(200);
});
