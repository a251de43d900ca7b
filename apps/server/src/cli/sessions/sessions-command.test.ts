import { mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { faultsOf, outcomeOf } from "../../testing/command-outcome.js";
import type { SessionCall } from "./session-flags.js";
import { sessionsCommand } from "./sessions-command.js";

const TOKEN = ["--token", "access.token.signature"];

const calls: SessionCall[] = [];
const sessions = sessionsCommand(async (call) => {
  calls.push(call);
  return 0;
});

test("a list takes the filters of the contract", async () => {
  const filters = ["--user=ann", "--role=admin", "--ip=::1", "--created-from=2026-01-31"];
  const more = ["--active-to=2h", "--show-revoked", "--order=oldest-first", "--limit=7", "--json"];
  await outcomeOf(sessions, ["list", ...filters, ...more, ...TOKEN]);
  const [call] = calls.splice(0);
  expect(call).toMatchObject({
    action: "list",
    query: {
      userId: "ann",
      filter: { role: "admin", ip: "::1", createTimeFrom: new Date("2026-01-31T00:00:00Z") },
      showExpired: false,
      showRevoked: true,
      order: "oldest-first",
    },
    limit: 7,
    format: "json",
  });
  const agoMs = Date.now() - Number(call?.action === "list" && call.query.filter?.lastAccessTimeTo);
  expect(agoMs).toBeGreaterThanOrEqual(7_200_000);
  expect(agoMs).toBeLessThan(7_260_000);
});

test("names stand anywhere, as xargs adds them, and each user is taken once", async () => {
  const args = ["revoke-user", "ann", "--reason", "stolen laptop", "--yes", ...TOKEN];
  await outcomeOf(sessions, [...args, "ann", "--", "-bob"]);
  const expected = { userIds: ["ann", "-bob"], reason: "stolen laptop", mode: "yes" };
  expect(calls.splice(0)).toMatchObject([expected]);
});

test("an access token may be in a file, which must be there when a command starts", async () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "sessiond-token-"));
  const file = join(directory.path, "token");
  writeFileSync(file, "access.token.signature\n");
  for (const [args, env] of [
    [["--token-file", file], {}],
    [[], { SESSIOND_TOKEN_FILE: file }],
  ] as const) {
    await outcomeOf(sessions, ["count", ...args], env);
    const [call] = calls.splice(0);
    expect(call?.server.token).toEqual({ file });
  }
  const missing = await faultsOf(sessions, ["count", "--token-file=/no/such/file"]);
  expect(missing[0]).toContain("--token-file: cannot read /no/such/file");
});

/** The commands of the page, without what follows them in the same line. */
const page = readFileSync(new URL("../../../../../docs/cli.md", import.meta.url), "utf8");
const examples = page.match(/(?<=sessiond sessions )\w[^|#\n]*/g) ?? [];

test.each(examples)("the page's `sessiond sessions %s` is understood", async (example) => {
  const isFromXargs = example.startsWith("revoke --");
  const words = (isFromXargs ? `${example} id-1 id-2` : example).match(/"[^"]*"|\S+/g) ?? [];
  expect(await faultsOf(sessions, [...words, ...TOKEN])).toEqual([]);
  expect(calls.splice(0)).toHaveLength(1);
});

test.each([
  [[], "expected sessiond sessions list|get|count|revoke|revoke-user|watch"],
  [["drop"], "expected sessiond sessions list"],
  [["lst"], "(did you mean list?)"],
  [["get"], "the SESSION_ID after get is missing"],
  [["get", "--json"], "the SESSION_ID after get is missing"],
  [["revoke-user", "--yes"], "the USER_ID after revoke-user is missing"],
  [["revoke-user", ""], "the USER_ID after revoke-user is missing"],
  [["get", "a", "--json", "b"], '"b": not a flag'],
  [["get", "sst_AbCdEf"], "SESSION_ID: expected the id of a session"],
  [["revoke", "a b"], "SESSION_ID: expected the id of a session"],
  // An unset variable of a script would otherwise widen the call to all users.
  [["list", "--user="], "--user: expected a value"],
  [["count", "--user="], "--user: expected a value"],
  [["list", "--role="], "--role: expected a value"],
  [["list", "--ip=1.2.3"], "--ip: expected an IP address"],
  [["list", "--ip="], "--ip: expected an IP address"],
  [["list", "--limit=0"], "--limit: expected a whole number from 1"],
  [["list", "--order=random"], "--order: expected newest-first or oldest-first"],
  [["list", "--created-from=yesterday"], "--created-from: expected a time"],
  [["list", "--created-from="], "--created-from: expected a time"],
  [["list", "--created-to=2026-02-30T99:00:00Z"], "--created-to: expected a time"],
  [["list", "--json", "--ids"], "--ids: not with --json"],
  [["list", "--json=maybe"], "--json: expected true or false"],
  [["count", "--role=x"], "--role: unknown flag"],
  [["revoke-user", "a", "b", "--except=s"], "--except: expected only one USER_ID with it"],
  [["revoke-user", "a", "--yes", "--dry-run"], "--yes: not with --dry-run"],
  [["count", "--token-file=/no/such/file"], "--token-file: not with --token"],
])("%j is refused", async (args, expected) => {
  expect(await faultsOf(sessions, [...args, ...TOKEN])).toEqual([
    expect.stringContaining(expected),
  ]);
  expect(calls).toEqual([]);
});
