import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { RequestSession } from "./request-session.js";
import { Browser } from "./testing/browser.js";
import { type Sessiond, startSessiond } from "./testing/sessiond.js";
import { statusByReason } from "./web-error.js";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const ROOT = join(PACKAGE, "../..");
const readme = readFileSync(`${PACKAGE}/README.md`, "utf8");
const rootReadme = readFileSync(`${ROOT}/README.md`, "utf8");

let sessiond: Sessiond;
beforeAll(async () => {
  sessiond = await startSessiond();
});
afterAll(() => sessiond?.[Symbol.asyncDispose]());

/** Runs an example in a process of its own until the test is over. Returns a browser in front. */
async function browserOf(example: string): Promise<Browser> {
  const program = example
    .replace("http://127.0.0.1:50051", sessiond.baseUrl)
    .replace(
      "app.listen(3000)",
      "app.listen(0, '127.0.0.1', function () { console.log(this.address().port); })",
    );
  const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", program], {
    cwd: PACKAGE,
    env: { SESSIOND_TOKEN: sessiond.token, NODE_ENV: "production" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill());
  const [port] = await once(child.stdout.setEncoding("utf8"), "data");
  return new Browser(`http://127.0.0.1:${String(port).trim()}`);
}

test("the README's application logs a user in, shows the devices, and logs out", async () => {
  const browser = await browserOf(/```ts\n(.*?)```/s.exec(readme)?.[1] ?? "");
  const login = (password: string) => browser.send("/login", { form: { name: "ann", password } });
  expect((await login("wrong")).status).toBe(401);
  expect((await browser.send("/devices")).status).toBe(401);
  expect((await login("secret of ann")).status).toBe(200);
  expect((await browser.send("/me")).body).toBe('{"user":"ann"}');
  expect(JSON.parse((await browser.send("/devices")).body)).toHaveLength(1);
  expect((await browser.send("/admin")).status).toBe(403);
  await browser.send("/logout", { form: {} });
  expect((await browser.send("/me")).body).toBe("{}");
});

test("the repository's README puts sessiond in front of an Express application", async () => {
  const browser = await browserOf(/```js\n(.*?)```/s.exec(rootReadme)?.[1] ?? "");
  const page = { headers: { accept: "text/html" } };
  expect((await browser.send("/", page)).headers.location).toBe("/login?return_to=%2F");
  expect((await browser.send("/login", page)).body).toContain("<form");
  const form = { name: "bob", password: "secret of bob" };
  expect((await browser.send("/login", { form })).headers.location).toBe("/");
  expect((await browser.send("/", page)).body).toContain("bob");
  expect((await browser.send("/logout", { form: {} })).status).toBe(303);
  expect((await browser.send("/", page)).status).toBe(303);
});

test("an application that imports Express's door alone gives the sessions' data its own type", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sessiond-web-types-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await symlink(`${ROOT}/examples/express-shop/node_modules`, join(folder, "node_modules"));
  const [example, register] = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code);
  const probe = `app.get("/basket", async ({ sessiond }, res) => {
    const { data } = await sessiond.require();
    const basket: string[] = data.basket ?? [];
    // @ts-expect-error
    res.json([basket, data.other]);
  });`;
  await writeFile(join(folder, "app.mts"), `${example}${register}${probe}`);
  const options = ["--noEmit", "--strict", "--module", "nodenext", "app.mts"];
  const types = `--typeRoots ${ROOT}/node_modules/@types --types node`.split(" ");
  const compile = promisify(execFile)(`${ROOT}/node_modules/.bin/tsc`, [...options, ...types], {
    cwd: folder,
  });
  expect(await compile.catch(({ stdout }) => stdout)).toEqual({ stdout: "", stderr: "" });
});

test("the README names every reason with its status", () => {
  const rows = readme.slice(readme.indexOf("## Errors")).matchAll(/^\| (\d{3}) +\|(.*)\|$/gm);
  const named = [...rows].flatMap(([, status, reasons = ""]) =>
    [...reasons.matchAll(/`([A-Z_]+)`/g)].map(([, reason]) => [reason, Number(status)]),
  );
  expect(Object.fromEntries(named)).toEqual(statusByReason);
});

test("the README names every method", () => {
  const notForHandlers = ["constructor", "checkOrigin", "errorFrom", "answerTo"];
  for (const method of Object.getOwnPropertyNames(RequestSession.prototype)) {
    if (!notForHandlers.includes(method)) expect(readme).toContain(`| \`${method}(`);
  }
});
