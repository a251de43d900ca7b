import { performance } from "node:perf_hooks";
import { storeUnavailable } from "../../errors.js";

/** How often the estimate is checked against the time of Redis. */
const REFRESH_INTERVAL_MS = 2_000;

/**
 * The time of Redis, known without asking: servers whose own clocks disagree
 * agree on it.
 *
 * Each sample says that Redis's time lies between two bounds, as far apart as
 * the round trip was long. The estimate moves only when it is out of bounds, and
 * then to the middle of them: noise does not shake it, and a jump of Redis's
 * clock, forward or back, is followed at the next sample. In between, time is
 * taken from the monotonic clock, so that nobody setting this machine's clock
 * matters.
 */
export class RedisClock {
  readonly #readTime: () => Promise<number>;
  /** Redis's time minus the monotonic clock, in ms. */
  #offsetMs: number | undefined;
  #sampling: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `readTime` asks Redis for its time, in ms. */
  constructor(readTime: () => Promise<number>) {
    this.#readTime = readTime;
  }

  /** Keeps the estimate fresh until `stop`. */
  start(): void {
    this.#timer ??= setInterval(() => {
      // A failure here is a failure of Redis, which every call reports itself.
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

  /** The first estimate, for a call that comes before it. Rejects where Redis does not answer. */
  async firstNow(): Promise<number> {
    await this.sample();
    const now = this.now();
    if (now === undefined) throw storeUnavailable("the time of Redis is not known");
    return now;
  }

  /** Asks Redis for its time. Concurrent calls share one question. */
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
