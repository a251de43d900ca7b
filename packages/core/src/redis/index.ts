export {
  connectRedis,
  type RedisAccess,
  type RedisLocation,
  type RedisNode,
  type RedisTls,
} from "./connection/connect-redis.js";
export { readEvictionPolicies, SAFE_EVICTION_POLICY } from "./connection/eviction-policy.js";
export { type RedisNodeReport, readNodeReports } from "./connection/node-report.js";
export { MIN_REDIS_MAJOR_VERSION, readOutdatedVersions } from "./connection/redis-version.js";
export { RedisLockStore, type RedisLockStoreOptions } from "./locks/redis-lock-store.js";
export { openRedisStores, type RedisStores } from "./open-redis-stores.js";
export {
  RedisRateLimitStore,
  type RedisRateLimitStoreOptions,
} from "./rate-limits/redis-rate-limit-store.js";
export { RedisSessionStore } from "./sessions/redis-session-store.js";
export type { Durability, RedisSessionStoreOptions } from "./sessions/whole-store.js";
