import { Keyring } from "@sessiond/core";
import { expect, test } from "vitest";
import { faultsOf, outcomeOf } from "../testing/command-outcome.js";
import { keygenCommand } from "./keygen-command.js";

test("prints a key as SESSIOND_KEYRING takes it, another one each time", async () => {
  const first = await outcomeOf(keygenCommand, []);
  const second = await outcomeOf(keygenCommand, []);
  expect(first.code).toBe(0);
  expect(first.stdout).not.toBe(second.stdout);
  const keyring = Keyring.parse(`${first.stdout.trim()},${second.stdout.trim()}`);
  expect(first.stdout).toContain(`${keyring.activeKeyId}:`);
});

test("takes the key's name", async () => {
  const { stdout } = await outcomeOf(keygenCommand, ["--kid", "2026-01"]);
  expect(Keyring.parse(stdout.trim()).activeKeyId).toBe("2026-01");
});

test.each(["", "a:b", "a,b", "a b", "x".repeat(33)])('refuses the name "%s"', async (kid) => {
  expect(await faultsOf(keygenCommand, [`--kid=${kid}`])).toEqual([
    expect.stringContaining("--kid: expected 1 to 32 characters"),
  ]);
});
