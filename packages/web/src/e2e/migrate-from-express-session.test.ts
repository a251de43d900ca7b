import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type RedisServer, startRedisServer } from "@sessiond/core/testing";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Browser } from "../testing/browser.js";
import { startExample } from "../testing/example-process.js";
import { type Sessiond, startSessiond } from "../testing/sessiond.js";

const EXAMPLE = fileURLToPath(
  new URL("../../../../examples/migrate-from-express-session", import.meta.url),
);
const execute = promisify(execFile);
const OURS = "__Host-session";
const OLD = "connect.sid";
const FORM = { name: "ann", password: "green tea" };
const ANN = { userId: "ann" };
const GUEST = "Try ann with green tea.";
const HOUR_MS = 3_600_000;
/** Many processes start, on a busy machine. */
const START_TIMEOUT_MS = 180_000;

type Stage = "old" | "both" | "new" | "drop-in";

const running = new AsyncDisposableStack();
let redis: RedisServer;
let sessiond: Sessiond;
/** The application in each stage of the migration; in the middle of it there are two processes. */
let urls: { readonly [stage in Stage | "otherBoth"]: string };

beforeAll(async () => {
  redis = running.use(await startRedisServer());
  sessiond = running.use(await startSessiond());
  const start = async (stage: Stage) => {
    const options = { args: [stage], env: { REDIS_URL: redis.url } };
    return running.use(await startExample("migrate-from-express-session", sessiond, options)).url;
  };
  const stages = ["old", "both", "both", "new", "drop-in"] as const;
  const [old, both, otherBoth, last, dropIn] = await Promise.all(stages.map(start));
  urls = { old, both, otherBoth, new: last, "drop-in": dropIn } as typeof urls;
}, START_TIMEOUT_MS);
afterEach(async () => {
  await sessiond.client.revokeUserSessions(ANN.userId);
});
afterAll(() => running.disposeAsync());

/** The same browser, in front of another stage of the application. */
function at(
  stage: keyof typeof urls,
  { cookies }: { cookies: Iterable<[string, string]> },
): Browser {
  const browser = new Browser(urls[stage]);
  for (const [name, value] of cookies) browser.cookies.set(name, value);
  return browser;
}

async function loggedInBefore(): Promise<Browser> {
  const browser = new Browser(urls.old);
  await browser.send("/login", { form: FORM });
  await browser.send("/cups", { form: {} });
  expect(await shown(browser)).toBe("Hello Ann. Cups of tea: 1.");
  return browser;
}

/** What the page tells of the user. */
async function shown(browser: Browser): Promise<string | undefined> {
  return /<p>(.*)<\/p>/.exec((await browser.send("/")).body)?.[1]?.replaceAll(/<.*?>/g, "");
}

test("a user who logged in before the migration is logged in throughout, and in the end with our cookie", async () => {
  const before = await loggedInBefore();
  const during = at("both", before);
  expect(await shown(during)).toBe("Hello Ann. Cups of tea: 1.");
  const [session] = (await sessiond.client.listSessions(ANN)).sessions;
  expect(session).toMatchObject({ roles: [], data: { cups: 1 }, client: { ip: "127.0.0.1" } });
  // Nobody knows when the user typed the password, so the session is not fresh.
  expect(Date.now() - (session?.authenticateTime.getTime() ?? 0)).toBeGreaterThan(HOUR_MS);
  await during.send("/cups", { form: {} });
  expect([...during.cookies.keys()]).toEqual([OURS]);
  expect(await shown(at("new", during))).toBe("Hello Ann. Cups of tea: 2.");
  expect(await shown(at("old", before))).toBe(GUEST);
});

test("a login during the migration needs nothing of express-session", async () => {
  const browser = new Browser(urls.both);
  const { setCookie } = await browser.send("/login", { form: FORM });
  expect(setCookie).toEqual([expect.stringMatching(/^__Host-session=sst_/)]);
  expect(await shown(at("new", browser))).toBe("Hello Ann. Cups of tea: 0.");
});

