import { readFileSync } from "node:fs";
import type { Logger } from "pino";
import { CUT_REASONS, type CutReason } from "../edge/cut-reasons.js";
import { Edge } from "../edge/edge.js";
import type { EdgeLimits } from "../edge/edge-limits.js";
import type { Metrics } from "../observability/metrics.js";
import { onceAMinute } from "./once-a-minute.js";

/** File descriptors that the process needs for itself: its store, its issuers, its log. */
const OWN_FILES = 50;

/** Opens the edge. What it cuts is counted, and told in the log about once a minute for each reason. */
export function openEdge(
  limits: EdgeLimits,
  { logger, metrics }: { readonly logger: Logger; readonly metrics: Metrics },
): Edge {
  // So that a rate shows the first cut, too.
  for (const reason of CUT_REASONS) metrics.counter("sessiond_cuts_total", { reason });
  // It is no fault of the server's, except that an operator may have to allow more connections.
  const log = onceAMinute((reason: CutReason) =>
    logger[reason === "connections_full" ? "warn" : "info"](
      { reason },
      "connections or calls are cut: clients are too slow, or too many",
    ),
  );
  return new Edge(withinFiles(limits, logger), (reason) => {
    metrics.counter("sessiond_cuts_total", { reason }).add();
    // A connection that nobody uses is no trouble.
    if (reason !== "idle" && reason !== "silent") log(reason, reason);
  });
}

/**
 * Lowers the bound on connections to what the system allows. Without file descriptors, the system
 * would drop connections and tell nobody, and the store could not open its files.
 */
function withinFiles(limits: EdgeLimits, logger: Logger): EdgeLimits {
  const max_open_files = maxOpenFiles();
  const maxConnections = Math.max(1, max_open_files - OWN_FILES);
  if (maxConnections >= limits.maxConnections) return limits;
  logger.warn(
    { max_open_files, max_connections: maxConnections },
    "fewer connections than configured: each needs a file descriptor (ulimit -n)",
  );
  return { ...limits, maxConnections };
}

/** Infinity where the system does not say. */
function maxOpenFiles(): number {
  try {
    const limits = readFileSync("/proc/self/limits", "utf8");
    return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** Logs that connections cannot be accepted, most likely for want of file descriptors. */
export function acceptErrorLog(logger: Logger): (error: Error) => void {
  const log = onceAMinute((err: Error) => logger.error({ err }, "cannot accept connections"));
  return (error) => log(error.message, error);
}
