import type { Logger } from "pino";
import type { Config } from "../config/config.js";
import { startServer } from "../daemon/start-server.js";
import { createLogger, flushLog, LOG_FLUSH_MS } from "../observability/logger.js";
import { EXIT_FAILURE } from "./command/exit-codes.js";
import { onStopSignals } from "./command/signals.js";
import { developmentWelcome } from "./development-welcome.js";

/** How long a stopped process may take to end by itself. */
const EXIT_GRACE_MS = 1_000;
/** How long one that crashed waits for its log to be written; calls go on meanwhile. */
const CRASH_FLUSH_MS = 200;

/**
 * Serves until SIGTERM or SIGINT, then lets calls under way finish. A second
 * signal ends the process as soon as its log is written, at most a second later.
 * Rejects where the server cannot start.
 */
export async function runServer(config: Config): Promise<void> {
  const logger = createLogger(config.logLevel);
  // Whoever read the welcome may be gone; it is no reason not to serve.
  process.stdout.on("error", () => {});
  const stopping = new Promise<NodeJS.Signals>((resolve) => {
    onStopSignals(resolve, () => fail(logger, LOG_FLUSH_MS));
  });
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error) => {
      // Whatever state this left behind is not to be trusted with sessions.
      logger.fatal({ err: error }, event);
      fail(logger, CRASH_FLUSH_MS);
    });
  }
  try {
    await serve(config, logger, stopping);
  } finally {
    await flushLog(logger, LOG_FLUSH_MS);
    // A connection whose other end is dead would hold the process for minutes, and
    // a log that nobody reads for ever.
    setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
  }
}

async function serve(
  config: Config,
  logger: Logger,
  stopping: Promise<NodeJS.Signals>,
): Promise<void> {
  const server = await startServer(config, logger);
  if (config.auth === undefined) process.stdout.write(await developmentWelcome(config, server));
  logger.info({ signal: await stopping }, "told to stop");
  await server.stop();
  logger.info("stopped");
}

/** Ends the process as soon as its log is written, if it can be. */
async function fail(logger: Logger, flushMs: number): Promise<void> {
  await flushLog(logger, flushMs);
  process.exit(EXIT_FAILURE);
}
