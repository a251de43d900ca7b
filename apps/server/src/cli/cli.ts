import { existsSync, readFileSync } from "node:fs";
import { Keyring, parseDuration } from "@sessiond/core";
import {
  type DevelopmentToken,
  developmentSigningKeyPath,
  mintDevelopmentToken,
} from "../auth/development-keys.js";
import { didYouMean } from "../config/closest-name.js";
import { type Config, dataDirectory, loadConfig } from "../config/config.js";
import { ConfigError } from "../config/config-error.js";
import type { Environment } from "../config/environment.js";
import { parseFlags } from "../config/flags.js";
import { describeSettings } from "../config/settings-help.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { EXIT_FAILURE, EXIT_OK, EXIT_USAGE } from "./command/exit-codes.js";
import type { ReportOutput } from "./command/progress-report.js";
import { lockHelp, runLockCommand } from "./remote/lock-command.js";
import type { LockRunOptions } from "./remote/lock-run.js";
import type { RateLimitCallOptions } from "./remote/rate-limit-calls.js";
import { rateLimitHelp, runRateLimitCommand } from "./remote/rate-limit-command.js";
import type { ResealOptions } from "./reseal.js";

const TOKEN_FLAGS = ["permissions", "subject", "ttl", "data-dir"];
const DEFAULT_TOKEN_TTL = "1h";

/** What the command line runs with. */
export interface CliContext {
  /** The arguments after the program: `process.argv.slice(2)`. */
  readonly argv: readonly string[];
  readonly env: Environment;
  readonly stdout: Pick<ReportOutput, "write">;
  readonly stderr: ReportOutput;
  /** Serves until it is told to stop; rejects where it cannot. */
  readonly serve: (config: Config) => Promise<void>;
  /** Seals sessions anew; answers the exit code. Rejects where it cannot. */
  readonly reseal: (options: ResealOptions) => Promise<number>;
  /** Runs a command under a lock of a server; answers the exit code. */
  readonly lockRun: (options: LockRunOptions) => Promise<number>;
  /** Asks a server about a rate limit; answers the exit code. */
  readonly rateLimitCall: (options: RateLimitCallOptions) => Promise<number>;
}

/** What one command runs with: its own arguments, and the rest. */
export type CommandContext = Omit<CliContext, "argv"> & { readonly args: readonly string[] };

interface Command {
  readonly summary: string;
  readonly help: () => string;
  /** Answers the exit code. */
  readonly run: (context: CommandContext) => Promise<number>;
}

/**
 * Runs one command and answers the exit code: 0 when all is well, 1 when it
 * failed, 2 when the command line or the configuration is at fault, 128 and its
 * number when a signal stopped it, and what a command's own help says. Never rejects. What was asked for goes to
 * `stdout`, everything else to `stderr`.
 */
