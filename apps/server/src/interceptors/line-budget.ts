/** Lines of the log in a second about calls that were refused for want of a valid access token. */
const LINES_PER_S = 100;

/** Bounds what strangers can make the server log: anybody can make calls that are refused. */
export class LineBudget {
  #sinceMs = 0;
  #lines = 0;
  #skipped = 0;

  /** How many lines were skipped since the last one, or undefined if this one is to be skipped, too. */
  take(nowMs: number = performance.now()): number | undefined {
    if (nowMs - this.#sinceMs >= 1_000) {
      this.#sinceMs = nowMs;
      this.#lines = 0;
    }
    if (++this.#lines > LINES_PER_S) {
      this.#skipped++;
      return undefined;
    }
    const skipped = this.#skipped;
    this.#skipped = 0;
    return skipped;
  }
}
