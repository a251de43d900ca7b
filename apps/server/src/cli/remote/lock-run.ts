import { SessiondError } from "@sessiond/client";
import type { Environment } from "../../config/environment.js";
import { EXIT_FAILURE, EXIT_TRY_AGAIN, exitCodeOf } from "../command/exit-codes.js";
import type { ReportOutput } from "../command/progress-report.js";
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
  using signals = new SignalForwarder();
  try {
    const lock = { ttlMs, waitTimeoutMs, signal: signals.givenUp };
    return await client.locks.withLock(name, lock, async ({ fencingToken, signal }) => {
      if (signals.first !== undefined) return exitCodeOf(signals.first);
      signal.addEventListener("abort", () => say("the lock is lost: ending the command"));
      const token = { SESSIOND_FENCING_TOKEN: String(fencingToken) };
      const running = runCommand({ command, args, env: { ...env, ...token }, signal });
      signals.forwardTo(running);
      const { code, failure } = await running.ended;
      if (failure !== undefined) say(`${command}: ${failure}`);
      return code;
    });
  } catch (error) {
    if (signals.first !== undefined) return exitCodeOf(signals.first);
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

/** Takes the process's signals, and gives them to a command once there is one. */
class SignalForwarder implements Disposable {
  #running: RunningCommand | undefined;
  readonly #giveUp = new AbortController();
  #first: NodeJS.Signals | undefined;

  constructor() {
    for (const name of FORWARDED) process.on(name, this.#onSignal);
    // To be stopped while the command goes on would be to lose the lock.
    process.on("SIGTSTP", ignore);
  }

  /** The first signal that came before there was a command. */
  get first(): NodeJS.Signals | undefined {
    return this.#first;
  }

  /** Aborts when a signal comes before there is a command. */
  get givenUp(): AbortSignal {
    return this.#giveUp.signal;
  }

  forwardTo(running: RunningCommand): void {
    this.#running = running;
  }

  readonly #onSignal = (name: NodeJS.Signals) => {
    if (this.#running !== undefined) return this.#running.kill(name);
    this.#first ??= name;
    this.#giveUp.abort();
  };

  [Symbol.dispose](): void {
    for (const name of FORWARDED) process.off(name, this.#onSignal);
    process.off("SIGTSTP", ignore);
  }
}

function ignore(): void {}
