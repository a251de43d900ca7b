import type { Logger } from "pino";
import type { AccessConfig, Config } from "../config/config.js";
import { ConfigError } from "../config/config-error.js";
import { type RunningServer, startServer } from "../daemon/start-server.js";
import { WorkerLink } from "../daemon/worker-link.js";
import { type AuditLog, openAuditLog } from "../observability/audit-log.js";
import { createLogger, flushLog, LOG_FLUSH_MS, openStdout } from "../observability/logger.js";
import { EXIT_FAILURE } from "./command/exit-codes.js";
import { onSignals, onStopSignals } from "./command/signals.js";
import { developmentWelcome } from "./development-welcome.js";

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
  const link = WorkerLink.join();
  const stdout = openStdout();
  const logger = createLogger(config.logLevel, stdout, link ? { worker: link.id } : null);
  // The reader of the welcome may be gone. The server is still needed.
  process.stdout.on("error", () => {});
  const stopping = new Promise<NodeJS.Signals | undefined>((resolve) => {
    const stopNow = () => fail(logger, LOG_FLUSH_MS);
    if (link === undefined) return void onStopSignals(resolve, stopNow);
    obeyPrimary(link, () => resolve(undefined), stopNow);
  });
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error) => {
      // A state that nobody foresaw must not be trusted with sessions.
      logger.fatal({ err: error }, event);
      fail(logger, CRASH_FLUSH_MS);
    });
  }
  let auditLog: AuditLog | undefined;
  try {
    auditLog = openAuditLog(config.audit, logger, stdout);
    const starting = startServer(config, logger, auditLog, link);
    reloadOnHangup(starting, readAccess, { logger, auditLog, link });
    await serve(config, logger, starting, stopping);
  } finally {
    // Together: a disk that is full must not take the time of the log.
    await Promise.all([auditLog?.flush(LOG_FLUSH_MS), flushLog(logger, LOG_FLUSH_MS)]);
  }
}

async function serve(
  config: Config,
  logger: Logger,
  starting: Promise<RunningServer>,
  stopping: Promise<NodeJS.Signals | undefined>,
): Promise<void> {
  const server = await starting;
  if (config.auth === undefined && server.announces)
    process.stdout.write(await developmentWelcome(config, server));
  const signal = await stopping;
  // The primary process has told of its own signals.
  if (signal !== undefined) logger.info({ signal }, "told to stop");
  await server.stop();
  logger.info("stopped");
}

/**
 * From now on SIGHUP has the audit's file opened again, keyring and auth file read again, and does
 * not end the process, not even while the server starts. One reload at a time.
 */
function reloadOnHangup(
  starting: Promise<RunningServer>,
  readAccess: () => Promise<AccessConfig>,
  {
    logger,
    auditLog,
    link,
  }: {
    readonly logger: Logger;
    readonly auditLog: AuditLog | undefined;
    readonly link: WorkerLink | undefined;
  },
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
  // A fault in one of them says nothing about the others.
  const reloadFiles = async () => (await starting).reloadFiles();
  const onHangup = () => {
    auditLog?.reopen();
    reloading = reloading.then(reload);
    // A start that failed reports itself.
    reloadFiles().catch(() => {});
  };
  onSignals(["SIGHUP"], onHangup);
  link?.on("reload", onHangup);
}

/**
 * A worker stops when its primary process says so. A terminal and some service managers send a signal
 * to all processes at once, so a signal to a worker is no second one. SIGTERM to a worker alone has it
 * finish, and the primary replaces it.
 */
function obeyPrimary(link: WorkerLink, stop: () => void, stopNow: () => void): void {
  onSignals(["SIGINT"], () => {});
  onSignals(["SIGTERM"], stop);
  link.on("stop", stop);
  link.on("stop-now", stopNow);
}

/** Ends the process as soon as its log is written, or after `flushMs`. */
async function fail(logger: Logger, flushMs: number): Promise<void> {
  await flushLog(logger, flushMs);
  process.exit(EXIT_FAILURE);
}
