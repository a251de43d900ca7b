/** So many refusals are sent in each period. */
const PER_PERIOD = 30;
const PERIOD_MS = 5;

/**
 * Sends refusals at once, up to 6,000 a second. Beyond, each waits its turn: a client that calls
 * again as soon as it is refused could otherwise have the server do nothing but refuse. Only such
 * clients get there, since those that wait as they are told come back at a sixth of this rate.
 */
export class RefusalPace implements Disposable {
  readonly #waiting = new Set<() => void>();
  #left = PER_PERIOD;
  #timer: NodeJS.Timeout | undefined;

  /** Calls `send` now or in its turn. Answers a function that takes it back. */
  run(send: () => void): () => void {
    if (this.#left > 0) {
      this.#left--;
      send();
    } else {
      this.#waiting.add(send);
    }
    this.#timer ??= setTimeout(() => this.#nextPeriod(), PERIOD_MS).unref();
    return () => void this.#waiting.delete(send);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    // The ports are about to close, so each is told now.
    for (const send of this.#waiting) send();
    this.#waiting.clear();
  }

  #nextPeriod(): void {
    this.#timer = undefined;
    this.#left = PER_PERIOD;
    for (const send of this.#waiting) {
      if (this.#left === 0) break;
      this.#left--;
      this.#waiting.delete(send);
      send();
    }
    if (this.#waiting.size > 0) {
      this.#timer = setTimeout(() => this.#nextPeriod(), PERIOD_MS).unref();
    }
  }
}
