import { SessiondError, storeFull, storeUnavailable } from "../../errors.js";

/** Redis cannot serve now, or does not let us. Any other refusal is a bug of this package. */
const UNAVAILABLE_REPLIES = new Set([
  "BUSY",
  "CLUSTERDOWN",
  "LOADING",
  "MASTERDOWN",
  "MISCONF",
  "NOAUTH",
  "NOPERM",
  "NOREPLICAS",
  "READONLY",
  "UNBLOCKED",
  "UNKILLABLE",
  "WRONGPASS",
]);

/** What ioredis says of a command that it could not send. It names an option of ours, and no cause. */
const NOT_CONNECTED = new Set([
  "Stream isn't writeable and enableOfflineQueue options is false",
  "Connection is closed.",
]);

/** Converts an error of ioredis to ours, without the command's arguments. */
export function fromRedisError(error: unknown): Error {
  if (error instanceof SessiondError) return error;
  if (!(error instanceof Error)) return storeUnavailable("Redis failed", error);
  if (isNotRunYet(error)) return storeUnavailable("Redis is resharding", withoutCommand(error));
  if (NOT_CONNECTED.has(error.message)) return storeUnavailable("no connection to Redis");
  if (error.name !== "ReplyError") {
    return storeUnavailable("no answer from Redis", withoutCommand(error));
  }
  const prefix = error.message.split(" ", 1)[0] ?? "";
  if (prefix === "OOM") return storeFull(withoutCommand(error));
  if (UNAVAILABLE_REPLIES.has(prefix)) {
    return storeUnavailable(`Redis answered ${prefix}`, withoutCommand(error));
  }
  return withoutCommand(error);
}

/** Whether Redis says that it does not have a script. */
export function isNoScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("NOSCRIPT");
}

/** The refusal of a command while its keys move between nodes, also as ioredis wraps it. */
const RESHARDING_REPLY =
  /^(?:Too many Cluster redirections\. Last error: ReplyError: )?(?:MOVED|ASK|TRYAGAIN) |access a non local key/;

/**
 * Whether the node refused a script because it lacks some of the keys. The script has changed
 * nothing: scripts read all their keys first.
 */
export function isNotRunYet(error: unknown): boolean {
  return error instanceof Error && RESHARDING_REPLY.test(error.message);
}

/** Whether another node has the slot now. */
export function isMoved(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("MOVED ");
}

/** ioredis attaches the command, and its arguments contain token hashes and records. */
function withoutCommand(error: Error): Error {
  const bare = new Error(error.message);
  bare.name = error.name;
  if (error.stack !== undefined) bare.stack = error.stack;
  return bare;
}
