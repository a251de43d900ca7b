import type { Cluster, Redis } from "ioredis";
import { primariesOf, readInfo } from "./info.js";

/** The only policy under which Redis keeps every session until we remove it. */
export const SAFE_EVICTION_POLICY = "noeviction";

/**
 * The `maxmemory-policy` of each primary, so that the server can warn of a policy that silently
 * drops sessions. Rejects if Redis does not answer.
 */
export function readEvictionPolicies(redis: Redis | Cluster): Promise<readonly string[]> {
  return Promise.all(
    primariesOf(redis).map(async (primary) => {
      const info = await readInfo(primary, "memory");
      return info.get("maxmemory_policy") ?? SAFE_EVICTION_POLICY;
    }),
  );
}
