import type { Cluster, Redis } from "ioredis";
import { primariesOf, readInfo } from "./info.js";

/** The first major version of Redis with everything the scripts use, such as script flags. */
export const MIN_REDIS_MAJOR_VERSION = 7;

/**
 * The versions of the primaries that are too old, so that the server can explain the failures that
 * will follow. Rejects if Redis does not answer.
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
