import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { faultsOf, outcomeOf } from "../../testing/command-outcome.js";
import { temporaryDirectory } from "../../testing/temporary-directory.js";
import type { Command } from "../command/command.js";
import { COMMANDS } from "../sessiond.js";
import { type LoginIssuer, MACHINE, SCOPE, startLoginIssuer } from "./login-issuer.test.fixture.js";

const directory = await temporaryDirectory();
const secretFile = join(directory.path, "secret");
let world: LoginIssuer;
beforeAll(async () => {
  await writeFile(secretFile, `${MACHINE.secret}\n`);
  world = await startLoginIssuer();
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

const sessions = COMMANDS.get("sessions") as Command;
const environment = () => ({
  SESSIOND_SERVER: world.server.grpcUrl,
  SESSIOND_TOKEN_ISSUER: world.issuer.url,
  SESSIOND_CLIENT_ID: MACHINE.id,
  SESSIOND_TOKEN_SCOPE: SCOPE,
});
const counted = { code: 0, stdout: "0\n", stderr: "" };

test("a client with a secret gets its access token from the issuer", async () => {
  const byFlag = ["count", "--client-secret-file", secretFile];
  expect(await outcomeOf(sessions, byFlag, environment())).toEqual(counted);
  const byVariable = { ...environment(), SESSIOND_CLIENT_SECRET: MACHINE.secret };
  expect(await outcomeOf(sessions, ["count"], byVariable)).toEqual(counted);
});

test("a wrong secret is the issuer's refusal, and not shown", async () => {
  const env = { ...environment(), SESSIOND_CLIENT_SECRET: "another-secret" };
  const { code, stderr } = await outcomeOf(sessions, ["count"], env);
  expect(code).toBe(69);
  expect(stderr).toContain(`the issuer ${world.issuer.url} gives no access token: invalid_client`);
  expect(stderr).not.toContain("another-secret");
});

test("an issuer that is down is named", async () => {
  const args = ["count", "--client-secret-file", secretFile, "--issuer", "http://127.0.0.1:1"];
  const { code, stderr } = await outcomeOf(sessions, args, environment());
  expect([code, stderr]).toEqual([69, expect.stringContaining("there is no access token: ")]);
  expect(stderr).toMatch(/fetch failed: \S/);
});

test.each([
  [["--token=a.b.c", "--issuer=https://id.example"], {}, "--issuer: not with --token"],
  [
    ["--token-file=/x", "--client-secret-file=/x"],
    {},
    "--client-secret-file: not with --token-file",
  ],
  [["--client-id=cron"], {}, "--client-secret-file: required for a client"],
  [[], { SESSIOND_CLIENT_SECRET: "x", SESSIOND_TOKEN: "a.b.c" }, "SESSIOND_TOKEN is set, too"],
  [[], { SESSIOND_CLIENT_SECRET: "x" }, "--client-id: required (SESSIOND_CLIENT_ID)"],
])("%j with %j is refused", async (args, env, fault) => {
  expect((await faultsOf(sessions, ["count", ...args], env)).join("\n")).toContain(fault);
});

test("a flag comes before a variable, so that one call may have another identity", async () => {
  const env = { ...environment(), SESSIOND_TOKEN: "a.b.c" };
  const args = ["count", "--client-secret-file", secretFile];
  expect(await outcomeOf(sessions, args, env)).toEqual(counted);
});
