import { readFileSync } from "node:fs";
import { didYouMean } from "../config/closest-name.js";
import { ConfigError } from "../config/config-error.js";
import type { Command, CommandContext } from "./command/command.js";
import { EXIT_FAILURE, EXIT_OK, EXIT_USAGE } from "./command/exit-codes.js";
import { type Commands, type CommandWork, commandsOf } from "./commands.js";

/** What the command line runs with. */
export interface CliContext extends Omit<CommandContext, "args">, CommandWork {
  /** The arguments after the program: `process.argv.slice(2)`. */
  readonly argv: readonly string[];
}

/**
 * Runs one command and answers the exit code: 0 when all is well, 1 when it
 * failed, 2 when the command line or the configuration is at fault, 128 and its
 * number when a signal stopped it, or what the command's own help says. Never rejects. The
 * command's output goes to `stdout`, everything else to `stderr`.
 */
export async function runCli(context: CliContext): Promise<number> {
  const { argv, stdout, stderr } = context;
  const [first = "help", ...args] = argv;
  const commands = commandsOf(context);
  try {
    if (first === "--version") stdout.write(`sessiond ${version()}\n`);
    else if (first === "help" || first === "--help" || first === "-h")
      stdout.write(help(commands, args));
    else if (asksForHelp(args)) stdout.write(help(commands, [first]));
    else return await commandNamed(commands, first).run({ ...context, args });
    return EXIT_OK;
  } catch (error) {
    if (error instanceof ConfigError) {
      stderr.write(`sessiond: ${error.faults.join("\nsessiond: ")}\n`);
      return EXIT_USAGE;
    }
    stderr.write(`sessiond: ${describeFailure(error)}\n`);
    return EXIT_FAILURE;
  }
}

/** What comes after `--` is for the command that stands there. */
function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  const own = end === -1 ? args : args.slice(0, end);
  return own.includes("--help") || own.includes("-h");
}

function commandNamed(commands: Commands, name: string): Command {
  const command = commands.get(name);
  if (command !== undefined) return command;
  if (name.startsWith("-")) {
    throw new ConfigError([
      `expected a command before flags: sessiond serve ${nameOfFlag(name)} …`,
    ]);
  }
  const shown = /^[a-z-]{1,32}$/i.test(name) ? ` ${name}` : "";
  const hint = didYouMean(name, [...commands.keys(), "help"]);
  throw new ConfigError([`unknown command${shown}${hint}; see: sessiond help`]);
}

function help(commands: Commands, [name]: readonly string[]): string {
  if (name !== undefined && name !== "help") return commandNamed(commands, name).help();
  const summaries = [...commands].map(([command, { summary }]) => [command, summary]);
  const lines = [...summaries, ["help", "prints this, or with a command's name what that takes"]];
  return `sessiond ${version()}, a session service over gRPC, Connect and JSON

Usage: sessiond <command> [flags]

${lines.map(([command = "", summary]) => `  ${command.padEnd(11)} ${summary}\n`).join("")}
Every setting of the server: sessiond serve --help
`;
}

function version(): string {
  const json: unknown = JSON.parse(
    readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
  );
  const hasVersion = typeof json === "object" && json !== null && "version" in json;
  return hasVersion ? String(json.version) : "";
}

/** The error's message and those of what caused it, one per line. */
function describeFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause === undefined
    ? error.message
    : `${error.message}\n  caused by: ${describeFailure(cause)}`;
}

/** `--store=redis://…` may hold a password. */
function nameOfFlag(flag: string): string {
  return flag.split("=")[0] ?? flag;
}
