import type { Environment } from "../../config/environment.js";

/** Takes text: `process.stdout`. */
export interface TextOutput {
  /** Calls `done` when the text is out, or with the error if it cannot be. */
  write(text: string, done?: (error?: Error | null) => void): unknown;
}

/** Takes text, and may be a terminal: `process.stdout`, `process.stderr`. */
export interface ReportOutput extends TextOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** The input and the outputs of one run of a command. */
export interface CommandContext {
  /** The arguments after the command's name. */
  readonly args: readonly string[];
  readonly env: Environment;
  /** Takes the result and nothing else, so that a script can read it. */
  readonly stdout: ReportOutput;
  readonly stderr: ReportOutput;
}

/** A command of `sessiond`. */
export interface Command {
  /** One line for the list of commands. */
  readonly summary: string;
  /** The text of `sessiond help` with the command's name. */
  help(): string;
  /**
   * Returns the exit code. Rejects with a ConfigError if the command line or the
   * configuration is at fault, and with any other error if the command failed.
   */
  run(context: CommandContext): Promise<number>;
}
