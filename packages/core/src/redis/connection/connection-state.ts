import type { Cluster, Redis } from "ioredis";
import { storeUnavailable } from "../../errors.js";

/** How long a call waits for a connection. */
const CONNECT_TIMEOUT_MS = 900;

/** Throws if a cluster is not connected: ioredis would queue the commands without a limit. */
export function connected(redis: Redis | Cluster): Redis | Cluster {
  if (redis.isCluster && redis.status !== "ready") {
    throw storeUnavailable("no node of the Redis Cluster answers");
  }
  return redis;
}

/** Waits for a connection. If it fails, the next command reports the error. */
export async function untilReady(redis: Redis | Cluster): Promise<void> {
  if (redis.status === "ready") return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timeout = setTimeout(resolve, CONNECT_TIMEOUT_MS);
  redis.once("ready", resolve);
  await promise;
  clearTimeout(timeout);
  redis.off("ready", resolve);
}
