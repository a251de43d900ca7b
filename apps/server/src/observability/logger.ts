import { destination, type Logger, pino } from "pino";
import type { LogLevel } from "./log-level.js";

/** How much log is collected before it is written, and for how long at most. */
const LOG_BUFFER_BYTES = 8 * 1024;
const LOG_DELAY_MS = 100;
/** How much log waits for a reader that is slow; what comes on top is dropped. */
const LOG_LIMIT_BYTES = 16 * 1024 * 1024;
/** How long a process that ends waits for a reader that is slow. */
export const LOG_FLUSH_MS = 1_000;

/**
 * Makes the log: JSON lines on stdout. They are written some at a time, because
 * a write for each call would cost as much as a quarter of the call. Where they
 * cannot be written the server serves without; whoever ends the process calls
 * `flushLog` before.
 */
export function createLogger(level: LogLevel): Logger {
  const stdout = destination({
    dest: 1,
    sync: false,
    minLength: LOG_BUFFER_BYTES,
    periodicFlush: LOG_DELAY_MS,
    maxLength: LOG_LIMIT_BYTES,
  });
  // pino gives up by itself when nobody reads any more. All else, a full disk for
  // one, is tried again; unheard it would end the process.
  stdout.on("error", () => {});
  // pino calls this after a fatal line and on exit. It would try until it succeeds,
  // deaf to signals, which is for ever where the reader is gone or reads no more.
  stdout.flushSync = () => {};
  const logger = pino({ level, base: null, timestamp: isoTime }, stdout);
  let dropped = 0;
  stdout.on("drop", () => dropped++);
  stdout.on("drain", () => {
    if (dropped === 0) return;
    logger.warn({ lines: dropped }, "the log's reader is too slow: lines were dropped");
    dropped = 0;
  });
  return logger;
}

/** Resolves once what was logged is written, cannot be, or was not in time. */
export async function flushLog(logger: Logger, timeoutMs: number): Promise<void> {
  const flush = () => new Promise<void>((resolve) => logger.flush(() => resolve()));
  const { promise: givenUp, resolve: giveUp } = Promise.withResolvers<void>();
  const timer = setTimeout(giveUp, timeoutMs);
  // A write under way ends the first flush, and leaves what was logged since to the second.
  await Promise.race([flush().then(flush), givenUp]);
  clearTimeout(timer);
}

let writtenMs = Number.NaN;
let written = "";

/** As pino's own, but written once for all lines of a millisecond. */
function isoTime(): string {
  const nowMs = Date.now();
  if (nowMs !== writtenMs) {
    written = `,"time":"${new Date(nowMs).toISOString()}"`;
    writtenMs = nowMs;
  }
  return written;
}
