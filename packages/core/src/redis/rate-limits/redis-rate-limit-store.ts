import { summarize } from "../../rate-limits/rate-limit-state.js";
import type {
  RateLimitAttempt,
  RateLimitState,
  RateLimitStore,
  RateLimitWindow,
} from "../../rate-limits/rate-limit-store.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import type { Script } from "../sessions/scripts.js";
import { CHECK_RATE_LIMIT, GET_RATE_LIMIT } from "./rate-limit-scripts.js";

/** Options of `RedisRateLimitStore`. */
export interface RedisRateLimitStoreOptions {
  /** The caller closes them. */
  readonly commands: RedisCommands;
  /** What every key starts with. Nothing by default. */
  readonly keyPrefix?: string;
  /** The clock, in ms since the Unix epoch. By default the time of Redis; tests bring one they can move. */
  readonly now?: () => number;
}

const US_PER_MS = 1_000;
/** How many numbers the scripts answer for each window. */
const NUMBERS_PER_WINDOW = 3;

/**
 * Rate limits in Redis 7 or newer: one key and one script per attempt. A failover may
 * forget the last attempts, since none of them waits for a replica.
 */
export class RedisRateLimitStore implements RateLimitStore {
  readonly #commands: RedisCommands;
  readonly #keyPrefix: string;
  readonly #fixedClock: (() => number) | undefined;

  constructor({ commands, keyPrefix = "", now }: RedisRateLimitStoreOptions) {
    this.#commands = commands;
    this.#keyPrefix = `${keyPrefix}rate_limit:`;
    this.#fixedClock = now;
  }

  check(
    key: string,
    windows: readonly RateLimitWindow[],
    attempt: RateLimitAttempt,
  ): Promise<RateLimitState> {
    return this.#run(CHECK_RATE_LIMIT, key, windows, attempt);
  }

  get(key: string, windows: readonly RateLimitWindow[], cost: number): Promise<RateLimitState> {
    return this.#run(GET_RATE_LIMIT, key, windows, { cost, countRefused: false });
  }

  async reset(key: string): Promise<void> {
    await this.#commands.call((redis) => redis.del(this.#keyPrefix + key));
  }

  async #run(
    script: Script,
    key: string,
    windows: readonly RateLimitWindow[],
    { cost, countRefused }: RateLimitAttempt,
  ): Promise<RateLimitState> {
    const reply = await this.#commands.eval(
      script,
      [this.#keyPrefix + key],
      [
        this.#fixedClock ? Math.round(this.#fixedClock() * US_PER_MS) : "",
        cost,
        countRefused ? "1" : "",
        ...windows.flatMap(({ limit, windowMs }) => [limit, windowMs * US_PER_MS]),
      ],
    );
    const [allowed, ...numbers] = (reply as readonly (number | Buffer)[]).map(Number);
    const standings = windows.map((window, i) => {
      const from = i * NUMBERS_PER_WINDOW;
      const [used = 0, wait = 0, reset = 0] = numbers.slice(from, from + NUMBERS_PER_WINDOW);
      return { window, used, retryAfterMs: toMs(wait), resetTimeMs: toMs(reset) };
    });
    return summarize(allowed === 1, standings);
  }
}

/** Rounded up: a little later is right, and a little earlier is wrong. */
function toMs(microseconds: number): number {
  return Math.ceil(microseconds / US_PER_MS);
}
