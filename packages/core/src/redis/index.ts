export {
  connectRedis,
  type RedisAccess,
  type RedisLocation,
  type RedisNode,
} from "./connect-redis.js";
export { readEvictionPolicies, SAFE_EVICTION_POLICY } from "./eviction-policy.js";
export { openRedisStores, type RedisStores } from "./open-redis-stores.js";
export { RedisLockStore, type RedisLockStoreOptions } from "./redis-lock-store.js";
export { RedisRateLimitStore, type RedisRateLimitStoreOptions } from "./redis-rate-limit-store.js";
export {
  type Durability,
  RedisSessionStore,
  type RedisSessionStoreOptions,
} from "./redis-session-store.js";
export { MIN_REDIS_MAJOR_VERSION, readOutdatedVersions } from "./redis-version.js";
