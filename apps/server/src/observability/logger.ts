import { destination, type Logger, pino } from "pino";
import type { LogLevel } from "./log-level.js";

/** The log is written after this many bytes, or this long after the last write. */
const LOG_BUFFER_BYTES = 8 * 1024;
const LOG_DELAY_MS = 100;
/** The queue for a slow reader. Lines beyond it are dropped. */
const LOG_LIMIT_BYTES = 16 * 1024 * 1024;
/** The time that a slow reader has when the process ends. */
export const LOG_FLUSH_MS = 1_000;

/**
 * Makes the log: JSON lines on stdout, with the time first and the level by name, written in batches, because a write for each call would cost
 * a quarter of the call. The server goes on if the log cannot be written. Call `flushLog` before
 * the process ends.
 */
export function createLogger(level: LogLevel): Logger {
  const stdout = destination({
    dest: 1,
    sync: false,
    minLength: LOG_BUFFER_BYTES,
    periodicFlush: LOG_DELAY_MS,
    maxLength: LOG_LIMIT_BYTES,
  });
  // pino gives up by itself if the reader is gone, and tries again after other errors such as a
  // full disk. Without a listener the error would end the process.
  stdout.on("error", () => {});
  // pino calls this after a fatal line and on exit. It would block signals and try until it
  // succeeds: for ever if the reader is gone.
  stdout.flushSync = () => {};
  const logger = pino(
    {
      ...{ level, base: null, timestamp: isoTime },
      formatters: { level: (label) => ({ level: label }) },
      hooks: { streamWrite: timeFirst },
      serializers: { err: describeError },
    },
    stdout,
  );
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

/** How many causes of an error are told. */
const MAX_CAUSES = 5;

/**
 * An error without what libraries attach to it: ioredis the arguments of a command, Node the URL that
 * it could not parse, with its password.
 */
function describeError(error: unknown, causes = MAX_CAUSES): unknown {
  if (!(error instanceof Error)) return { type: typeof error };
  const { name, message, stack, cause, code } = error as NodeJS.ErrnoException;
  const errors = error instanceof AggregateError ? error.errors.slice(0, MAX_CAUSES) : undefined;
  return {
    ...{ type: name, message, stack },
    ...(typeof code === "string" && { code }),
    ...(causes > 0 && cause !== undefined && { cause: describeError(cause, causes - 1) }),
    ...(causes > 0 && errors && { errors: errors.map((one) => describeError(one, 0)) }),
  };
}

/** The length of `,"time":"2026-01-31T12:00:00.000Z"`. */
const TIME_LENGTH = 34;

/** People read a line from its time on, and pino begins with the level. */
function timeFirst(line: string): string {
  const comma = line.indexOf(",");
  const end = comma + TIME_LENGTH;
  return `{${line.slice(comma + 1, end)},${line.slice(1, comma)}${line.slice(end)}`;
}

let writtenMs = Number.NaN;
let written = "";

/** pino's own format, but made only once for all lines of a millisecond. */
function isoTime(): string {
  const nowMs = Date.now();
  if (nowMs !== writtenMs) {
    written = `,"time":"${new Date(nowMs).toISOString()}"`;
    writtenMs = nowMs;
  }
  return written;
}
