import { MAX_TIMER_MS } from "./sleep.js";

/** Something that ends at a time of `performance.now()`. */
export interface Perishable {
  readonly deadlineMs: number;
  expire(): void;
}

/**
 * Ends calls at their deadlines with one timer for all. Calls mostly have the same timeout and end
 * long before it, so the timer is set about once per timeout and not once per call.
 */
export class Deadlines {
  readonly #items = new Set<Perishable>();
  #timer: NodeJS.Timeout | undefined;
  #dueMs = Number.POSITIVE_INFINITY;

  add(item: Perishable): void {
    this.#items.add(item);
    if (item.deadlineMs < this.#dueMs) this.#setTimer(item.deadlineMs);
  }

  delete(item: Perishable): void {
    this.#items.delete(item);
  }

  #setTimer(dueMs: number): void {
    clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    const waitMs = Math.min(MAX_TIMER_MS, Math.max(1, Math.ceil(dueMs - performance.now())));
    // The calls keep the process alive, while they are under way.
    this.#timer = setTimeout(() => this.#expireDue(), waitMs).unref();
  }

  #expireDue(): void {
    this.#dueMs = Number.POSITIVE_INFINITY;
    const nowMs = performance.now();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const item of [...this.#items]) {
      if (item.deadlineMs > nowMs) {
        nextMs = Math.min(nextMs, item.deadlineMs);
        continue;
      }
      this.#items.delete(item);
      item.expire();
    }
    if (nextMs < this.#dueMs) this.#setTimer(nextMs);
  }
}
