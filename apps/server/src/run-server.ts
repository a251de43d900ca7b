import type { Logger } from "pino";
import type { Config } from "./config.js";
import { developmentWelcome } from "./development-welcome.js";
import { createLogger, flushLog } from "./logger.js";
import { startServer } from "./start-server.js";

const EXIT_FAILURE = 1;
/** How long a stopped process may take to end by itself. */
const EXIT_GRACE_MS = 1_000;

/**
 * Serves until SIGTERM or SIGINT, then lets calls under way finish. A second
 * signal ends the process at once. Rejects where the server cannot start.
 */
export async function runServer(config: Config): Promise<void> {
  const logger = createLogger(config.logLevel);
  // Whoever read the welcome may be gone; it is no reason not to serve.
  process.stdout.on("error", () => {});
  const stopping = firstSignal(logger);
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error) => {
      // Whatever state this left behind is not to be trusted with sessions.
      logger.fatal({ err: error }, event);
      fail(logger);
    });
  }
  try {
    await serve(config, logger, stopping);
  } finally {
    await flushLog(logger);
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
  logger.info({ signal: await stopping }, "stopping");
  await server.stop();
  logger.info("stopped");
}

/** The first SIGTERM or SIGINT. The second of either ends the process. */
function firstSignal(logger: Logger): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let isFirst = true;
    const onSignal = (signal: NodeJS.Signals) => {
      if (!isFirst) fail(logger);
      isFirst = false;
      resolve(signal);
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
  });
}

/** Ends the process as soon as its log is written, if it can be. */
async function fail(logger: Logger): Promise<void> {
  await flushLog(logger);
  process.exit(EXIT_FAILURE);
}
