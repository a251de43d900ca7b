import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Keyring } from "@sessiond/core";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { mintDevelopmentToken } from "../auth/development-keys.js";
import { readAuthFile } from "../config/auth-config.js";
import { loadConfig } from "../config/config.js";
import { type RunningServer, startServer } from "../daemon/start-server.js";
import { formatAddress } from "../network/address.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";

const run = promisify(execFile);
const ROOT = new URL("../../../../", import.meta.url);
const README = new URL("README.md", ROOT);

let dataDir: string;
let readme: string;
let server: RunningServer;
let token: string;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "sessiond-readme-"));
  readme = await readFile(README, "utf8");
  const argv = ["--dev", "--grpc-address=127.0.0.1:0", "--http-address=127.0.0.1:0"];
  const config = await loadConfig({ argv, env: { SESSIOND_DATA_DIR: dataDir } });
  server = await startServer(config, pino({ level: "silent" }));
  const permissions = KNOWN_PERMISSIONS;
  token = await mintDevelopmentToken({ dataDir, permissions, subject: "readme", ttlMs: 60_000 });
});

afterAll(async () => {
  await server?.stop();
  await rm(dataDir, { recursive: true });
});

/** The code blocks of a language, in order, with the addresses of the server under test. */
function blocks(language: string): readonly string[] {
  const pattern = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "gms");
  return [...readme.matchAll(pattern)].map(([, code = ""]) =>
    code
      .replaceAll("127.0.0.1:50051", formatAddress(server.grpcAddress))
      .replaceAll("127.0.0.1:8080", formatAddress(server.httpAddress)),
  );
}

test.each([
  ["sessions", 0, "ann [ 'editor' ]\nundefined\n"],
  ["locks and rate limits", 1, "wrong\n{ score: 42 } false\n"],
])("the README's TypeScript about %s runs as it stands there", async (_, index, expected) => {
  expect(await printedBy(`example-${index}`, blocks("ts")[index] ?? "")).toBe(expected);
});

test("the README's login refuses guesses, also of somebody with an account of their own", async () => {
  const [login = ""] = (blocks("ts")[1] ?? "").split("const address =");
  const attack = `
    const answers = [];
    for (let guess = 0; guess < 27; guess++) {
      await logIn("198.51.100.66", "mallory", "secret of mallory");
      answers.push(await logIn("198.51.100.66", "eve", \`guess \${guess}\`));
    }
    console.log(answers.filter((answer) => answer === "wrong").length, new Set(answers));
    console.log(await logIn("203.0.113.77", "eve", "secret of eve") === "too many attempts");
    client.close();
  `;
  const stdout = await printedBy("attack", login + attack);
  expect(stdout).toBe("5 Set(2) { 'wrong', 'too many attempts' }\nfalse\n");
});

/** What a program in TypeScript prints. */
async function printedBy(name: string, program: string): Promise<string> {
  // Beside the build, where the SDK resolves as it does for this package.
  const file = new URL(`../../dist/readme-${name}.mts`, import.meta.url);
  await writeFile(file, program);
  const { stdout } = await run(process.execPath, [file.pathname], {
    env: { ...process.env, TOKEN: token },
  });
  return stdout;
}

/** The README's nth block of commands with this text in it. */
function commands(text: string, index = 0): string {
  return blocks("sh").filter((block) => block.includes(text))[index] ?? "";
}

/** What commands print, in the folder that the README is in, with the data of the server under test. */
async function printed(...parts: readonly string[]): Promise<string> {
  const { stdout } = await run("bash", ["-ec", parts.join("\n")], {
    cwd: ROOT,
    env: {
      ...process.env,
      SESSIOND_SERVER: `http://${formatAddress(server.grpcAddress)}`,
      SESSIOND_DATA_DIR: dataDir,
    },
  });
  return stdout;
}

test("the README's curl commands take a lock and count an attempt, with the token made there", async () => {
  const stdout = await printed(commands("export TOKEN="), commands("curl", 1));
  expect(stdout).toMatch(/"lockId":"[\w-]{43}","fencingToken":"\d{13}"/);
  expect(stdout).toContain('"allowed":true,"limit":10,"remaining":9');
});

test("the README's commands run under a lock, and check a rate limit", async () => {
  const [lock, limit] = (await printed(commands("lock run"))).split("\n");
  expect(lock).toMatch(/^the report has fencing token \d{13}$/);
  expect(limit).toBe("allowed: limit 10, remaining 9, retry after 0s");
});

test("the README's curl commands create a session and list it, with the token made there", async () => {
  const stdout = await printed(commands("export TOKEN="), commands("curl"));
  expect(stdout).toMatch(/"token":"sst_[\w-]+"/);
  expect(stdout.match(/"displayName":"Bob"/g)).toHaveLength(2);
  expect(stdout.match(/"idleTimeout":"900s"/g)).toHaveLength(2);
});

test("the README's auth file is accepted", async () => {
  const [json = ""] = blocks("json");
  const file = join(dataDir, "auth.json");
  await writeFile(file, json);
  expect(readAuthFile(file).issuers).toHaveLength(1);
});

test("the README makes a key that the server takes, and nothing else with it", async () => {
  const [line = ""] = commands("keygen").match(/^export SESSIOND_KEYRING=.*$/m) ?? [];
  const keyring = await printed(line, 'printf %s "$SESSIOND_KEYRING"');
  expect(() => Keyring.parse(keyring)).not.toThrow();
});
