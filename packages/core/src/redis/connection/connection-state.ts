import type { Cluster, Redis } from "ioredis";
import { storeUnavailable } from "../../errors.js";

/** How long a connection that is being made is waited for. */
const CONNECT_TIMEOUT_MS = 900;

/**
 * A connection, if commands may be sent to it. ioredis would keep them for a cluster
 * that it cannot reach, for as long as that takes.
 */
export function connected(redis: Redis | Cluster): Redis | Cluster {
  if (redis.isCluster && redis.status !== "ready") {
    throw storeUnavailable("no node of the Redis Cluster answers");
  }
  return redis;
}

/** Waits for a connection that is being made; one that fails is left to the command to report. */
export async function untilReady(redis: Redis | Cluster): Promise<void> {
  if (redis.status === "ready") return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timeout = setTimeout(resolve, CONNECT_TIMEOUT_MS);
  redis.once("ready", resolve);
  await promise;
  clearTimeout(timeout);
  redis.off("ready", resolve);
}
