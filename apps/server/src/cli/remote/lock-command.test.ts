import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { mintDevelopmentToken } from "../../auth/development-keys.js";
import { faultsOf, outcomeOf } from "../../testing/command-outcome.js";
import { lockCommand } from "./lock-command.js";
import type { LockGetOptions } from "./lock-get.js";
import type { LockRunOptions } from "./lock-run.js";

const TOKEN = ["--token", "access.token.signature"];
/** An exit code of the command that runs under the lock. */
const COMMAND_CODE = 7;

const runs: LockRunOptions[] = [];
const gets: LockGetOptions[] = [];
const lock = lockCommand(
  async (options) => {
    runs.push(options);
    return COMMAND_CODE;
  },
  async (options) => {
    gets.push(options);
    return 0;
  },
);

const directory = mkdtempSync(join(tmpdir(), "sessiond-lock-"));
afterAll(() => rmSync(directory, { recursive: true }));

test("runs a command under a lock of the development server", async () => {
  const args = ["run", "invoices", "--ttl=5s", ...TOKEN, "--", "make", "--help", "--", "all"];
  expect((await outcomeOf(lock, args)).code).toBe(COMMAND_CODE);
  expect(runs.splice(0)).toMatchObject([
    {
      server: { url: new URL("http://127.0.0.1:50051"), token: "access.token.signature" },
      name: "invoices",
      ttlMs: 5_000,
      waitTimeoutMs: 20_000,
      command: "make",
      args: ["--help", "--", "all"],
    },
  ]);
});

test("asks about a lock", async () => {
  await outcomeOf(lock, ["get", "-invoices", "--json", ...TOKEN]);
  expect(gets.splice(0)).toMatchObject([{ name: "-invoices", json: true }]);
});

test("takes the server and the token from the environment, and gives it to the command", async () => {
  const env = { SESSIOND_SERVER: "sessiond.internal:50051", SESSIOND_TOKEN: "a.b.c", HOME: "/x" };
  await outcomeOf(lock, ["run", "x", "--wait-timeout=0s", "--", "ls"], env);
  const server = { url: new URL("http://sessiond.internal:50051"), token: "a.b.c" };
  expect(runs.splice(0)).toMatchObject([{ server, waitTimeoutMs: 0, ttlMs: 30_000, env }]);
});

test("makes a token if the data directory is a development server's", async () => {
  const dataDir = join(directory, "data");
  await mintDevelopmentToken({ dataDir, permissions: [], subject: "ann", ttlMs: 1_000 });
  const flags = ["run", "x", "--data-dir", dataDir];
  await outcomeOf(lock, [...flags, "--", "ls"]);
  expect(runs.splice(0)).toMatchObject([{ server: { token: undefined, dataDir } }]);
  // Another machine that gets the token could use it here.
  const remote = [...flags, "--server", "http://example.com:50051", "--", "ls"];
  expect(await faultsOf(lock, remote)).toEqual([
    expect.stringContaining("--token (SESSIOND_TOKEN): required"),
  ]);
});

test("makes no key if there is none, since no server would know it", async () => {
  const dataDir = join(directory, "no-data");
  const [fault, ...others] = await faultsOf(lock, ["run", "x", "--data-dir", dataDir, "--", "ls"]);
  expect(fault).toContain(`no development server's key in ${dataDir}`);
  expect(fault).toContain("--data-dir");
  expect(fault).toContain("--token");
  expect(others).toEqual([]);
  expect(existsSync(dataDir)).toBe(false);
});

test.each([
  [[], "expected sessiond lock run NAME"],
  [["run"], "the lock's NAME is missing after run: sessiond lock run NAME"],
  [["get"], "the lock's NAME is missing after get: sessiond lock get NAME"],
  [["get", "x", "--ttl=5s", ...TOKEN], "--ttl: unknown flag"],
  [["run", "--", "ls"], "the lock's NAME is missing after run"],
  [["run", "--ttl=5s", "--", "ls"], "the lock's NAME is missing after run"],
  [["steal", "x", "--", "ls"], "expected sessiond lock run NAME"],
  [["gett", "x"], "(did you mean get?)"],
  [["run", "x", ...TOKEN], "the -- before the command is missing"],
  [["run", "x", ...TOKEN, "make", "--all"], "the -- before the command is missing"],
  [["run", "x", "y:z", ...TOKEN, "--", "ls"], "argument 3: not a flag"],
  [["run", "x", ...TOKEN, "--"], "the command after -- is missing"],
  [["run", "x", ...TOKEN, "--ttl=2h", "--", "ls"], "--ttl: expected at most 1h"],
  [["run", "x", ...TOKEN, "--ttl=0s", "--", "ls"], "--ttl: expected a duration"],
  [["run", "x", ...TOKEN, "--server=ftp://x", "--", "ls"], "--server (SESSIOND_SERVER)"],
  [["run", "x", ...TOKEN, "--data-dir=", "--", "ls"], "--data-dir: expected a path"],
])("%j is refused", async (args, expected) => {
  expect(await faultsOf(lock, args)).toEqual([expect.stringContaining(expected)]);
  expect(runs).toEqual([]);
});
