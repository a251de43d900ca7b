import type { CDPSession, Page } from "playwright-core";
import { expect, test, vi } from "vitest";
import { KNOWN_PERMISSIONS } from "../../services/permissions.js";
import { screenshot, useConsoleBrowser } from "../../testing/console-browser.js";
import { bearer, GRPC, sessionClient } from "../../testing/protocols.js";
import { useTestServer } from "../../testing/test-server.js";

vi.setConfig({ testTimeout: 300_000 });

const SESSIONS = 10_000;
const AT_ONCE = 50;
const FRAMES = 300;
const FRAME_MS = 1_000 / 60;

const server = useTestServer({ config: { console: { isDevelopment: true, login: undefined } } });
const browser = useConsoleBrowser();

/** Scrolls a little more in each of 300 frames. Answers how often no row was in the middle. */
const SCROLL = `new Promise((resolve) => {
  const grid = document.querySelector("[role=grid]");
  let gaps = 0;
  let frames = 0;
  const step = () => {
    const { left, top, height } = grid.getBoundingClientRect();
    const at = document.elementFromPoint(left + 50, top + height / 2);
    if (at?.closest(".all [role=row]") === null) gaps++;
    grid.scrollTop += 90;
    if (++frames < ${FRAMES}) requestAnimationFrame(step);
    else resolve({ gaps, scrolled: grid.scrollTop });
  };
  requestAnimationFrame(step);
})`;

/** The processor time of the page's main thread so far: what other processes take is not in it. */
async function processorMs(cdp: CDPSession): Promise<number> {
  const { metrics } = await cdp.send("Performance.getMetrics");
  return 1_000 * (metrics.find(({ name }) => name === "TaskDuration")?.value ?? Number.NaN);
}

async function fillStore(): Promise<void> {
  const client = sessionClient(GRPC.open(server), bearer(server.accessToken));
  let created = 0;
  const createSome = async () => {
    while (created < SESSIONS) {
      const userId = `user-${String(created++).padStart(5, "0")}@example.com`;
      const from = { ip: "203.0.113.7", userAgent: "Mozilla/5.0", device: "Firefox on Linux" };
      await client.createSession({ userId, displayName: "Ann Lee", client: from });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, createSome));
}

const drawnRows = (page: Page) => page.locator(".all [role=row]").count();

test("10,000 sessions are listed whole, of which few are drawn, and need less than a sixtieth of a second for a frame", async () => {
  await fillStore();
  const token = await server.issuer.sign({ claims: { scope: KNOWN_PERMISSIONS.join(" ") } });
  const page = await browser.open(`${server.httpUrl}/console#token=${token}`);
  await page.getByText("10,000 shown").waitFor({ timeout: 120_000 });
  await screenshot(page, "many");
  expect(await page.getByRole("grid").getAttribute("aria-rowcount")).toBe("10001");
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
  const beforeMs = await processorMs(cdp);
  const scroll = await page.evaluate<{ readonly gaps: number; readonly scrolled: number }>(SCROLL);
  const frameMs = ((await processorMs(cdp)) - beforeMs) / FRAMES;
  expect(scroll).toEqual({ gaps: 0, scrolled: 90 * FRAMES });
  expect(frameMs).toBeLessThan(FRAME_MS);
  expect(await drawnRows(page)).toBeLessThan(50);
  await page.getByRole("grid").focus();
  await page.keyboard.press("End");
  await page.locator(`[aria-rowindex="${SESSIONS + 1}"].active`).waitFor();
});
