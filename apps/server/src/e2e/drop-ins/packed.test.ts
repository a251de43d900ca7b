import { execFile } from "node:child_process";
import { globSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { useTestServer } from "../../testing/test-server.js";
import { repository, runExample, runTenLines } from "./readme-example.test.fixture.js";

const run = promisify(execFile);
const server = useTestServer();
/** npm fetches what the packages need. */
const INSTALL_TIMEOUT_MS = 240_000;

/** Has our packed packages. */
let packed: string;
/** Empty at first. */
let home: string;

beforeAll(async () => {
  packed = await mkdtemp(join(tmpdir(), "sessiond-packed-"));
  home = await mkdtemp(join(tmpdir(), "sessiond-home-"));
  const pack = ["--filter", "./packages/*", "pack", "--pack-destination", packed];
  await run("npx", ["--yes", "pnpm@12.21.0", ...pack], { cwd: repository });
}, INSTALL_TIMEOUT_MS);
afterAll(async () => {
  for (const folder of [packed, home]) await rm(folder, { recursive: true });
});

/** An empty project, in which npm has installed our packed packages and others. */
async function install(ours: readonly string[], others: readonly string[]): Promise<string> {
  const project = await mkdtemp(join(tmpdir(), "sessiond-project-"));
  onTestFinished(() => rm(project, { recursive: true }));
  await writeFile(join(project, "package.json"), '{ "private": true, "type": "module" }');
  const files = ours.flatMap((name) => globSync(join(packed, `sessiond-${name}-[0-9]*.tgz`)));
  expect(files).toHaveLength(ours.length);
  const args = ["install", "--no-audit", "--no-fund", ...files, ...others];
  await run("npm", args, { cwd: project, env: { ...process.env, HOME: home } });
  return project;
}

const SDK = ["proto", "connect-grpc-js", "client"];

test("the packed @sessiond/express-session runs its example in an empty project", {
  timeout: INSTALL_TIMEOUT_MS,
}, async () => {
  const others = ["express@5", "express-session@1"];
  const project = await install([...SDK, "express-session"], others);
  const browser = await runExample("express-session", server, project);
  expect(await browser.text("/login")).toBe("welcome");
  expect(await browser.text("/")).toBe("hello, ann");
  const required = 'console.log(typeof require("@sessiond/express-session").SessiondStore)';
  const { stdout } = await run(process.execPath, ["--eval", required], { cwd: project });
  expect(stdout.trim()).toBe("function");
});

test("the packed @sessiond/better-auth runs its example in an empty project", {
  timeout: INSTALL_TIMEOUT_MS,
}, async () => {
  const project = await install([...SDK, "better-auth"], ["better-auth@1"]);
  const browser = await runExample("better-auth", server, project);
  expect(await browser.text("/api/auth/get-session")).toBe("null");
});

test("the packed @sessiond/web logs a user in by the ten lines, in an empty project", {
  timeout: INSTALL_TIMEOUT_MS,
}, async () => {
  const project = await install([...SDK, "web"], ["express@5"]);
  const browser = await runTenLines(server, project);
  expect((await browser.get("/")).status).toBe(401);
  const wrong = await browser.submit("/login", { name: "ann", password: "wrong" });
  expect(wrong.headers.get("location")).toBe("/login");
  await browser.submit("/login", { name: "ann", password: "secret of ann" });
  expect(JSON.parse(await browser.text("/"))).toMatchObject({ userId: "ann" });
});
