import { parseDuration } from "@sessiond/core";
import { ConfigError } from "../../config/config-error.js";
import { parseFlags } from "../../config/flags.js";
import type { Command, CommandContext } from "../command/command.js";
import type { LockRunOptions } from "./lock-run.js";
import { REMOTE_FLAGS, REMOTE_HELP, remoteServer } from "./remote-server.js";

const USAGE = "sessiond lock run NAME [flags] -- COMMAND …";
const DEFAULT_TTL = "30s";
const DEFAULT_WAIT_TIMEOUT = "20s";
/** As the contract has it. */
const MAX_MS = 3_600_000;
/** Tries once; every other duration is longer than zero. */
const NO_WAIT = "0s";

/** `sessiond lock`: reads the command line, and has the command run. */
export function lockCommand(lockRun: (options: LockRunOptions) => Promise<number>): Command {
  return {
    summary: "runs a command under a lock",
    help,
    run: async (context) => lockRun(parseLockRun(context)),
  };
}

function parseLockRun({ args, env, stderr }: CommandContext): LockRunOptions {
  const end = args.indexOf("--");
  const own = end === -1 ? args : args.slice(0, end);
  const [action, name = "", ...flags] = own;
  if (action !== "run") throw new ConfigError([`expected ${USAGE}; see: sessiond help lock`]);
  if (name === "" || name.startsWith("-")) {
    throw new ConfigError([`the lock's NAME is missing after run: ${USAGE}`]);
  }
  // Without it, there is no telling the command's arguments from flags.
  if (end === -1) throw new ConfigError([`the -- before the command is missing: ${USAGE}`]);
  const known = ["ttl", "wait-timeout", ...REMOTE_FLAGS];
  const { values, faults: flagFaults } = parseFlags(flags, known, own.length - flags.length);
  const faults = [...flagFaults];
  const duration = (flag: string, fallback: string) => {
    try {
      return parseLimited(values.get(flag) ?? fallback);
    } catch (error) {
      faults.push(`--${flag}: ${error instanceof Error ? error.message : error}`);
      return 0;
    }
  };
  const ttlMs = duration("ttl", DEFAULT_TTL);
  const wait = values.get("wait-timeout");
  const waitTimeoutMs = wait === NO_WAIT ? 0 : duration("wait-timeout", DEFAULT_WAIT_TIMEOUT);
  const [command = "", ...commandArgs] = args.slice(end + 1);
  if (command === "") faults.push(`the command after -- is missing: ${USAGE}`);
  const server = remoteServer(values, env, faults);
  return { server, name, ttlMs, waitTimeoutMs, command, args: commandArgs, env, stderr };
}

function parseLimited(text: string): number {
  const ms = parseDuration(text);
  if (ms > MAX_MS) throw new Error("expected at most 1h");
  return ms;
}

function help(): string {
  return `Usage: sessiond lock run NAME [flags] -- COMMAND [ARGUMENT …]

Waits for a lock, runs a command while no one else has it, and renews it meanwhile.
Signals are passed on to the command. If the lock is lost, because the server
could not be reached in time, the command is told to end (SIGTERM), and killed 10 s
later.

The command has the lock's fencing token in SESSIOND_FENCING_TOKEN. It grows with
every holder: what takes the command's writes can refuse those of an earlier one,
which may go on after a pause, or after sessiond itself was killed.

Exit codes: the command's own (128 and its number for a signal, 126 where it
cannot be run, 127 where it is not there); 75 where the lock could not be had in
time, 1 where it was lost, 69 where the server could not be asked, 2 where this
command line is at fault.

  --ttl DURATION           how long others wait at most if this dies; at most 1h
                           (default ${DEFAULT_TTL})
  --wait-timeout DURATION  how long to wait for the lock, at most 1h; 0s tries once
                           (default ${DEFAULT_WAIT_TIMEOUT})
${REMOTE_HELP}`;
}
