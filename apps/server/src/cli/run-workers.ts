import type { Config } from "../config/config.js";
import { WorkerPool } from "../daemon/worker-pool.js";
import { createLogger, flushLog, LOG_FLUSH_MS } from "../observability/logger.js";
import { onSignals, onStopSignals } from "./command/signals.js";

/**
 * Serves by worker processes until SIGTERM or SIGINT, then lets all of them finish. A second signal
 * ends them. On SIGHUP all read their files again. Rejects if a worker cannot start.
 */
export async function runWorkers(config: Config): Promise<void> {
  const logger = createLogger(config.logLevel);
  const pool = new WorkerPool(config.workers, logger);
  const stopping = new Promise<NodeJS.Signals>((resolve) => {
    onStopSignals(resolve, () => pool.stopNow());
  });
  onSignals(["SIGHUP"], () => pool.reload());
  try {
    const isTold = await Promise.race([pool.start(), stopping]);
    logger.info({ signal: isTold ?? (await stopping) }, "told to stop");
    await pool.stop();
    logger.info("stopped");
  } catch (error) {
    pool.stopNow();
    throw error;
  } finally {
    await flushLog(logger, LOG_FLUSH_MS);
  }
}
