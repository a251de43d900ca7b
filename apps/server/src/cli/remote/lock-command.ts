import { parseDuration } from "@sessiond/core";
import { didYouMean } from "../../config/closest-name.js";
import { ConfigError } from "../../config/config-error.js";
import type { Environment } from "../../config/environment.js";
import type { Command } from "../command/command.js";
import { FlagReader } from "../command/flag-reader.js";
import type { LockGetOptions } from "./lock-get.js";
import type { LockRunOptions } from "./lock-run.js";
import { REMOTE_FLAGS, REMOTE_HELP, remoteServer } from "./remote-server.js";

const USAGE = "sessiond lock run NAME [flags] -- COMMAND …";
const GET_USAGE = "sessiond lock get NAME [flags]";
const FLAGS = ["ttl", "wait-timeout", ...REMOTE_FLAGS];
const DEFAULT_TTL = "30s";
const DEFAULT_WAIT_TIMEOUT = "20s";
/** The contract's limit of both durations. */
const MAX_MS = 3_600_000;
/** Tries once. No other duration of zero is allowed. */
const NO_WAIT = "0s";

/** `sessiond lock`. Both functions return the exit code. */
export function lockCommand(
  runUnderLock: (options: LockRunOptions) => Promise<number>,
  getLock: (options: LockGetOptions) => Promise<number>,
): Command {
  return {
    summary: "runs a command under a lock, or says whether it is held",
    help: () => HELP,
    run: async ({ args, env, stdout, stderr }) =>
      args[0] === "get"
        ? getLock({ ...parseLockGet(args, env), stdout, stderr })
        : runUnderLock({ ...parseLockRun(args, env), env, stderr }),
  };
}

function parseLockGet(
  [, name = "", ...flagArgs]: readonly string[],
  env: Environment,
): Pick<LockGetOptions, "server" | "name" | "json"> {
  if (name === "" || name.startsWith("--")) {
    throw new ConfigError([`the lock's NAME is missing after get: ${GET_USAGE}`]);
  }
  const flags = new FlagReader(flagArgs, REMOTE_FLAGS, { operands: 2, switches: ["json"] });
  const json = flags.isOn("json");
  return { name, json, server: remoteServer(flags, env) };
}

function parseLockRun(
  args: readonly string[],
  env: Environment,
): Omit<LockRunOptions, "env" | "stderr"> {
  const end = args.indexOf("--");
  const own = end === -1 ? args : args.slice(0, end);
  const [action, name = "", ...flagArgs] = own;
  if (action !== "run") {
    const hint = didYouMean(action ?? "", ["run", "get"]);
    throw new ConfigError([`expected ${USAGE}, or ${GET_USAGE}${hint}; see: sessiond help lock`]);
  }
  if (name === "" || name.startsWith("-")) {
    throw new ConfigError([`the lock's NAME is missing after run: ${USAGE}`]);
  }
  // Without it, the command's arguments cannot be told from flags.
  if (end === -1) throw new ConfigError([`the -- before the command is missing: ${USAGE}`]);
  const flags = new FlagReader(flagArgs, FLAGS, { operands: own.length - flagArgs.length });
  const ttlMs = flags.read("ttl", 0, (text = DEFAULT_TTL) => parseLimited(text));
  const waitTimeoutMs = flags.read("wait-timeout", 0, (text = DEFAULT_WAIT_TIMEOUT) =>
    text === NO_WAIT ? 0 : parseLimited(text),
  );
  const [command = "", ...commandArgs] = args.slice(end + 1);
  if (command === "") flags.faults.push(`the command after -- is missing: ${USAGE}`);
  const server = remoteServer(flags, env);
  return { server, name, ttlMs, waitTimeoutMs, command, args: commandArgs };
}

function parseLimited(text: string): number {
  const ms = parseDuration(text);
  if (ms > MAX_MS) throw new Error("expected at most 1h");
  return ms;
}

const HELP = `Usage: sessiond lock run NAME [flags] -- COMMAND [ARGUMENT …]
       sessiond lock get NAME [flags]

run waits for a lock, runs a command while no one else has it, and renews it
meanwhile. Signals are passed on to the command. If the lock is lost, because
the server could not be reached in time, the command is told to end (SIGTERM),
and killed 10 s later.

The command has the lock's fencing token in SESSIOND_FENCING_TOKEN. Each holder
gets a larger one, so a store can refuse what an earlier holder writes. An
earlier holder may go on after a pause, or after sessiond itself was killed.

get says whether anybody holds the lock, with the holder's fencing token and
until when, but not who. Exit codes of get: 0 where it is held, 1 where it is
free, 69 and 2 as below.

Exit codes of run: the command's own (128 and its number for a signal, 126 where
it cannot be run, 127 where it is not there); 75 where the lock could not be had
in time, 1 where it was lost, 69 where the server could not be asked, 2 where
this command line is at fault.

  --ttl DURATION           how long others wait at most if this dies; at most 1h
                           (default ${DEFAULT_TTL})
  --wait-timeout DURATION  how long to wait for the lock, at most 1h; 0s tries
                           once (default ${DEFAULT_WAIT_TIMEOUT})
  --json                   one line of JSON (get only)
${REMOTE_HELP}`;
