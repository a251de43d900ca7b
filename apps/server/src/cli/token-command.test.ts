import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeJwt } from "jose";
import { afterAll, expect, test } from "vitest";
import { faultsOf, outcomeOf } from "../testing/command-outcome.js";
import { tokenCommand } from "./token-command.js";

const directory = mkdtempSync(join(tmpdir(), "sessiond-token-"));
const dataDir = join(directory, "data");
afterAll(() => rmSync(directory, { recursive: true }));

/** The claims of a printed token, with its time to live. */
function claimsOf(stdout: string) {
  expect(stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
  const { sub, scope, iat = 0, exp = 0 } = decodeJwt(stdout.trim());
  return { sub, scope, ttlS: exp - iat };
}

test("prints a token and nothing else, and says that it made a key", async () => {
  const permissions = "sessions:create, sessions:read,sessions:read";
  const flags = ["--permissions", permissions, "--data-dir", dataDir];
  const { code, stdout, stderr } = await outcomeOf(tokenCommand, flags);
  expect(code).toBe(0);
  const scope = "sessions:create sessions:read";
  expect(claimsOf(stdout)).toEqual({ sub: "development", scope, ttlS: 3_600 });
  expect(stderr).toContain(`made a new signing key, ${join(dataDir, "development-signing-key")}`);
  expect(stderr).toContain("--data-dir");
});

test("takes a subject, a time to live, and the data directory from the environment", async () => {
  const flags = ["--permissions=sessions:read", "--subject=billing", "--ttl=5m"];
  const env = { SESSIOND_DATA_DIR: dataDir, SESSIOND_UNRELATED: "x" };
  const { stdout, stderr } = await outcomeOf(tokenCommand, flags, env);
  expect(stderr).toBe("");
  expect(claimsOf(stdout)).toEqual({ sub: "billing", scope: "sessions:read", ttlS: 300 });
});

test("names every fault at once, and makes no key", async () => {
  const flags = [
    ...["--permissions", "sessions:fly,sessions:read", "--subject=", "--ttl=0s"],
    ...["--data-dir", join(directory, "unused"), "--scope", "x"],
  ];
  expect(await faultsOf(tokenCommand, flags)).toEqual([
    "--scope: unknown flag",
    '--permissions: unknown "sessions:fly"; known permissions: sessions:create, sessions:read, ' +
      "sessions:update, sessions:delete, locks:use, rate_limits:use",
    "--subject: expected 1 to 256 characters",
    "--ttl: expected a duration longer than zero",
  ]);
  expect(readdirSync(directory)).not.toContain("unused");
});

test.each([[[]], [["--permissions", ""]], [["--permissions=,"]]])(
  "with %j names the known permissions",
  async (flags) => {
    expect(await faultsOf(tokenCommand, flags)).toEqual([
      expect.stringContaining("expected at least one; known permissions: sessions:create"),
    ]);
  },
);

test("fails if the data directory cannot be used", async () => {
  const flags = ["--permissions=sessions:read", "--data-dir=/dev/null/x"];
  await expect(outcomeOf(tokenCommand, flags)).rejects.toThrow("ENOTDIR");
});
