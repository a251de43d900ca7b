import { isWorker } from "node:cluster";
import { destination, type Logger, type LoggerOptions, pino } from "pino";

/** Lines are written after this many bytes, or this long after the last write. */
const BUFFER_BYTES = 8 * 1024;
const DELAY_MS = 100;

/**
 * Limits for a worker. Other processes write to its pipe, too, and the system keeps only writes of up
 * to 4 KiB together (PIPE_BUF; pipe(7)). A longer line stays whole while the reader keeps up. Each write
 * has whole lines; one to the end of a file stays together, however long it is.
 */
const SHARED_PIPE = { minLength: 3 * 1024, maxWrite: 4 * 1024 };

/** Writes lines in the background. Drops those that would make the queue too long. */
export type LineWriter = ReturnType<typeof destination>;

/**
 * Opens a writer of lines, to a file descriptor or to the end of a file, which is made if there is
 * none. It writes in batches, because a write for each call would cost a quarter of the call, and
 * goes on whatever fails: `error` says so, and `drop` brings each lost line.
 */
export function openLines(dest: number | string, limitBytes: number): LineWriter {
  const lines = destination({
    ...{ dest, append: true, mode: 0o600, sync: false },
    ...{ minLength: BUFFER_BYTES, periodicFlush: DELAY_MS, maxLength: limitBytes },
    ...(isWorker && typeof dest === "number" && SHARED_PIPE),
  });
  // pino gives up by itself if the reader is gone, and tries again after other errors such as a
  // full disk. Without a listener the error would end the process.
  lines.on("error", () => {});
  // pino calls this after a fatal line and on exit. It would block signals and try until it
  // succeeds: for ever if the reader is gone.
  lines.flushSync = () => {};
  return lines;
}

/** A log of JSON lines, with the time first and the level by name. */
export function jsonLog(lines: LineWriter, options: Pick<LoggerOptions, "level" | "base">): Logger {
  return pino(
    {
      ...options,
      timestamp: isoTime,
      formatters: { level: (label) => ({ level: label }) },
      hooks: { streamWrite: timeFirst },
      serializers: { err: describeError },
    },
    lines,
  );
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
