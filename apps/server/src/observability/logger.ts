import type { Logger } from "pino";
import type { LogLevel } from "./log-level.js";
import { jsonLog, type LineWriter, openLines } from "./log-lines.js";

/** The queue for a slow reader. Lines beyond it are dropped. */
const LOG_LIMIT_BYTES = 16 * 1024 * 1024;
/** The time that a slow reader has when the process ends. */
export const LOG_FLUSH_MS = 1_000;

/** The standard output, for the log and whatever else writes lines there. */
export function openStdout(): LineWriter {
  return openLines(1, LOG_LIMIT_BYTES);
}

/**
 * Makes the log: JSON lines on stdout, each with the fields of `base`. The server goes on if the log
 * cannot be written. Call `flushLog` before the process ends.
 */
export function createLogger(
  level: LogLevel,
  stdout: LineWriter = openStdout(),
  base: object | null = null,
): Logger {
  const logger = jsonLog(stdout, { level, base });
  let dropped = 0;
  stdout.on("drop", () => dropped++);
  stdout.on("drain", () => {
    if (dropped === 0) return;
    logger.warn({ lines: dropped }, "the log's reader is too slow: lines were dropped");
    dropped = 0;
  });
  return logger;
}

/** Resolves when the log is written, cannot be written, or `timeoutMs` has passed. */
export async function flushLog(logger: Logger, timeoutMs: number): Promise<void> {
  const flush = () => new Promise<void>((resolve) => logger.flush(() => resolve()));
  const { promise: givenUp, resolve: giveUp } = Promise.withResolvers<void>();
  const timer = setTimeout(giveUp, timeoutMs);
  // The first flush may end with an earlier write. The second one writes the lines since then.
  await Promise.race([flush().then(flush), givenUp]);
  clearTimeout(timer);
}
