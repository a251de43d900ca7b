import type { SessionStore } from "@sessiond/core";
import type { Logger } from "pino";

/** The rest once nothing is left to remove. */
const REST_MS = 30_000;
/** The pause between slices, so that calls come first. */
const PAUSE_MS = 50;
/** The most sessions that a slice removes. */
const SLICE_SIZE = 500;

/** Removes ended sessions and repairs indexes in the background, slice by slice. Logs its changes. */
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

  /** Resolves when the current slice, if any, is done. */
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
      // No code of ours makes an index wrong, so an operator should know.
      if (healed > 0) this.#logger.warn({ healed }, "put index entries right");
      this.#schedule(more ? PAUSE_MS : REST_MS);
    } catch (error) {
      this.#logger.warn({ err: error }, "sweep failed");
      this.#schedule(REST_MS);
    }
  }
}
