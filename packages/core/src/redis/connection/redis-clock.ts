import { performance } from "node:perf_hooks";
import { storeUnavailable } from "../../errors.js";

const REFRESH_INTERVAL_MS = 2_000;

/** The clock that decides which of the sessions that were read are active. */
export interface ReadClock {
  /** The time in ms, or undefined as long as it is not known. */
  now(): number | undefined;
  /** Waits until the time is known. */
  firstNow(): Promise<number>;
}

/**
 * An estimate of the time of Redis, so that servers with different clocks agree without asking.
 *
 * Each sample bounds the time of Redis by the length of the round trip. The estimate moves only if
 * it is out of these bounds, and then to their middle. So noise does not move it, and it follows a
 * jump of the Redis clock at the next sample. Between samples it follows the monotonic clock, which
 * nobody can set.
 */
export class RedisClock implements ReadClock {
  readonly #readTime: () => Promise<number>;
  /** Redis's time minus the monotonic clock, in ms. */
  #offsetMs: number | undefined;
  #sampling: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `readTime` reads the time of Redis in ms. */
  constructor(readTime: () => Promise<number>) {
    this.#readTime = readTime;
  }

  /** Keeps the estimate fresh until `stop`. */
  start(): void {
    this.#timer ??= setInterval(() => {
      // Every call reports a failure of Redis itself.
      this.sample().catch(() => {});
    }, REFRESH_INTERVAL_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** The estimated time of Redis in ms, or undefined before the first sample. */
  now(): number | undefined {
    if (this.#offsetMs === undefined) return undefined;
    return Math.floor(performance.now() + this.#offsetMs);
  }

  /** Waits for the first estimate. Rejects if Redis does not answer. */
  async firstNow(): Promise<number> {
    await this.sample();
    const now = this.now();
    if (now === undefined) throw storeUnavailable("the time of Redis is not known");
    return now;
  }

  /** Asks Redis for its time. Concurrent calls share one request. */
  sample(): Promise<void> {
    this.#sampling ??= this.#sample().finally(() => {
      this.#sampling = undefined;
    });
    return this.#sampling;
  }

  async #sample(): Promise<void> {
    const sentMs = performance.now();
    const redisMs = await this.#readTime();
    const receivedMs = performance.now();
    const lowest = redisMs - receivedMs;
    const highest = redisMs - sentMs;
    const offsetMs = this.#offsetMs;
    if (offsetMs === undefined || offsetMs < lowest || offsetMs > highest) {
      this.#offsetMs = (lowest + highest) / 2;
    }
  }
}
