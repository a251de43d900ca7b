import type { SessionStore } from "@sessiond/core";
import type { Logger } from "pino";

/** How long the sweeper rests once there is nothing left to remove. */
const REST_MS = 30_000;
/** How long it pauses between slices, so that calls come first. */
const PAUSE_MS = 50;
/** How many sessions a slice removes. */
const SLICE_SIZE = 500;

/**
 * Removes ended sessions in the background, a slice at a time, puts indexes right,
 * and logs what it did.
 */
export class Sweeper {
  readonly #store: SessionStore;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #slice: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(store: SessionStore, logger: Logger) {
    this.#store = store;
    this.#logger = logger;
  }

  start(): void {
    this.#schedule(REST_MS);
  }

  /** Resolves when the slice under way, if any, is done. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#slice;
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#slice = this.#sweep();
    }, delayMs);
  }

  async #sweep(): Promise<void> {
    try {
      const { reclaimed, healed, more } = await this.#store.sweep(SLICE_SIZE);
      if (reclaimed > 0) this.#logger.info({ reclaimed, more }, "removed ended sessions");
      // Nothing of ours makes an index wrong, so somebody should know.
      if (healed > 0) this.#logger.warn({ healed }, "put index entries right");
      this.#schedule(more ? PAUSE_MS : REST_MS);
    } catch (error) {
      this.#logger.warn({ err: error }, "sweep failed");
      this.#schedule(REST_MS);
    }
  }
}
