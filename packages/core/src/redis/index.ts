export {
  connectRedis,
  type RedisAccess,
  type RedisLocation,
  type RedisNode,
} from "./connect-redis.js";
export { readEvictionPolicies, SAFE_EVICTION_POLICY } from "./eviction-policy.js";
export { RedisRateLimitStore, type RedisRateLimitStoreOptions } from "./redis-rate-limit-store.js";
export {
  type Durability,
  RedisSessionStore,
  type RedisSessionStoreOptions,
} from "./redis-session-store.js";
