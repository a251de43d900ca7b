import type { Config } from "./config.js";
import { developmentWelcome } from "./development-welcome.js";
import { createLogger, startServer } from "./start-server.js";

const EXIT_FAILURE = 1;
/** How long a stopped process may take to end by itself. */
const EXIT_GRACE_MS = 1_000;

/**
 * Serves until SIGTERM or SIGINT, then lets calls under way finish. A second
 * signal ends the process at once. Rejects where the server cannot start.
 */
export async function runServer(config: Config): Promise<void> {
  const logger = createLogger(config.logLevel);
  const stopping = firstSignal();
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error) => {
      // Whatever state this left behind is not to be trusted with sessions.
      logger.fatal({ err: error }, event);
      logger.flush(() => process.exit(EXIT_FAILURE));
    });
  }
  const server = await startServer(config, logger);
  if (config.auth === undefined) process.stdout.write(await developmentWelcome(config, server));
  logger.info({ signal: await stopping }, "stopping");
  await server.stop();
  logger.info("stopped");
  // A connection whose other end is dead would hold the process for minutes.
  setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
}

/** The first SIGTERM or SIGINT. The second of either ends the process. */
function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let isFirst = true;
    const onSignal = (signal: NodeJS.Signals) => {
      if (!isFirst) process.exit(EXIT_FAILURE);
      isFirst = false;
      resolve(signal);
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
  });
}
