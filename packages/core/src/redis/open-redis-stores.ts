import { RedisCommands } from "./connection/redis-commands.js";
import { RedisLockStore } from "./locks/redis-lock-store.js";
import { RedisRateLimitStore } from "./rate-limits/redis-rate-limit-store.js";
import { RedisSessionStore } from "./sessions/redis-session-store.js";
import { type RedisSessionStoreOptions, WholeStore } from "./sessions/whole-store.js";

/** All stores in one Redis, on one connection. */
export interface RedisStores {
  readonly sessions: RedisSessionStore;
  readonly locks: RedisLockStore;
  readonly rateLimits: RedisRateLimitStore;
  /** Closes the connection. Pending and later calls fail with STORE_UNAVAILABLE. */
  close(): Promise<void>;
}

/** Makes stores that share a connection and close it. */
export function openRedisStores(options: RedisSessionStoreOptions): RedisStores {
  const commands = new RedisCommands(options.redis, options);
  const sessions = new RedisSessionStore(new WholeStore(options, commands));
  return {
    sessions,
    locks: new RedisLockStore({ ...options, commands }),
    rateLimits: new RedisRateLimitStore({ ...options, commands }),
    close: () => sessions.close(),
  };
}
