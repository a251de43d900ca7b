import { didYouMean } from "../config/closest-name.js";
import { ConfigError } from "../config/config-error.js";
import { version } from "../observability/version.js";
import type { Command, CommandContext } from "./command/command.js";
import { EXIT_FAILURE, EXIT_OK, EXIT_USAGE, exitCodeOf } from "./command/exit-codes.js";
import { ReaderGoneError, writePaced } from "./terminal/paced-output.js";

/** The commands by name, in the order in which `sessiond help` lists them. */
export type Commands = ReadonlyMap<string, Command>;

/** The input and the outputs of the program. */
export interface CliContext extends Omit<CommandContext, "args"> {
  /** The arguments after the program: `process.argv.slice(2)`. */
  readonly argv: readonly string[];
}

/**
 * Runs the command that `argv` names. Returns its exit code, which the command's
 * help explains. The codes of all commands: 0 for success, 1 for a failure, 2 if
 * the command line or the configuration is at fault, 128 and its number if a
 * signal stopped it. A reader of `stdout` who has gone counts as SIGPIPE. Writes faults
 * and failures to `stderr`. Never rejects.
 */
export async function runCli(commands: Commands, context: CliContext): Promise<number> {
  const { argv, stdout, stderr } = context;
  const [first = "help", ...rest] = argv;
  // Flags without a command belong to serve: npx @sessiond/server --dev
  const [name, args] = first.startsWith("-") ? ["serve", argv] : [first, rest];
  try {
    if (first === "--version") await writePaced(stdout, `sessiond ${version()}\n`);
    else if (first === "help" || first === "--help" || first === "-h")
      await writePaced(stdout, help(commands, rest[0]));
    else if (asksForHelp(args)) await writePaced(stdout, help(commands, name));
    else return await commandNamed(commands, name).run({ ...context, args });
    return EXIT_OK;
  } catch (error) {
    if (error instanceof ConfigError) {
      stderr.write(`sessiond: ${error.faults.join("\nsessiond: ")}\n`);
      return EXIT_USAGE;
    }
    if (error instanceof ReaderGoneError) return exitCodeOf("SIGPIPE");
    stderr.write(`sessiond: ${describeFailure(error)}\n`);
    return EXIT_FAILURE;
  }
}

/** Arguments after `--` belong to another program, as in `lock run`. */
function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  const own = end === -1 ? args : args.slice(0, end);
  return own.includes("--help") || own.includes("-h");
}

function commandNamed(commands: Commands, name: string): Command {
  const command = commands.get(name);
  if (command !== undefined) return command;
  const shown = /^[a-z-]{1,32}$/i.test(name) ? ` ${name}` : "";
  const hint = didYouMean(name, [...commands.keys(), "help"]);
  throw new ConfigError([`unknown command${shown}${hint}; see: sessiond help`]);
}

function help(commands: Commands, name = "help"): string {
  if (name !== "help") return commandNamed(commands, name).help();
  const summaries = [...commands].map(([command, { summary }]) => [command, summary]);
  const lines = [...summaries, ["help", "prints this, or with a command's name what that takes"]];
  return `sessiond ${version()}, a session service over gRPC, Connect and JSON

Usage: sessiond <command> [flags]
       sessiond [flags], which is sessiond serve

${lines.map(([command = "", summary]) => `  ${command.padEnd(11)} ${summary}\n`).join("")}
Every setting of the server: sessiond serve --help
`;
}

/** The messages of an error and its causes, one per line. */
function describeFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause === undefined
    ? error.message
    : `${error.message}\n  caused by: ${describeFailure(cause)}`;
}
