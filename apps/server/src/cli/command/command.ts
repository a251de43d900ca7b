import type { Environment } from "../../config/environment.js";
import type { ReportOutput } from "./progress-report.js";

/** What a command runs with. */
export interface CommandContext {
  /** The arguments after the command's name. */
  readonly args: readonly string[];
  readonly env: Environment;
  /** What was asked for. */
  readonly stdout: Pick<ReportOutput, "write">;
  /** Everything else. */
  readonly stderr: ReportOutput;
}

/** One command of the command line. */
export interface Command {
  /** A few words, for the list of commands. */
  readonly summary: string;
  readonly help: () => string;
  /** Answers the exit code. Rejects with a ConfigError where the command line is at fault. */
  readonly run: (context: CommandContext) => Promise<number>;
}
