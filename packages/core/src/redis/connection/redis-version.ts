import type { Cluster, Redis } from "ioredis";
import { primariesOf, readInfo } from "./info.js";

/** The first major version of Redis that knows all that the scripts use, script flags above all. */
export const MIN_REDIS_MAJOR_VERSION = 7;

/**
 * The versions of the Redis processes that take writes and are too old, so that the server can
 * explain the failures to come. Rejects where Redis does not say.
 */
export async function readOutdatedVersions(redis: Redis | Cluster): Promise<readonly string[]> {
  const versions = await Promise.all(
    primariesOf(redis).map(async (primary) => {
      const info = await readInfo(primary, "server");
      return info.get("redis_version") ?? "unknown";
    }),
  );
  return versions.filter((version) => Number.parseInt(version, 10) < MIN_REDIS_MAJOR_VERSION);
}
