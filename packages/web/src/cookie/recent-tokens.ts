import { hash } from "node:crypto";

/** Longer than a response stays under way. */
const REMEMBERED_MS = 60_000;
/** About 2 MB. Beyond it, the oldest are forgotten. */
const MAX_REMEMBERED = 10_000;

/** Tokens to which something has happened in this process, in the last minute. Keeps hashes only. */
export class RecentTokens {
  readonly #now: () => number;
  /** Until when each is remembered, by the token's hash; the first to be forgotten comes first. */
  readonly #untilMs = new Map<string, number>();

  constructor(now: () => number) {
    this.#now = now;
  }

  add(token: string): void {
    const key = hash("sha256", token);
    this.#untilMs.delete(key);
    this.#untilMs.set(key, this.#now() + REMEMBERED_MS);
    for (const [oldest, untilMs] of this.#untilMs) {
      if (untilMs > this.#now() && this.#untilMs.size <= MAX_REMEMBERED) break;
      this.#untilMs.delete(oldest);
    }
  }

  delete(token: string): void {
    this.#untilMs.delete(hash("sha256", token));
  }

  has(token: string): boolean {
    return (this.#untilMs.get(hash("sha256", token)) ?? 0) > this.#now();
  }
}
