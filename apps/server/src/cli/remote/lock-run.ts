import { SessiondError } from "@sessiond/client";
import type { Environment } from "../../config/environment.js";
import type { TextOutput } from "../command/command.js";
import { EXIT_FAILURE, EXIT_TRY_AGAIN, exitCodeOf } from "../command/exit-codes.js";
import { onSignals } from "../command/signals.js";
import { connectTo, reportFailure } from "./remote-client.js";
import type { RemoteServer } from "./remote-server.js";
import { type RunningCommand, runCommand } from "./run-command.js";

/** Options of `runUnderLock`. */
export interface LockRunOptions {
  readonly server: RemoteServer;
  readonly name: string;
  readonly ttlMs: number;
  readonly waitTimeoutMs: number;
  readonly command: string;
  readonly args: readonly string[];
  /** The command's environment. The fencing token is added to it. */
  readonly env: Environment;
  readonly stderr: TextOutput;
}

const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/**
 * Runs a command while no one else has the lock, and passes signals on to it.
 * Returns the command's exit code; 75 if the lock was not free in time, 1 if the
 * lock was lost, 128 and its number if a signal ended the wait, the code of
 * `reportFailure` if a call failed otherwise.
 */
export async function runUnderLock(options: LockRunOptions): Promise<number> {
  const { name, ttlMs, waitTimeoutMs, command, args, env, stderr } = options;
  const say = (line: string) => stderr.write(`sessiond: ${line}\n`);
  using client = connectTo(options.server, ["locks:use"]);
  // The signals that came before the command ran. The first ends the wait for the lock.
  const early: NodeJS.Signals[] = [];
  const givingUp = new AbortController();
  let running: RunningCommand | undefined;
  using _forwarding = onSignals(FORWARDED, (signal) => {
    if (running !== undefined) return running.kill(signal);
    early.push(signal);
    givingUp.abort();
  });
  // A suspended process cannot renew the lease, while its command would go on.
  using _unsuspended = onSignals(["SIGTSTP"], () => {});
  try {
    const lock = { ttlMs, waitTimeoutMs, signal: givingUp.signal };
    return await client.locks.withLock(name, lock, async ({ fencingToken, signal }) => {
      if (early[0] !== undefined) return exitCodeOf(early[0]);
      signal.addEventListener("abort", () => say("the lock is lost: ending the command"));
      const token = { SESSIOND_FENCING_TOKEN: String(fencingToken) };
      running = runCommand({ command, args, env: { ...env, ...token }, signal });
      const { code, failure } = await running.ended;
      if (failure !== undefined) say(`${command}: ${failure}`);
      return code;
    });
  } catch (error) {
    if (early[0] !== undefined) return exitCodeOf(early[0]);
    if (!(error instanceof SessiondError)) throw error;
    if (error.reason === "LOCK_TIMEOUT") {
      say(`the lock ${JSON.stringify(name)} could not be had in time`);
      return EXIT_TRY_AGAIN;
    }
    if (error.reason !== "LOCK_NOT_HELD") return reportFailure(error, options.server, stderr);
    say(`${error.message}; others may have had it while the command ran`);
    return EXIT_FAILURE;
  }
}
