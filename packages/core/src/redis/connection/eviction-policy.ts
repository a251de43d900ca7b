import type { Cluster, Redis } from "ioredis";

/** The only policy under which Redis keeps every session until we remove it. */
export const SAFE_EVICTION_POLICY = "noeviction";

/**
 * The `maxmemory-policy` of each Redis node that takes writes, so that one that
 * drops sessions in silence can be warned of. Rejects where Redis does not say.
 */
export async function readEvictionPolicies(redis: Redis | Cluster): Promise<readonly string[]> {
  const nodes = isCluster(redis) ? redis.nodes("master") : [redis];
  return Promise.all(
    nodes.map(async (node) => {
      const info = await node.info("memory");
      return /^maxmemory_policy:(\S+)/m.exec(info)?.[1] ?? SAFE_EVICTION_POLICY;
    }),
  );
}

function isCluster(redis: Redis | Cluster): redis is Cluster {
  return redis.isCluster;
}
