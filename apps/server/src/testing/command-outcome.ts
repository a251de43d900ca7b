import type { Command, TextOutput } from "../cli/command/command.js";
import { ConfigError } from "../config/config-error.js";
import type { Environment } from "../config/environment.js";

/** The exit code and the output of a command. */
export interface CommandOutcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command in this process. Rejects as the command does. */
export async function outcomeOf(
  command: Pick<Command, "run">,
  args: readonly string[],
  env: Environment = {},
): Promise<CommandOutcome> {
  const stdout: string[] = [];
  const stderr: string[] = [];
  const code = await command.run({
    args,
    env,
    stdout: outputTo(stdout),
    stderr: outputTo(stderr),
  });
  return { code, stdout: stdout.join(""), stderr: stderr.join("") };
}

function outputTo(texts: string[]): TextOutput {
  return {
    write: (text, done) => {
      texts.push(text);
      done?.();
    },
  };
}

/** The faults for which a command refuses its command line or environment, or none. */
export async function faultsOf(...run: Parameters<typeof outcomeOf>): Promise<readonly string[]> {
  try {
    await outcomeOf(...run);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
}
