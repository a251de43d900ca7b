import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  mkdtempDisposableSync,
  mkdtempSync,
  openSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSessionClient, type NewSession } from "@sessiond/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { faultsOf, outcomeOf } from "../../testing/command-outcome.js";
import {
  developmentToken,
  type ListeningServerProcess,
  spawnServer,
  spawnSessiond,
} from "../../testing/server-process.js";
import type { Command } from "../command/command.js";
import { COMMANDS } from "../sessiond.js";

const directory = mkdtempSync(join(tmpdir(), "sessiond-sessions-"));
const dataDir = join(directory, "data");

let server: ListeningServerProcess;
beforeAll(async () => {
  server = await spawnServer({ flags: ["--dev", "--data-dir", dataDir] });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

const access = () => ({ SESSIOND_SERVER: server.grpcUrl, SESSIOND_DATA_DIR: dataDir });

/** Runs `sessiond sessions` in a process of its own, for what signals and memory do. */
function spawnSessions(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return spawnSessiond(["sessions", ...args], { env: { ...access(), ...env } });
}

const command = COMMANDS.get("sessions") as Command;
const sessions = (...args: readonly string[]) => outcomeOf(command, args, access());
const countOf = async (userId: string) =>
  Number((await sessions("count", "--user", userId)).stdout);

/** Creates a session for each, a few at a time. Resolves with their ids. */
async function create(wanted: readonly NewSession[]): Promise<readonly string[]> {
  const token = await developmentToken(dataDir);
  using client = createSessionClient({ baseUrl: server.grpcUrl, token, timeoutMs: 20_000 });
  const ids: string[] = [];
  const rest = wanted.entries();
  const worker = async () => {
    for (const [at, session] of rest) ids[at] = (await client.createSession(session)).session.id;
  };
  await Promise.all(Array.from({ length: 20 }, worker));
  return ids;
}

const users = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, at) => `${prefix}-${at}`);

test("lists more than its memory holds, each session in a line of JSON", async () => {
  const data = { text: "x".repeat(15_000) };
  const many = users("many", 1_500);
  const ids = await create(many.map((userId) => ({ userId, roles: ["many"], data })));
  const run = spawnSessions(["list", "--role", "many", "--json"], {
    NODE_OPTIONS: "--max-old-space-size=40",
  });
  expect(await run.ended).toBe(0);
  const lines = run.stdout.trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line).id).sort()).toEqual([...ids].sort());
}, 120_000);

test("shows, counts and revokes a session, and never its token", async () => {
  const client = { ip: "203.0.113.7", device: "phone \u202e" };
  const [id = ""] = await create([{ userId: "ann", client, data: { theme: "dark" } }]);
  const { stdout } = await sessions("get", id);
  expect(stdout).toMatch(/^user +ann$/m);
  expect(stdout).toMatch(/^device +phone \\u\{202e\}$/m);
  expect(stdout).toContain('"theme": "dark"');
  expect(stdout).not.toContain("sst_");
  expect(await countOf("ann")).toBe(1);
  const revoke = ["revoke", id, "--reason=test", "--json"];
  expect(JSON.parse((await sessions(...revoke)).stdout)).toEqual({ sessionId: id, revoked: true });
  expect(JSON.parse((await sessions(...revoke)).stdout)).toEqual({ sessionId: id, revoked: false });
  expect((await sessions("get", id)).code).toBe(1);
  const ended = await sessions("list", "--user=ann", "--show-revoked");
  expect(ended.stdout).toMatch(/^ID .*STATE.*\n[0-9a-f]{64} {2}ann {3}revoked {2}.*203\.0\.113\.7/);
});

test("revokes nobody's sessions without a yes, or a terminal to ask on", async () => {
  await create([{ userId: "bob" }, { userId: "bob" }]);
  const plan = await sessions("revoke-user", "bob", "nobody", "--dry-run");
  expect(plan).toEqual({
    code: 0,
    stdout: "",
    stderr: "sessiond: this ends 2 sessions of 2 users:\n  bob: 2 sessions\n  nobody: 0 sessions\n",
  });
  const other = await sessions("revoke-user", "bob", "--dry-run", "--except=not-of-bob");
  expect(other.stderr).toContain("bob: 2 sessions");
  // Nothing is counted before: the answer needs no server.
  const noServer = { ...access(), SESSIOND_SERVER: "http://127.0.0.1:1" };
  const faults = await faultsOf(command, ["revoke-user", "bob"], noServer);
  expect(faults).toEqual(["--yes: required, since there is no terminal to ask on"]);
  expect(await countOf("bob")).toBe(2);
});

