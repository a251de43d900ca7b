import { setTimeout } from "node:timers/promises";

/** The longest delay of a timer of Node.js, 24.8 days. A longer one would fire immediately. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Waits, also for longer than one timer can; not at all if `ms` is below 0. Rejects when `signal`
 * aborts.
 */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  for (let restMs = Math.max(0, ms); ; restMs -= MAX_TIMER_MS) {
    await setTimeout(Math.min(restMs, MAX_TIMER_MS), undefined, { signal });
    if (restMs <= MAX_TIMER_MS) return;
  }
}
