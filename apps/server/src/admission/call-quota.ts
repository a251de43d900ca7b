import type { RateLimitWindow } from "@sessiond/core";

/**
 * A caller's quota: one token bucket for each window, full at first. A window `100 per 1s` allows
 * 100 calls at once, and then one each 10 ms.
 */
export class CallQuota {
  readonly #windows: readonly RateLimitWindow[];
  readonly #tokens: number[];
  #filledMs: number;

  constructor(windows: readonly RateLimitWindow[], nowMs: number) {
    this.#windows = windows;
    this.#tokens = windows.map(({ limit }) => limit);
    this.#filledMs = nowMs;
  }

  /** Takes a token of each bucket. Answers 0, or how long it takes until there is one, in ms. */
  take(nowMs: number): number {
    const elapsedMs = nowMs - this.#filledMs;
    this.#filledMs = nowMs;
    let waitMs = 0;
    for (const [i, { limit, windowMs }] of this.#windows.entries()) {
      const tokens = Math.min(limit, (this.#tokens[i] ?? 0) + (elapsedMs * limit) / windowMs);
      this.#tokens[i] = tokens;
      if (tokens < 1) waitMs = Math.max(waitMs, ((1 - tokens) * windowMs) / limit);
    }
    if (waitMs > 0) return waitMs;
    for (const i of this.#windows.keys()) this.#tokens[i] = (this.#tokens[i] ?? 0) - 1;
    return 0;
  }
}
