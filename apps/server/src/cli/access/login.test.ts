import { mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { faultsOf, outcomeOf } from "../../testing/command-outcome.js";
import { spawnSessiond } from "../../testing/server-process.js";
import { temporaryDirectory } from "../../testing/temporary-directory.js";
import type { Command } from "../command/command.js";
import { COMMANDS } from "../sessiond.js";
import {
  confirmInBrowser,
  type LoginIssuer,
  SCOPE,
  startLoginIssuer,
} from "./login-issuer.test.fixture.js";

const directory = await temporaryDirectory();
const file = join(directory.path, "sessiond", "logins.json");
let world: LoginIssuer;
beforeAll(async () => {
  world = await startLoginIssuer();
});
beforeEach(() => rm(dirname(file), { recursive: true, force: true }));
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

const [login, logout, sessions] = ["login", "logout", "sessions"].map(
  (name) => COMMANDS.get(name) as Command,
) as [Command, Command, Command];
const environment = () => ({
  XDG_STATE_HOME: directory.path,
  SESSIOND_SERVER: world.server.grpcUrl,
  SESSIOND_DATA_DIR: "/no/such/directory",
  SESSIOND_TOKEN_ISSUER: world.issuer.url,
  SESSIOND_CLIENT_ID: "operators",
});
const count = () => outcomeOf(sessions, ["count"], environment());
const kept = async () => JSON.parse(await readFile(file, "utf8"))[world.server.grpcUrl];

/** `sessiond login` in a process, until it has said where to confirm. */
async function startLogin() {
  const run = spawnSessiond(["login", "--scope", SCOPE], { env: environment() });
  const address = () => /or open (\S+)/.exec(run.stderr)?.[1];
  await vi.waitUntil(address, { timeout: 20_000, interval: 20 });
  return { run, address: address() ?? "" };
}

async function logIn() {
  const { run, address } = await startLogin();
  await confirmInBrowser(address, "yes");
  expect([await run.ended, run.stderr]).toEqual([0, expect.stringContaining("logged in to")]);
  return run;
}

/** Changes what is kept for the server. */
async function change(part: object): Promise<void> {
  const login = { ...(await kept()), ...part };
  await writeFile(file, JSON.stringify({ [world.server.grpcUrl]: login }));
}

test("a login in a browser lets the command line call this server, and no other", async () => {
  const { stdout, stderr } = await logIn();
  expect(await count()).toEqual({ code: 0, stdout: "0\n", stderr: "" });
  const modes = await Promise.all(
    [file, dirname(file)].map(async (path) => (await stat(path)).mode),
  );
  expect(modes.map((mode) => mode & 0o777)).toEqual([0o600, 0o700]);
  const { accessToken, refreshToken } = await kept();
  expect(stdout).toBe("");
  for (const secret of [accessToken, refreshToken]) expect(stderr).not.toContain(secret);
  for (const other of [world.issuer.url, "https://127.0.0.1:1", "http://sessiond.example"]) {
    const faults = await faultsOf(sessions, ["count", "--server", other], environment());
    expect(faults).toEqual([expect.stringContaining("sessiond login")]);
  }
});

test("an expired login is renewed once for all commands, until the issuer refuses", async () => {
  await logIn();
  const expired = { expireTime: new Date().toISOString() };
  await change(expired);
  const { accessToken, refreshToken } = await kept();
  const asked = world.asked.length;
  const outcomes = await Promise.all([count(), count(), count()]);
  expect(outcomes.map(({ code }) => code)).toEqual([0, 0, 0]);
  expect(world.asked).toHaveLength(asked + 1);
  expect((await kept()).accessToken).not.toBe(accessToken);
  for (const [over, why] of [
    [{ ...expired, refreshToken: "unknown" }, "refuses: invalid_grant"],
    [{ ...expired, refreshToken: undefined }, "the login expired at"],
  ] as const) {
    await change(over);
    const { code, stderr } = await count();
    expect([code, stderr]).toEqual([69, expect.stringContaining(why)]);
    expect(stderr).toContain(`log in again: sessiond login --server ${world.server.grpcUrl}`);
    expect(stderr).not.toContain(refreshToken);
  }
});

test("a login asks less often when it is told to, and ends when the user aborts it", async () => {
  world.slowDowns = 1;
  const asked = world.asked.length;
  const { run, address } = await startLogin();
  await confirmInBrowser(address, "abort");
  expect([await run.ended, run.stderr]).toEqual([1, expect.stringContaining("access_denied")]);
  const [first = 0, second = 0, ...more] = world.asked.slice(asked);
  expect(second - first).toBeGreaterThan(5_000);
  expect(more).toEqual([]);
});

test("a login ends with Ctrl-C, and keeps nothing", async () => {
  const { run } = await startLogin();
  run.kill("SIGINT");
  expect(await run.ended).toBe(130);
  await expect(stat(file)).rejects.toThrow("ENOENT");
});

test("a logout deletes the login, and revokes it unless the issuer is down", async () => {
  await logIn();
  const { refreshToken } = await kept();
  expect(await outcomeOf(logout, [], environment())).toMatchObject({ code: 0, stdout: "" });
  expect(await kept()).toBeUndefined();
  expect(world.revoked).toEqual([refreshToken]);
  await logIn();
  const respond = world.issuer.respond;
  world.issuer.respond = (_, response) => void response.writeHead(503).end();
  const { code, stderr } = await outcomeOf(logout, [], environment());
  world.issuer.respond = respond;
  expect([code, stderr]).toEqual([0, expect.stringContaining("is not revoked at its issuer")]);
  expect(await kept()).toBeUndefined();
});

test.each([
  ["others can read", "{}", 0o640, "expected mode 0600"],
  ["is damaged", '{"x":{"accessToken":"secret"}}', 0o600, "is damaged; remove it"],
])("a file of logins that %s is refused, and not shown", async (_, text, mode, fault) => {
  await mkdir(dirname(file));
  await writeFile(file, text, { mode });
  const faults = await faultsOf(sessions, ["count"], environment());
  expect(faults[0]).toContain(fault);
  expect(faults.join()).not.toContain("secret");
  await expect(outcomeOf(login, [], environment())).rejects.toThrow(fault);
});

test.each([
  [["--server=http://sessiond.example"], "--server: expected an https:// URL"],
  [["--issuer=http://id.example.com"], "--issuer: expected an https:// URL"],
  [["--issuer="], "--issuer: required (SESSIOND_TOKEN_ISSUER)"],
  [["--client-id="], "--client-id: required (SESSIOND_CLIENT_ID)"],
])("login %j is refused", async (args, fault) => {
  const { XDG_STATE_HOME } = environment();
  const given = ["--issuer=https://id.example.com", "--client-id=operators"];
  const flags = given.filter((flag) => !args.some((arg) => arg.startsWith(flag.slice(0, 8))));
  const faults = await faultsOf(login, [...args, ...flags], { XDG_STATE_HOME });
  expect(faults).toEqual([expect.stringContaining(fault)]);
});

test("an issuer that is down is told, with its address", async () => {
  const args = ["--issuer", "http://127.0.0.1:1"];
  const { code, stderr } = await outcomeOf(login, args, environment());
  expect([code, stderr]).toEqual([
    69,
    expect.stringMatching(/http:\/\/127\.0\.0\.1:1\/ .*(bad port|ECONNREFUSED)/),
  ]);
});
