import { type ChildProcess, spawn } from "node:child_process";
import type { Environment } from "../../config/environment.js";
import { EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, exitCodeOf } from "../command/exit-codes.js";

/** How long a command may take to end after SIGTERM before it is killed. */
const KILL_AFTER_MS = 10_000;

/** Options of `runCommand`. */
export interface CommandOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Environment;
  /** Ends the command when aborted, by force if necessary. */
  readonly signal: AbortSignal;
}

/** How a command ended. */
export interface CommandEnd {
  /** The shells' code: the command's own, 128 and the number of the signal that ended it, 126 or 127. */
  readonly code: number;
  /** Why the command could not be run. */
  readonly failure?: string;
}

/** A running command. */
export interface RunningCommand {
  readonly ended: Promise<CommandEnd>;
  /** Sends a signal to the command and its child processes. */
  kill(signal: NodeJS.Signals): void;
}

/**
 * Runs a command in a process group of its own. A signal then also reaches the
 * command's child processes. A terminal's signal reaches the command only through
 * `kill`, and so only once.
 */
export function runCommand({ command, args, env, signal }: CommandOptions): RunningCommand {
  const child = spawn(command, args, { env, stdio: "inherit", detached: true });
  const kill = (name: NodeJS.Signals) => killGroup(child, name);
  let force: NodeJS.Timeout | undefined;
  const end = () => {
    kill("SIGTERM");
    force = setTimeout(() => kill("SIGKILL"), KILL_AFTER_MS);
  };
  if (signal.aborted) end();
  else signal.addEventListener("abort", end, { once: true });
  const ended = endOf(child).finally(() => {
    clearTimeout(force);
    signal.removeEventListener("abort", end);
    // Its child processes must not outlive a command that was told to end.
    if (signal.aborted) kill("SIGKILL");
  });
  return { ended, kill };
}

function endOf(child: ChildProcess): Promise<CommandEnd> {
  return new Promise((resolve) => {
    child.once("exit", (code, signal) =>
      resolve({ code: signal ? exitCodeOf(signal) : (code ?? 1) }),
    );
    child.once("error", (error) => {
      const isMissing = "code" in error && error.code === "ENOENT";
      const code = isMissing ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
      resolve({ code, failure: isMissing ? "command not found" : error.message });
    });
  });
}

function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // The whole group has ended already.
  }
}
