/** The event loop is late on purpose when it works in batches. Above this, calls wait for each other. */
const TARGET_DELAY_MS = 40;
/** A delay that lasts this long is a queue, and no burst. */
const INTERVAL_MS = 100;
/** What is left of the limit after an interval of delays. */
const DECREASE = 0.8;
/** What an interval without delays adds, as a part of the largest limit: from the least to it in 2 s. */
const INCREASE = 0.05;
/**
 * How many calls a server works on at a time, so that each of them is answered soon.
 *
 * CoDel gives the signal: a queue is bad if even the least delay of an interval is above a target. A
 * burst is not, since the delay falls in between (Nichols and Jacobson, "Controlling Queue Delay",
 * 2012). Facebook uses it in servers (Maurer, "Fail at Scale", 2015). The limit then moves as in TCP
 * and in Netflix's AIMD limit: it loses a part, and grows by a little while all is well.
 */
export class AdaptiveLimit {
  readonly #least: number;
  readonly #most: number;
  #value: number;
  #intervalEndMs = 0;
  #leastDelayMs = Number.POSITIVE_INFINITY;
  #mostInFlight = 0;

  /** Always from `least` to `most`. */
  constructor(least: number, most: number) {
    this.#least = Math.min(least, most);
    this.#most = most;
    this.#value = most;
  }

  /** A whole number. */
  get value(): number {
    return Math.floor(this.#value);
  }

  /** Learns how late the event loop was just now, and how many calls were under way. */
  observe(delayMs: number, inFlight: number, nowMs: number): void {
    this.#leastDelayMs = Math.min(this.#leastDelayMs, delayMs);
    this.#mostInFlight = Math.max(this.#mostInFlight, inFlight);
    if (nowMs < this.#intervalEndMs) return;
    if (this.#leastDelayMs <= TARGET_DELAY_MS) {
      this.#value = Math.min(this.#most, this.#value + this.#most * INCREASE);
    } else if (this.#mostInFlight > this.#least) {
      const reached = Math.min(this.#value, this.#mostInFlight);
      this.#value = Math.max(this.#least, reached * DECREASE);
    }
    this.#intervalEndMs = nowMs + INTERVAL_MS;
    this.#leastDelayMs = Number.POSITIVE_INFINITY;
    this.#mostInFlight = 0;
  }
}
