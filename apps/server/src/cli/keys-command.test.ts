import { existsSync } from "node:fs";
import { Keyring } from "@sessiond/core";
import { expect, test } from "vitest";
import { faultsOf, outcomeOf } from "../testing/command-outcome.js";
import { keysCommand } from "./keys-command.js";
import type { ResealOptions } from "./reseal.js";

const keyring = `${Keyring.generateKey("new")},${Keyring.generateKey("old")}`;
/** The exit code of a command that SIGINT stopped. */
const STOPPED = 130;

const resealed: ResealOptions[] = [];
const keys = keysCommand(async (options) => {
  resealed.push(options);
  return STOPPED;
});

test("reseals the store of flags and environment under the first key", async () => {
  const env = { SESSIOND_KEYRING: keyring, SESSIOND_STORE: "redis://localhost/3" };
  expect((await outcomeOf(keys, ["reseal", "--store=sqlite:x.db"], env)).code).toBe(STOPPED);
  expect(resealed.splice(0)).toMatchObject([
    { config: { store: { kind: "sqlite", path: "x.db" } }, keyring: { activeKeyId: "new" } },
  ]);
});

test("takes a server's environment as it is, even without the auth file", async () => {
  const env = {
    SESSIOND_KEYRING: keyring,
    SESSIOND_GRPC_ADDRESS: "0.0.0.0:50051",
    SESSIOND_HTTP_ADDRESS: "0.0.0.0:8080",
    SESSIOND_AUTH: "/no/such/file.json",
  };
  await outcomeOf(keys, ["reseal"], env);
  expect(resealed.splice(0)).toHaveLength(1);
});

test("makes neither a key nor a folder if none is given", async () => {
  expect(await faultsOf(keys, ["reseal", "--data-dir", "no-such-directory"])).toEqual([
    expect.stringMatching(/^SESSIOND_DATA_DIR .*no-such-directory does not$/),
    expect.stringContaining("SESSIOND_KEYRING (--keyring): required"),
  ]);
  expect(existsSync("no-such-directory")).toBe(false);
});

test.each([
  [[], {}, "expected sessiond keys reseal"],
  [["rotate"], {}, "expected sessiond keys reseal"],
  [["--store=sqlite:x.db"], {}, "expected sessiond keys reseal"],
  // A misspelled variable would mean another store.
  [["reseal"], { SESSIOND_STROE: "redis://localhost" }, "did you mean SESSIOND_STORE?"],
])("%j with %j is refused", async (args, env, expected) => {
  expect(await faultsOf(keys, args, { SESSIOND_KEYRING: keyring, ...env })).toEqual([
    expect.stringContaining(expected),
  ]);
  expect(resealed).toEqual([]);
});
