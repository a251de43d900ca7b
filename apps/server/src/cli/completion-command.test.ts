import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { faultsOf, outcomeOf } from "../testing/command-outcome.js";
import type { Command } from "./command/command.js";
import { COMMANDS } from "./sessiond.js";

const completion = COMMANDS.get("completion") as Command;

/** The words that bash offers when the user presses Tab after `words`. The last word is incomplete. */
async function offered(...words: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await outcomeOf(completion, ["bash"]);
  const line = `COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _sessiond; printf "%s\\n" "\${COMPREPLY[@]}"`;
  const args = ["--norc", "-c", `${stdout}\n${line}`, "bash", "sessiond", ...words];
  return execFileSync("bash", args, { encoding: "utf8" }).split("\n").filter(Boolean);
}

test("bash completes every command, its actions, and its flags", async () => {
  expect(await offered("")).toEqual([...COMMANDS.keys(), "help"]);
  expect(await offered("sessions", "re")).toEqual(["revoke", "revoke-user"]);
  expect(await offered("rate-limit", "")).toEqual(["check", "get", "reset"]);
  expect(await offered("sessions", "list", "--show")).toEqual(["--show-expired", "--show-revoked"]);
  expect(await offered("lock", "run", "x", "--tok")).toEqual(["--token", "--token-file"]);
  expect(await offered("serve", "--keyri")).toContain("--keyring");
});

test.each(["zsh", "fish"])("%s gets the same words", async (shell) => {
  const { stdout } = await outcomeOf(completion, [shell]);
  for (const word of ["sessions", "revoke-user", "show-expired", "keygen", "help"]) {
    expect(stdout).toContain(word);
  }
});

test.each([[[]], [["powershell"]], [["bash", "zsh"]]])("%j is refused", async (args) => {
  const fault = "expected sessiond completion bash|zsh|fish; see: sessiond help completion";
  expect(await faultsOf(completion, args)).toEqual([fault]);
});