test("revoking many users can be interrupted between two of them, and repeated", async () => {
  const all = users("leaver", 400);
  await create(all.map((userId) => ({ userId })));
  const revoke = ["revoke-user", ...all, "--yes", "--json"];
  await using first = spawnSessions(revoke);
  await first.printed(/"revokedCount":1/);
  first.kill("SIGINT");
  expect(await first.ended).toBe(130);
  const ended = first.stdout.trimEnd().split("\n").length;
  expect(ended).toBeLessThan(all.length);
  expect(first.stderr).toContain(`SIGINT: ended ${ended} session`);
  const second = await sessions(...revoke);
  expect(second.code).toBe(0);
  const lines = second.stdout.trimEnd().split("\n");
  const counts = lines.map((line) => JSON.parse(line).revokedCount);
  expect(counts).toEqual(all.map((_, at) => (at < ended ? 0 : 1)));
}, 120_000);

test.each([
  [["sessions", "list", "--user=erin"], { userId: "erin", displayName: "\u202e" }],
  [["sessions", "get", "of-erin"], { id: "of-erin", data: { text: "a\nb" } }],
  [["sessions", "count", "--user=erin"], { count: 1 }],
  [["lock", "get", "of-erin"], { name: "of-erin", held: false }],
  [["rate-limit", "get", "login", "erin"], { policy: "login", allowed: true, remaining: 10 }],
  [["rate-limit", "check", "login", "erin"], { policy: "login", allowed: true, remaining: 9 }],
])(
  "%j --json answers with a line of JSON, which jq reads",
  async ([name = "", ...args], expected) => {
    const erin = { userId: "erin", sessionId: "of-erin", displayName: "\u202e" };
    if (args[0] === "list") await create([{ ...erin, data: { text: "a\nb" } }]);
    const { stdout } = await outcomeOf(
      COMMANDS.get(name) as Command,
      [...args, "--json"],
      access(),
    );
    expect(stdout).toMatch(/^[ -~]+\n$/);
    const parsed = execFileSync("jq", ["-c", "."], { input: stdout, encoding: "utf8" });
    expect(JSON.parse(parsed)).toMatchObject(expected);
  },
);

const answering = [
  [["sessions", "count"]],
  [["lock", "get", "report"]],
  [["rate-limit", "get", "login", "ann"]],
  [["completion", "bash"]],
  [["help"]],
];

test.each(answering)("an answer to %j that cannot be written is a failure", async (args) => {
  const full = openSync("/dev/full", "w");
  const run = spawnSessiond(args, { env: access(), stdout: full });
  expect(await run.ended).toBe(1);
  expect(run.stderr).toContain("sessiond: ENOSPC");
  closeSync(full);
});

test.each(answering)("%j ends as by SIGPIPE if nobody reads its answer", async (args) => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "sessiond-pipe-"));
  const path = join(directory.path, "pipe");
  execFileSync("mkfifo", [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, "w");
  closeSync(reader);
  const run = spawnSessiond(args, { env: access(), stdout: writer });
  expect(await run.ended).toBe(141);
  expect(run.stderr).toBe("");
  closeSync(writer);
});

test("watch prints changes as they come, also after its server came back, until Ctrl-C", async () => {
  await using watch = spawnSessions(["watch", "--user=carol", "--json"]);
  // A watch begins when the server has answered. Until then, nothing that happens is told.
  const somethingHappens = async () => {
    await create([{ userId: "carol" }, { userId: "dan" }]);
    return watch.stdout;
  };
  await expect.poll(somethingHappens, { timeout: 30_000 }).toContain('"type":"created"');
  await server[Symbol.asyncDispose]();
  const addresses = ["--grpc-address", server.grpcAddress, "--http-address", "127.0.0.1:0"];
  await using back = spawnSessiond(["serve", "--dev", "--data-dir", dataDir, ...addresses]);
  await back.logged("listening");
  await create([{ userId: "carol", sessionId: "second" }]);
  await watch.printed(/"sessionId":"second"/);
  watch.kill("SIGINT");
  expect(await watch.ended).toBe(0);
  const events = watch.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(events.map(({ userId }) => userId)).not.toContain("dan");
}, 120_000);