test("requests at the same time get one session, in all processes, and lost answers lose none", async () => {
  const before = await loggedInBefore();
  const browsers = Array.from({ length: 12 }, (_, i) => at(i % 2 ? "both" : "otherBoth", before));
  // Nobody receives these answers.
  const lost = await Promise.all(browsers.map((browser) => browser.sendOnly("/")));
  for (const { body } of lost) expect(body).toContain("Hello Ann");
  const late = at("both", before);
  expect(await shown(late)).toContain("Hello Ann");
  const cookies = [late.cookies.get(OURS), ...lost.map(({ setCookie }) => tokenIn(setCookie))];
  expect(new Set(cookies).size).toBe(1);
  expect(await sessiond.client.countSessions(ANN)).toBe(1);
});

function tokenIn(setCookie: readonly string[]): string | undefined {
  return setCookie.map((line) => /^__Host-session=([^;]+)/.exec(line)?.[1]).find(Boolean);
}

test.each([
  ["logout", {}, GUEST],
  ["login", FORM, "Hello Ann. Cups of tea: 0."],
])("after a %s, a copy of the old cookie is worth nothing", async (name, form, expected) => {
  const before = await loggedInBefore();
  const during = at("both", before);
  await during.send(`/${name}`, { form });
  expect(await shown(during)).toBe(expected);
  expect(during.cookies.has(OLD)).toBe(false);
  expect(await shown(at("both", before))).toBe(GUEST);
  expect(await shown(at("old", before))).toBe(GUEST);
});

test("a cookie that express-session did not sign moves nobody in", async () => {
  const before = await loggedInBefore();
  const [sid = ""] = before.cookies.get(OLD)?.split(".") ?? [];
  const thief = at("both", { cookies: [[OLD, `${sid}.${"a".repeat(43)}`]] });
  expect(await shown(thief)).toBe(GUEST);
  expect(await shown(at("both", { cookies: [[OURS, sid.slice(2)]] }))).toBe(GUEST);
  expect(await shown(at("both", before))).toContain("Hello Ann");
});

test("an outage of either system logs nobody out, and users who moved do not notice the old one's", async () => {
  const before = await loggedInBefore();
  const moved = at("both", await loggedInBefore());
  await moved.send("/");
  const waiting = at("both", before);
  const refused = async () => {
    const { status, headers, setCookie } = await waiting.send("/");
    return [status, headers["retry-after"], setCookie];
  };

  redis.pause();
  expect(await refused()).toEqual([503, "2", []]);
  expect(await shown(moved)).toContain("Hello Ann");
  redis.resume();

  await sessiond.kill();
  expect(await refused()).toEqual([503, "2", []]);
  expect((await moved.send("/")).status).toBe(503);
  await sessiond.start();
  await expect.poll(() => shown(waiting), { timeout: 20_000 }).toContain("Hello Ann");
  expect(await shown(moved)).toContain("Hello Ann");
});

test(
  "the old application on the drop-in store has its sessions, once they are copied",
  async () => {
    const before = await loggedInBefore();
    const dropIn = at("drop-in", before);
    expect(await shown(dropIn)).toBe(GUEST);
    const script = `${EXAMPLE}/src/copy-sessions.ts`;
    const env = { ...process.env, REDIS_URL: redis.url, SESSIOND_URL: sessiond.baseUrl };
    for (let run = 0; run < 2; run++) {
      await execute(process.execPath, [script], {
        env: { ...env, SESSIOND_TOKEN: sessiond.token },
      });
      expect(await shown(dropIn)).toBe("Hello Ann. Cups of tea: 1.");
    }
    expect(await sessiond.client.countSessions(ANN)).toBe(1);
    expect([...dropIn.cookies.keys()]).toEqual([OLD]);
  },
  START_TIMEOUT_MS,
);
