import { accessSync, constants, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];
/** Where tests leave pictures of what they saw. Without it they take none. */
const SCREENSHOTS = process.env["SCREENSHOTS"];

/** As text: its types are for browsers. */
const AXE = readFileSync(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");

interface AxeViolation {
  readonly id: string;
  readonly impact: string;
  readonly nodes: readonly { readonly html: string }[];
}

/** Opens pages of the console, each in a browser of its own that knows nothing of the others. */
export interface ConsoleBrowser {
  readonly open: (url: string, options?: BrowserContextOptions) => Promise<Page>;
}

/**
 * A browser for all tests of a file. After each test its pages must have met nothing that the
 * Content-Security-Policy forbids, no error, no dialog, and no request to another host.
 */
export function useConsoleBrowser(): ConsoleBrowser {
  let browser: Browser;
  const pages: Page[] = [];
  const faults: string[] = [];
  beforeAll(async () => {
    browser = await launchChromium();
  });
  afterEach(async () => {
    await Promise.all(pages.splice(0).map((page) => page.context().close()));
    expect(faults.splice(0)).toEqual([]);
  });
  afterAll(() => browser?.close());
  const open = async (url: string, options: BrowserContextOptions = {}) => {
    const viewport = { width: 1200, height: 800 };
    const context = await browser.newContext({ viewport, ...options });
    const page = await context.newPage();
    pages.push(page);
    page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
    page.on("dialog", (dialog) => faults.push(`dialog: ${dialog.message()}`));
    const isConsole = (at: string) => URL.parse(at)?.pathname.startsWith("/console") === true;
    page.on("console", (message) => {
      // The issuer's pages are its own business.
      if (!isConsole(page.url())) return;
      if (/content security policy|trusted/i.test(message.text())) faults.push(message.text());
    });
    page.on("request", (request) => {
      const isForeign = new URL(request.url()).hostname !== "127.0.0.1";
      if (isForeign && isConsole(request.frame().url())) faults.push(`asked ${request.url()}`);
    });
    await page.goto(url);
    return page;
  };
  return { open };
}

/** What axe-core finds that keeps people from using the page. */
export async function seriousFaults(page: Page): Promise<readonly string[]> {
  await page.evaluate(AXE);
  const violations = await page.evaluate<readonly AxeViolation[]>(
    "axe.run().then(({ violations }) => violations)",
  );
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
}

/** Takes a picture if somebody wants to look at it. */
export async function screenshot(page: Page, name: string): Promise<void> {
  if (SCREENSHOTS === undefined) return;
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

/** The Chromium that is on the PATH. Throws an Error that says how to install it. */
function launchChromium(): Promise<Browser> {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const files = folders.flatMap((folder) => NAMES.map((name) => join(folder, name)));
  const executablePath = files.find(isExecutable);
  if (executablePath === undefined) {
    throw new Error("chromium is not on the PATH. Install it with `apt-get install chromium`.");
  }
  // Chromium's sandbox does not start for root, as in a container.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath, args });
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
