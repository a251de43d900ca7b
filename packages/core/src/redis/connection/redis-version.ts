import type { Cluster, Redis } from "ioredis";

/** The first major version of Redis that knows all that the scripts use, script flags above all. */
export const MIN_REDIS_MAJOR_VERSION = 7;

/**
 * The versions of those Redis nodes that take writes and are too old, so that the
 * failures to come can be explained. Rejects where Redis does not say.
 */
export async function readOutdatedVersions(redis: Redis | Cluster): Promise<readonly string[]> {
  const nodes = "nodes" in redis ? redis.nodes("master") : [redis];
  const versions = await Promise.all(nodes.map(readVersion));
  return versions.filter((version) => Number.parseInt(version, 10) < MIN_REDIS_MAJOR_VERSION);
}

async function readVersion(redis: Redis): Promise<string> {
  const info = await redis.info("server");
  return /^redis_version:(\S+)/m.exec(info)?.[1] ?? "unknown";
}
