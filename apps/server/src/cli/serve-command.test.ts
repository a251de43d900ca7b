import { expect, test } from "vitest";
import type { Config } from "../config/config.js";
import { faultsOf, outcomeOf } from "../testing/command-outcome.js";
import { serveCommand } from "./serve-command.js";

const served: Config[] = [];
const serve = serveCommand(async (config) => void served.push(config));

test("serves with the configuration of flags and environment", async () => {
  const env = { SESSIOND_IDLE_TIMEOUT: "5m", SESSIOND_LIFETIME: "1h" };
  expect((await outcomeOf(serve, ["--dev", "--lifetime", "2h"], env)).code).toBe(0);
  const sessionPolicy = { idleTimeoutMs: 300_000, lifetimeMs: 7_200_000 };
  expect(served.splice(0)).toMatchObject([{ sessionPolicy }]);
});

test("does not start with a faulty configuration, and names every fault", async () => {
  const flags = ["--store", "x", "--nonsense"];
  expect(await faultsOf(serve, flags, { SESSIOND_LIFETIME: "x" })).toEqual([
    "--nonsense: unknown flag",
    expect.stringMatching(/^SESSIOND_STORE \(--store\): expected/),
    expect.stringMatching(/^SESSIOND_LIFETIME \(--lifetime\): expected/),
    expect.stringMatching(/^SESSIOND_KEYRING \(--keyring\): required without --dev/),
    expect.stringMatching(/^SESSIOND_AUTH \(--auth\): required without --dev/),
  ]);
  expect(served).toEqual([]);
});
