const MIN_MS = 500;
const MAX_MS = 30_000;
/** So many refused calls a second may come back. To refuse one costs a third of serving it. */
const RETURNS_PER_SECOND = 1_000;
const INTERVAL_MS = 1_000;

/**
 * How long refused callers should wait. A fixed delay brings all of them back together, and refusing
 * them could then be all that the server does. So the delay grows with the number of those who wait,
 * and it is spread evenly over half of it to one and a half.
 */
export class RetryDelay {
  #meanMs = MIN_MS;
  #refused = 0;
  #sinceMs = 0;

  /** Counts a refusal, and answers when the caller may try again. */
  next(nowMs: number): number {
    const elapsedMs = nowMs - this.#sinceMs;
    if (elapsedMs >= INTERVAL_MS) {
      const perSecond = (this.#refused * 1_000) / elapsedMs;
      // Of those who come back as asked, so many wait now.
      const waiting = (perSecond * this.#meanMs) / 1_000;
      this.#meanMs = Math.min(MAX_MS, Math.max(MIN_MS, (waiting / RETURNS_PER_SECOND) * 1_000));
      this.#refused = 0;
      this.#sinceMs = nowMs;
    }
    this.#refused++;
    return this.#meanMs * (0.5 + Math.random());
  }
}
