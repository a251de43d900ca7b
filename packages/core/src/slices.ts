import { setImmediate } from "node:timers/promises";

/** For so long a call may keep all others waiting. */
const SLICE_MS = 5;

/**
 * Cuts a long piece of work into slices, between which other calls get their turn. Ask `isOver` after
 * each step, and await `next` if it is.
 */
export class Slices {
  #endMs = performance.now() + SLICE_MS;

  /** Whether the work has gone on for as long as it may. */
  get isOver(): boolean {
    return performance.now() >= this.#endMs;
  }

  /** Lets others have their turn. */
  async next(): Promise<void> {
    await setImmediate();
    this.#endMs = performance.now() + SLICE_MS;
  }
}
