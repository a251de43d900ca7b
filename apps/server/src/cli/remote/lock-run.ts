import { SessiondError } from "@sessiond/client";
import type { Environment } from "../../config/environment.js";
import { EXIT_FAILURE, EXIT_TRY_AGAIN, exitCodeOf } from "../command/exit-codes.js";
import type { ReportOutput } from "../command/progress-report.js";
import { onSignals } from "../command/signals.js";
import { connectTo, reportFailure } from "./remote-client.js";
import type { RemoteServer } from "./remote-server.js";
import { type RunningCommand, runCommand } from "./run-command.js";

/** What `sessiond lock run` works with. */
export interface LockRunOptions {
  readonly server: RemoteServer;
  readonly name: string;
  readonly ttlMs: number;
  readonly waitTimeoutMs: number;
  readonly command: string;
  readonly args: readonly string[];
  /** The command's, besides the fencing token. */
  readonly env: Environment;
  readonly stderr: Pick<ReportOutput, "write">;
}

const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/**
 * Runs a command while no one else has the lock, and passes signals on to it.
 * Answers the command's exit code; 75 where the lock could not be had in time, 1
 * where it was lost, 128 and its number for a signal that ended the wait, and what
 * `reportFailure` has for all else.
 */
export async function runUnderLock(options: LockRunOptions): Promise<number> {
  const { name, ttlMs, waitTimeoutMs, command, args, env, stderr } = options;
  const say = (line: string) => stderr.write(`sessiond: ${line}\n`);
  using client = connectTo(options.server, "locks:use");
  /** The signals that came before the command ran. The first ends the wait for the lock. */
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
