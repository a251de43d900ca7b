import { execFile } from "node:child_process";
import { globSync, readFileSync, statSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { Keyring } from "@sessiond/core";
import { freePort, startRedisServer } from "@sessiond/core/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { inRepository } from "../../testing/instruments.js";
import { spawnSessiond } from "../../testing/server-process.js";
import { readDockerfile } from "./dockerfile.test.fixture.js";

const run = promisify(execFile);
const README = readFileSync(inRepository("apps/server/README.md"), "utf8");
const DOCKERFILE = readDockerfile();
const MEBIBYTE = 2 ** 20;
/** npx takes seconds for each command on a busy machine. */
const COMMANDS_TIMEOUT_MS = 120_000;

let root: string;
/** Where the packed server is installed, with nothing else, by the Dockerfile's own command. */
let app: string;
let home: string;
let packed: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "sessiond-packed-server-"));
  [app, home] = [join(root, "app"), join(root, "home")];
  await Promise.all([app, home].map((folder) => mkdir(folder)));
  const script = ["scripts/release/pack.ts", root];
  const { stdout } = await run(process.execPath, script, { cwd: inRepository(".") });
  packed = stdout.trim();
  const [install = ""] = DOCKERFILE.argumentsOf("RUN").filter((line) =>
    line.includes("npm install"),
  );
  await inShell(install.replace("/app", app).replace("/packed", root), root);
}, 300_000);

afterAll(() => rm(root, { recursive: true, force: true }));

/** Runs commands with an empty home. */
function inShell(commands: string, cwd: string, env: Readonly<Record<string, string>> = {}) {
  const path = `${dirname(process.execPath)}:${process.env["PATH"]}`;
  return run("bash", ["-ec", commands], { cwd, env: { PATH: path, HOME: home, ...env } });
}

/** The blocks of commands in the package's README: the installation, the start, and calls. */
const [, START, CALLS = ""] = [...README.matchAll(/^```sh\n(.*?)^```/gms)].map(([, code]) => code);

test("the packed server is one package of 5 MiB, which installs 25 MiB without a registry", () => {
  const sizes = globSync("**/*", { cwd: app, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => statSync(join(parentPath, name)).size);
  expect(statSync(packed).size / MEBIBYTE).toBeLessThan(5);
  expect(sizes.reduce((sum, size) => sum + size, 0) / MEBIBYTE).toBeLessThan(25);
});

test("the packed server starts in an empty folder, and passes the commands of its README", {
  timeout: COMMANDS_TIMEOUT_MS,
}, async () => {
  const main = join(app, "node_modules/@sessiond/server/dist/main.js");
  const [grpc, http] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const env = {
    SESSIOND_GRPC_ADDRESS: grpc,
    SESSIOND_HTTP_ADDRESS: http,
    SESSIOND_SERVER: `http://${grpc}`,
  };
  expect(START).toBe("npx sessiond --dev\n");
  await using server = spawnSessiond(["--dev"], { main, cwd: app, env });
  await server.printed(/SESSIOND_TOKEN|access token/i);
  const { stdout } = await inShell(CALLS.replace("127.0.0.1:8080", http), app, env);
  expect(stdout).toMatch(/"status": "ready"[\s\S]*"token":"sst_[\w-]+"[\s\S]*\bann\b/);
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
});

test("on compose's Redis the container's command serves without a warning, is healthy, and writes no file", async () => {
  const compose = parse(readFileSync(inRepository("deploy/docker/compose.yaml"), "utf8"));
  const { sessiond, redis } = compose.services;
  await using store = await startRedisServer({ args: redis.command.slice(1) });
  const secrets = join(root, "secrets");
  const folder = join(root, "empty");
  await Promise.all([secrets, folder].map((path) => mkdir(path)));
  await writeFile(join(secrets, "keyring"), Keyring.generateKey("test"));
  await writeFile(
    join(secrets, "auth.json"),
    readFileSync(inRepository("deploy/kubernetes/auth.json")),
  );
  const metrics = `127.0.0.1:${await freePort()}`;
  const adapted = (value: string) =>
    value
      .replace("/run/secrets", secrets)
      .replace("redis:6379", new URL(store.url).host)
      .replace("0.0.0.0:50051", "127.0.0.1:0")
      .replace("0.0.0.0:8080", "127.0.0.1:0")
      .replace("0.0.0.0:9090", metrics);
  const settings = { ...DOCKERFILE.environment, ...sessiond.environment };
  const env = Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [name, adapted(String(value))]),
  );
  const [, main = "", ...serve] = [
    ...DOCKERFILE.commandOf("ENTRYPOINT"),
    ...DOCKERFILE.commandOf("CMD"),
  ];
  const options = { main: main.replace("/app", app), cwd: folder, env };
  await using server = spawnSessiond(serve, options);
  await server.logged("listening");
  const [, , ...check] = DOCKERFILE.commandOf("HEALTHCHECK");
  await using health = spawnSessiond(check, options);
  expect([await health.ended, health.stderr]).toEqual([0, ""]);
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
  expect(server.logs.filter(({ level }) => level === "warn" || level === "error")).toEqual([]);
  expect(await readdir(folder)).toEqual([]);
});
