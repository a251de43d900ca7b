import { expect, test } from "vitest";
import { ConfigError } from "../config/config-error.js";
import { outcomeOf } from "../testing/command-outcome.js";
import { runCli } from "./cli.js";
import type { Command } from "./command/command.js";
import { COMMANDS } from "./sessiond.js";

/** Runs a whole command line. None of these starts anything. */
function run(argv: readonly string[], commands = COMMANDS) {
  return outcomeOf({ run: ({ args, ...rest }) => runCli(commands, { ...rest, argv: args }) }, argv);
}

/** A single command, `it`. */
const commandThat = (run: Command["run"]) =>
  new Map([["it", { summary: "", help: () => "", run }]]);

test.each([[[]], [["help"]], [["--help"]], [["-h"]], [["help", "help"]]])(
  "%j prints every command",
  async (argv) => {
    const { code, stdout, stderr } = await run(argv);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const command of [
      "serve",
      "doctor",
      "login",
      "logout",
      "sessions",
      "lock",
      "rate-limit",
      "completion",
      "help",
    ]) {
      expect(stdout).toMatch(new RegExp(`^  ${command} +\\w`, "m"));
    }
  },
);

test.each([
  ["serve", "SESSIOND_GRPC_ADDRESS"],
  ["token", "sessions:create"],
  ["keygen", 'behind the old, SESSIOND_KEYRING="old:…,new:…"'],
  ["doctor", "prints no secret"],
  ["keys", 'behind the old one, SESSIOND_KEYRING="old:…,new:…"'],
  ["lock", "SESSIOND_FENCING_TOKEN"],
  ["rate-limit", "--cost"],
  ["sessions", "--show-revoked"],
  ["login", "$XDG_STATE_HOME/sessiond/logins.json"],
  ["logout", "revokes them"],
  ["completion", "source <(sessiond completion bash)"],
])("%s --help prints the command's flags, and does nothing else", async (command, expected) => {
  const help = await run(["help", command]);
  expect(help).toMatchObject({ code: 0, stderr: "" });
  expect(help.stdout).toContain(`Usage: sessiond ${command}`);
  expect(help.stdout).toContain(expected);
  for (const flags of [["--help"], ["-h"], ["--nonsense", "--help"]]) {
    expect(await run([command, ...flags])).toEqual(help);
  }
});

test.each([...COMMANDS.keys(), "help"])("the help of %s fits 80 columns", async (command) => {
  const { stdout } = await run(["help", command]);
  expect(stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
});

test("the version is the package's", async () => {
  const stdout = expect.stringMatching(/^sessiond \d+\.\d+\.\d+\n$/);
  expect(await run(["--version"])).toMatchObject({ code: 0, stdout });
});

test.each([
  [["serv"], "unknown command serv (did you mean serve?); see: sessiond help"],
  [["help", "tokn"], "unknown command tokn (did you mean token?); see: sessiond help"],
  [["redis://:hunter2@localhost"], "unknown command; see: sessiond help"],
])("%j is no command, and refused", async (argv, expected) => {
  expect(await run(argv)).toEqual({ code: 2, stdout: "", stderr: `sessiond: ${expected}\n` });
});

test("flags without a command start the server", async () => {
  expect(await run(["--dev", "--help"])).toEqual(await run(["serve", "--help"]));
  const { stderr } = await run(["--stor=redis://:hunter2@localhost"]);
  expect(stderr).toContain("--stor: unknown flag (did you mean --store?)");
  expect(stderr).not.toContain("hunter2");
});

test("a command gets the arguments after its name, and decides the exit code", async () => {
  const countArguments = commandThat(async ({ args }) => args.length);
  expect((await run(["it", "a", "--", "--help"], countArguments)).code).toBe(3);
});

test.each([
  [
    "failure is 1, with its causes",
    1,
    new Error("cannot listen", { cause: new Error("address in use") }),
    "sessiond: cannot listen\n  caused by: address in use\n",
  ],
  [
    "faulty configuration is 2, with every fault",
    2,
    new ConfigError(["--nonsense: unknown flag", "SESSIOND_STORE: expected …"]),
    "sessiond: --nonsense: unknown flag\nsessiond: SESSIOND_STORE: expected …\n",
  ],
])("the exit code of a %s", async (_, code, error, stderr) => {
  const failing = commandThat(() => Promise.reject(error));
  expect(await run(["it"], failing)).toEqual({ code, stdout: "", stderr });
});