export async function runCli(context: CliContext): Promise<number> {
  const { argv, stdout, stderr } = context;
  const [first = "help", ...args] = argv;
  try {
    if (first === "--version") stdout.write(`sessiond ${version()}\n`);
    else if (first === "help" || first === "--help" || first === "-h") stdout.write(help(args));
    else if (asksForHelp(args)) stdout.write(help([first]));
    else return await commandNamed(first).run({ ...context, args });
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

const COMMANDS: ReadonlyMap<string, Command> = new Map([
  ["serve", { summary: "runs the server", help: serveHelp, run: runServe }],
  ["token", { summary: "makes an access token for development", help: tokenHelp, run: runToken }],
  ["keygen", { summary: "makes a key for SESSIOND_KEYRING", help: keygenHelp, run: runKeygen }],
  ["keys", { summary: "seals sessions anew after a new key", help: keysHelp, run: runKeys }],
  ["lock", { summary: "runs a command under a lock", help: lockHelp, run: runLockCommand }],
  ["rate-limit", { summary: "counts an attempt", help: rateLimitHelp, run: runRateLimitCommand }],
]);

/** What comes after `--` is for the command that stands there. */
function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  const own = end === -1 ? args : args.slice(0, end);
  return own.includes("--help") || own.includes("-h");
}

function commandNamed(name: string): Command {
  const command = COMMANDS.get(name);
  if (command !== undefined) return command;
  if (name.startsWith("-")) {
    throw new ConfigError([
      `expected a command before flags: sessiond serve ${nameOfFlag(name)} …`,
    ]);
  }
  const shown = /^[a-z-]{1,32}$/i.test(name) ? ` ${name}` : "";
  const hint = didYouMean(name, [...COMMANDS.keys(), "help"]);
  throw new ConfigError([`unknown command${shown}${hint}; see: sessiond help`]);
}

async function runServe({ args, env, serve }: CommandContext): Promise<number> {
  await serve(await loadConfig({ argv: args, env }));
  return EXIT_OK;
}

function serveHelp(): string {
  return `Usage: sessiond serve [flags]

Runs the server until SIGTERM or SIGINT. Every setting is a flag or an environment
variable; flags go first. Durations are written 500ms, 30s, 30m, 24h, 7d or 1h30m.

On loopback addresses, without a keyring or an auth file, this is a development
server: it makes its own keys, keeps them in the data directory, and accepts the
tokens that \`sessiond token\` makes there.

${describeSettings()}`;
}

async function runToken({ args, env, stdout, stderr }: CommandContext): Promise<number> {
  const token = parseTokenFlags(args, env);
  const keyPath = developmentSigningKeyPath(token.dataDir);
  const isNewKey = !existsSync(keyPath);
  const text = await mintDevelopmentToken(token);
  // Whoever is in the wrong directory learns it here, not from a server's refusal.
  if (isNewKey) {
    stderr.write(
      `sessiond: made a new signing key, ${keyPath}; only a server with this data directory ` +
        "accepts the token (another one's: --data-dir)\n",
    );
  }
  stdout.write(`${text}\n`);
  return EXIT_OK;
}

function parseTokenFlags(args: readonly string[], env: Environment): DevelopmentToken {
  const { values, faults: flagFaults } = parseFlags(args, TOKEN_FLAGS);
  const faults = [...flagFaults];
  const read = <T>(flag: string, fallback: T, parse: (text: string | undefined) => T): T => {
    try {
      return parse(values.get(flag));
    } catch (error) {
      faults.push(`--${flag}: ${error instanceof Error ? error.message : error}`);
      return fallback;
    }
  };
  const token = {
    permissions: read<readonly string[]>("permissions", [], parsePermissions),
    subject: read("subject", "", parseSubject),
    ttlMs: read("ttl", 0, (text) => parseDuration(text ?? DEFAULT_TOKEN_TTL)),
    dataDir: read("data-dir", "", (text) => dataDirectory(text, env)),
  };
  if (faults.length > 0) throw new ConfigError(faults);
  return token;
}

function parsePermissions(text: string | undefined): readonly string[] {
  const known = `known permissions: ${KNOWN_PERMISSIONS.join(", ")}`;
  const permissions = (text ?? "").split(/[\s,]+/).filter((word) => word !== "");
  if (permissions.length === 0) throw new Error(`expected at least one; ${known}`);
  const unknown = permissions.filter((permission) => !KNOWN_PERMISSIONS.includes(permission));
  if (unknown.length > 0)
    throw new Error(`unknown ${JSON.stringify(unknown.join(", "))}; ${known}`);
  return [...new Set(permissions)];
}

function parseSubject(text = "development"): string {
  if (text === "" || text.length > 256) throw new Error("expected 1 to 256 characters");
  return text;
}

function tokenHelp(): string {
  return `Usage: sessiond token --permissions a,b [flags]

Prints an access token that a development server with the same data directory
accepts. It is of no use with a server that has an auth file.

  --permissions LIST     separated by commas: ${KNOWN_PERMISSIONS.slice(0, 2).join(", ")},
                         ${KNOWN_PERMISSIONS.slice(2).join(", ")}
  --subject NAME         who calls, as logs say (default development)
  --ttl DURATION         how long the token is good for (default ${DEFAULT_TOKEN_TTL})
  --data-dir DIRECTORY   the server's (SESSIOND_DATA_DIR, default .sessiond)
`;
}

async function runKeygen({ args, stdout }: CommandContext): Promise<number> {
  const { values, faults } = parseFlags(args, ["kid"]);
  if (faults.length > 0) throw new ConfigError(faults);
  const key = Keyring.generateKey(values.get("kid"));
  try {
    Keyring.parse(key);
  } catch {
    throw new ConfigError(["--kid: expected 1 to 32 characters out of A-Z a-z 0-9 . _ -"]);
  }
  stdout.write(`${key}\n`);
  return EXIT_OK;
}

function keygenHelp(): string {
  return `Usage: sessiond keygen [--kid NAME]

Prints a new key as SESSIOND_KEYRING takes it: kid:base64. To rotate keys, put the
new one behind the old, SESSIOND_KEYRING="old:…,new:…", until every server has it:
one that lacks it cannot open what it seals. The steps after that, and when the old
one can go: sessiond keys --help.

  --kid NAME   the key's name, 1 to 32 characters out of A-Z a-z 0-9 . _ -
               (default a random one)
`;
}

/** Settings that a server's environment may have and that say nothing about keys or the store. */
const SERVER_ONLY = ["SESSIOND_GRPC_ADDRESS", "SESSIOND_HTTP_ADDRESS", "SESSIOND_AUTH"];

async function runKeys({ args, env, stdout, stderr, reseal }: CommandContext): Promise<number> {
  const [action, ...flags] = args;
  if (action !== "reseal") {
    throw new ConfigError(["expected sessiond keys reseal; see: sessiond help keys"]);
  }
  // Where a server would listen, and whom it would let in, is not asked for here.
  const relevant = Object.entries(env).filter(([name]) => !SERVER_ONLY.includes(name));
  const config = await loadConfig({ argv: flags, env: Object.fromEntries(relevant) });
  const { keyring } = config;
  if (keyring === undefined) {
    throw new ConfigError([
      "SESSIOND_KEYRING (--keyring): required; the new key first, then the old",
    ]);
  }
  return reseal({ config, keyring, stdout, stderr });
}

function keysHelp(): string {
  return `Usage: sessiond keys reseal [flags]

Seals every session anew that is not under the first key of SESSIOND_KEYRING, ended
ones included, while servers go on. To rotate keys without downtime:

  1. Make a key: sessiond keygen
  2. Add it behind the old one, SESSIOND_KEYRING="old:…,new:…", on every server.
  3. Once every server has it, put it in front: "new:…,old:…", on every server.
  4. Run sessiond keys reseal with that keyring and the servers' store.
  5. Wait 10 minutes, for as long are requests to create sessions remembered.
  6. Remove the old key, on every server.

It may be stopped with SIGINT or SIGTERM, and goes on where it was when it is run
again. Exit codes: 0 when nothing is left under another key; 1 when some sessions
are, and listed, or the store failed; 2 when the command line or the configuration
is at fault; 130 or 143 when a signal stopped it.

The flags and variables are those of sessiond serve. These matter here:

  --keyring KID:BASE64,…   SESSIOND_KEYRING, required
  --store STORE            SESSIOND_STORE
  --data-dir DIRECTORY     SESSIOND_DATA_DIR, where the default store is
`;
}

function help([name]: readonly string[]): string {
  if (name !== undefined && name !== "help") return commandNamed(name).help();
  const commands = [...COMMANDS].map(([command, { summary }]) => [command, summary]);
  const lines = [...commands, ["help", "prints this, or with a command's name what that takes"]];
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
