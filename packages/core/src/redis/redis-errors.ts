import { storeFull, storeUnavailable } from "../errors.js";

/**
 * Replies that say Redis cannot serve for the moment, or does not let us:
 * anything else it refuses is a fault of ours.
 */
const UNAVAILABLE_REPLIES = new Set([
  "ASK",
  "BUSY",
  "CLUSTERDOWN",
  "LOADING",
  "MASTERDOWN",
  "MISCONF",
  "MOVED",
  "NOAUTH",
  "NOPERM",
  "NOREPLICAS",
  "READONLY",
  "TRYAGAIN",
  "UNBLOCKED",
  "UNKILLABLE",
  "WRONGPASS",
]);

/** The error to throw for what ioredis threw, free of the command's arguments. */
export function fromRedisError(error: unknown): Error {
  if (!(error instanceof Error)) return storeUnavailable("Redis failed", error);
  if (error.name !== "ReplyError") {
    return storeUnavailable("no answer from Redis", withoutCommand(error));
  }
  const prefix = error.message.split(" ", 1)[0] ?? "";
  if (prefix === "OOM") {
    return storeFull(withoutCommand(error));
  }
  if (UNAVAILABLE_REPLIES.has(prefix)) {
    return storeUnavailable(`Redis answered ${prefix}`, withoutCommand(error));
  }
  return withoutCommand(error);
}

/** Whether Redis says that it does not have a script. */
export function isNoScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("NOSCRIPT");
}

/** ioredis attaches the command with its arguments, which hold token hashes and records. */
function withoutCommand(error: Error): Error {
  const bare = new Error(error.message);
  bare.name = error.name;
  if (error.stack !== undefined) bare.stack = error.stack;
  return bare;
}
