import { type ChildProcess, spawn } from "node:child_process";
import type { Environment } from "../../config/environment.js";
import { EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, exitCodeOf } from "../command/exit-codes.js";

/** How long a command that is told to end may take before it is killed. */
const KILL_AFTER_MS = 10_000;

/** What `runCommand` runs. */
export interface CommandOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Environment;
  /** Ends the command when aborted, by force if it has to be. */
  readonly signal: AbortSignal;
}

/** How a command ended. */
export interface CommandEnd {
  /** As shells have it: its exit code, 128 and the number of the signal that ended it, 126 or 127. */
  readonly code: number;
  /** Why it could not even be run. */
  readonly failure?: string;
}

/** A command that runs. */
export interface RunningCommand {
  readonly ended: Promise<CommandEnd>;
  /** Sends a signal to the command and to what it has started. */
  kill(signal: NodeJS.Signals): void;
}

/**
 * Runs a command, in a process group of its own. So what ends it ends what it has
 * started as well; and a signal that a terminal sends comes to it once, from
 * whoever forwards it.
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
    // What it has started must not go on where it was to end.
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
    // All of the group have ended already.
  }
}
