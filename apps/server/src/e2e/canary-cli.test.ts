import { randomBytes } from "node:crypto";
import { Keyring } from "@sessiond/core";
import { describe, expect, test } from "vitest";
import { runCli } from "../cli/cli.js";
import type { TextOutput } from "../cli/command/command.js";
import { COMMANDS } from "../cli/sessiond.js";
import { SETTING_LIST } from "../config/settings.js";
import { Canaries } from "../testing/canaries.js";

/** What settings that are paths take. */
const PATHS: readonly string[] = ["FILE", "DIRECTORY"];

const canaries = new Canaries();

/** A secret of this test that nothing may let out. */
function canary(name: string, text: string): string {
  canaries.add(name, text);
  return text;
}

describe("the command line", () => {
  const secrets = () => [
    `redis://:${canary("store password", randomBytes(24).toString("base64url"))}@host:x/y/z`,
    canary("keyring", Keyring.generateKey().split(":", 2)[1] ?? ""),
    canary("token of the environment", randomBytes(100).toString("base64url")),
    canary("short secret", randomBytes(25).toString("base64url")),
  ];

  /** Whatever a command writes. */
  async function outputOf(argv: readonly string[], env: Readonly<Record<string, string>> = {}) {
    let text = "";
    const output: TextOutput = {
      write: (part, done) => {
        text += part;
        done?.();
      },
    };
    await runCli(COMMANDS, { argv, env, stdout: output, stderr: output });
    return text;
  }

  test("no command repeats a secret that stands in the wrong place", async () => {
    for (const secret of secrets()) {
      // Nobody could look for a file whose path is not told.
      const settings = SETTING_LIST.filter(({ placeholder }) => !PATHS.includes(placeholder ?? ""));
      // No development key, so no command calls a server that may happen to run here.
      const noServer = { SESSIOND_DATA_DIR: "/no/such/directory" };
      const variables = settings.map(({ env }) => env);
      const env = Object.fromEntries(variables.map((name) => [name, secret]));
      for (const name of ["serve", "doctor"]) {
        expect.soft(canaries.find(await outputOf([name], env)), "in every variable").toEqual([]);
      }
      for (const name of [...COMMANDS.keys(), "", "help"]) {
        const help = await outputOf(["help", name]);
        expect(canaries.find(help)).toEqual([]);
        const paths: readonly string[] = help.match(/--[a-z-]+(?= (?:FILE|DIRECTORY))/g) ?? [];
        const flags = [...new Set(help.match(/--[a-z][a-z-]+/g))].filter(
          (flag) => !paths.includes(flag),
        );
        const actions = [...help.matchAll(/sessiond [a-z-]+ ([a-z][a-z-]*)/g)].map(
          ([, word]) => word,
        );
        for (const argv of [
          ...actions.flatMap((action = "") => [
            [name, action, secret],
            [name, action, secret, secret, "--", secret],
            [name, action, `--${secret}`],
          ]),
          [name, secret],
          [name, secret, secret],
          [name, `--${secret}`],
          [name, `--nonsense=${secret}`],
          [name, ...flags.map((flag) => `${flag}=${secret}`)],
          ...flags.map((flag) => [name, flag, secret]),
        ]) {
          if (argv.includes("--help")) continue;
          expect.soft(canaries.find(await outputOf(argv, noServer)), argv.join(" ")).toEqual([]);
        }
      }
    }
  });
});
