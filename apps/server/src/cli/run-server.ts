import type { Logger } from "pino";
import type { AccessConfig, Config } from "../config/config.js";
import { ConfigError } from "../config/config-error.js";
import { type RunningServer, startServer } from "../daemon/start-server.js";
import { createLogger, flushLog, LOG_FLUSH_MS } from "../observability/logger.js";
import { EXIT_FAILURE } from "./command/exit-codes.js";
import { onSignals, onStopSignals } from "./command/signals.js";
import { developmentWelcome } from "./development-welcome.js";

/** How long a stopped process may take to end by itself before it is made to. */
const EXIT_GRACE_MS = 1_000;
/** How long a crashed process waits until its log is written. Short, because calls go on meanwhile. */
const CRASH_FLUSH_MS = 200;

/**
 * Serves until SIGTERM or SIGINT, then lets calls under way finish. A second
 * signal ends the process as soon as its log is written, at most a second later.
 * On SIGHUP the server takes what `readAccess` reads, or keeps what it has if that rejects.
 * Rejects if the server cannot start.
 */
export async function runServer(
  config: Config,
  readAccess: () => Promise<AccessConfig>,
): Promise<void> {
  const logger = createLogger(config.logLevel);
  // The reader of the welcome may be gone. The server is still needed.
  process.stdout.on("error", () => {});
  const stopping = new Promise<NodeJS.Signals>((resolve) => {
    onStopSignals(resolve, () => fail(logger, LOG_FLUSH_MS));
  });
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error) => {
      // A state that nobody foresaw must not be trusted with sessions.
      logger.fatal({ err: error }, event);
      fail(logger, CRASH_FLUSH_MS);
    });
  }
  try {
    const starting = startServer(config, logger);
    reloadOnHangup(starting, readAccess, logger);
    await serve(config, logger, starting, stopping);
  } finally {
    await flushLog(logger, LOG_FLUSH_MS);
    // A connection to a dead peer would keep the process alive for minutes, and a
    // log that nobody reads would keep it for ever.
    setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
  }
}

async function serve(
  config: Config,
  logger: Logger,
  starting: Promise<RunningServer>,
  stopping: Promise<NodeJS.Signals>,
): Promise<void> {
  const server = await starting;
  if (config.auth === undefined) process.stdout.write(await developmentWelcome(config, server));
  logger.info({ signal: await stopping }, "told to stop");
  await server.stop();
  logger.info("stopped");
}

/** From now on SIGHUP does not end the process, not even while the server starts. One reload at a time. */
function reloadOnHangup(
  starting: Promise<RunningServer>,
  readAccess: () => Promise<AccessConfig>,
  logger: Logger,
): void {
  const reload = async () => {
    try {
      const [server, access] = await Promise.all([starting, readAccess()]);
      server.replaceAccess(access);
    } catch (error) {
      const faults = error instanceof ConfigError ? { faults: error.faults } : { err: error };
      logger.error(faults, "cannot reload keyring and auth file, so the old ones stay in use");
    }
  };
  let reloading = Promise.resolve();
  onSignals(["SIGHUP"], () => {
    reloading = reloading.then(reload);
  });
}

/** Ends the process as soon as its log is written, or after `flushMs`. */
async function fail(logger: Logger, flushMs: number): Promise<void> {
  await flushLog(logger, flushMs);
  process.exit(EXIT_FAILURE);
}
