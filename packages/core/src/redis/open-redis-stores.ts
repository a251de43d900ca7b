import { RedisCommands } from "./connection/redis-commands.js";
import { RedisLockStore } from "./locks/redis-lock-store.js";
import { RedisRateLimitStore } from "./rate-limits/redis-rate-limit-store.js";
import {
  RedisSessionStore,
  type RedisSessionStoreOptions,
} from "./sessions/redis-session-store.js";

/** All that is in one Redis, over one connection. */
export interface RedisStores {
  readonly sessions: RedisSessionStore;
  readonly locks: RedisLockStore;
  readonly rateLimits: RedisRateLimitStore;
  /** Closes the connection. Calls still under way, and later ones, fail with STORE_UNAVAILABLE. */
  close(): Promise<void>;
}

/** Makes the stores that share a connection, which they close. */
export function openRedisStores(options: RedisSessionStoreOptions): RedisStores {
  const commands = new RedisCommands(options.redis, options.now);
  const sessions = new RedisSessionStore(options, commands);
  const locks = new RedisLockStore({ ...options, commands });
  return {
    sessions,
    locks,
    rateLimits: new RedisRateLimitStore({ ...options, commands }),
    close: async () => {
      locks.close();
      await sessions.close();
    },
  };
}
