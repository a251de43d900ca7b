export {
  connectRedis,
  type RedisAccess,
  type RedisLocation,
  type RedisNode,
} from "./connect-redis.js";
export { RedisSessionStore, type RedisSessionStoreOptions } from "./redis-session-store.js";
