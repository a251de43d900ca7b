import type { Config } from "./config.js";
import { developmentWelcome } from "./development-welcome.js";
import { createLogger, startServer } from "./start-server.js";

const EXIT_FAILURE = 1;

/**
 * Serves until SIGTERM or SIGINT, then lets calls under way finish. A second
 * signal ends the process at once. Rejects where the server cannot start.
 */
export async function runServer(config: Config): Promise<void> {
  const logger = createLogger(config.logLevel);
  const stopping = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.once(signal, () => {
        resolve(signal);
        process.once(signal, () => process.exit(EXIT_FAILURE));
      });
    }
  });
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
}
