import { Link, LinkedList } from "../edge/linked-list.js";

/** So many refusals are sent in each period. */
const PER_PERIOD = 30;
const PERIOD_MS = 5;

/** A refusal that waits for its turn. */
class Refusal extends Link {
  readonly send: () => void;

  constructor(send: () => void) {
    super();
    this.send = send;
  }
}

/**
 * Sends refusals at once, up to 6,000 a second. Beyond, each waits its turn: a client that calls
 * again as soon as it is refused could otherwise have the server do nothing but refuse. Only such
 * clients get there, since those that wait as they are told come back at a sixth of this rate.
 */
export class RefusalPace implements Disposable {
  readonly #waiting = new LinkedList<Refusal>();
  #left = PER_PERIOD;
  #timer: NodeJS.Timeout | undefined;

  /** Calls `send` now or in its turn. Answers a function that takes it back. */
  run(send: () => void): () => void {
    const refusal = new Refusal(send);
    if (this.#left > 0) {
      this.#left--;
      send();
    } else {
      this.#waiting.add(refusal);
    }
    this.#timer ??= setTimeout(() => this.#nextPeriod(), PERIOD_MS).unref();
    return () => refusal.remove();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    // The ports are about to close, so each is told now.
    for (const refusal of this.#waiting.toArray()) {
      refusal.remove();
      refusal.send();
    }
  }

  #nextPeriod(): void {
    this.#timer = undefined;
    this.#left = PER_PERIOD;
    while (this.#left > 0 && this.#waiting.first !== undefined) {
      const refusal = this.#waiting.first;
      this.#left--;
      refusal.remove();
      refusal.send();
    }
    if (!this.#waiting.isEmpty) {
      this.#timer = setTimeout(() => this.#nextPeriod(), PERIOD_MS).unref();
    }
  }
}
