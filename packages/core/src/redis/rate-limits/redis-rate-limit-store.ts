import { summarize } from "../../rate-limits/rate-limit-state.js";
import type {
  RateLimitAttempt,
  RateLimitState,
  RateLimitStore,
  RateLimitWindow,
} from "../../rate-limits/rate-limit-store.js";
import { keyPrefixOf } from "../connection/key-prefix.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import {
  CHECK_RATE_LIMIT,
  GET_RATE_LIMIT,
  type RateLimitReply,
  US_PER_MS,
} from "./rate-limit-scripts.js";

/** Options of `RedisRateLimitStore`. */
export interface RedisRateLimitStoreOptions {
  /** The connection and the clock. The opener closes the connection. */
  readonly commands: RedisCommands;
  /** The prefix of every key. Empty by default. */
  readonly keyPrefix?: string;
}

/**
 * Rate limits in Redis 7 or newer: one key and one script per attempt. No attempt waits for a
 * replica, so a failover may forget the last attempts.
 */
export class RedisRateLimitStore implements RateLimitStore {
  readonly #options: RedisRateLimitStoreOptions;
  readonly #commands: RedisCommands;
  readonly #keyPrefix: string;

  constructor(options: RedisRateLimitStoreOptions, namespace = "") {
    this.#options = options;
    this.#commands = options.commands;
    this.#keyPrefix = `${keyPrefixOf(options.keyPrefix ?? "", namespace)}rate_limit:`;
  }

  namespace(name: string): RedisRateLimitStore {
    return new RedisRateLimitStore(this.#options, name);
  }

  async check(
    key: string,
    windows: readonly RateLimitWindow[],
    { cost, countRefused }: RateLimitAttempt,
  ): Promise<RateLimitState> {
    const reply = await this.#commands.run(CHECK_RATE_LIMIT, {
      keys: { key: this.#keyPrefix + key },
      args: { cost, countRefused: countRefused ? "1" : "" },
      moreArgs: toArguments(windows),
    });
    return toState(windows, reply);
  }

  async get(
    key: string,
    windows: readonly RateLimitWindow[],
    cost: number,
  ): Promise<RateLimitState> {
    const reply = await this.#commands.run(GET_RATE_LIMIT, {
      keys: { key: this.#keyPrefix + key },
      args: { cost },
      moreArgs: toArguments(windows),
    });
    return toState(windows, reply);
  }

  async reset(key: string): Promise<void> {
    await this.#commands.call((redis) => redis.del(this.#keyPrefix + key));
  }
}

function toArguments(windows: readonly RateLimitWindow[]): readonly number[] {
  return windows.flatMap(({ limit, windowMs }) => [limit, windowMs * US_PER_MS]);
}

function toState(
  windows: readonly RateLimitWindow[],
  { isAllowed, windows: replies }: RateLimitReply,
): RateLimitState {
  const standings = windows.map((window, i) => {
    const { used, waitMs, resetTimeMs } = replies[i] as RateLimitReply["windows"][number];
    return { window, used, retryAfterMs: waitMs, resetTimeMs };
  });
  return summarize(isAllowed, standings);
}
