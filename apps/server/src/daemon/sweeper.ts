import type { SessionStore } from "@sessiond/core";
import type { Logger } from "pino";
import type { Labels } from "../observability/metric-table.js";
import type { Metrics } from "../observability/metrics.js";
import type { Counter } from "../observability/series.js";

/**
 * The rest once nothing is left to do: this many times what the work took, within bounds. So sweeps
 * take about a hundredth of the time, also on a slow Redis. An expired session is counted as late as
 * the rest is long.
 */
const REST_FACTOR = 100;
const MIN_REST_MS = 5_000;
const MAX_REST_MS = 30_000;
/** The pause between slices, so that calls come first. */
const PAUSE_MS = 50;
/** The most sessions that a slice removes. */
const SLICE_SIZE = 500;

/**
 * Counts expired sessions, removes ended ones and repairs indexes in the background, slice by slice.
 * Logs its changes.
 */
export class Sweeper {
  readonly #store: SessionStore;
  readonly #logger: Logger;
  readonly #sweeps: (outcome: Labels<"sessiond_sweeps_total">["outcome"]) => Counter;
  readonly #reclaimed: Counter;
  readonly #healed: Counter;
  /** How long the slices since the last rest took. */
  #busyMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #slice: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(store: SessionStore, logger: Logger, metrics: Metrics) {
    this.#store = store;
    this.#logger = logger;
    this.#sweeps = (outcome) => metrics.counter("sessiond_sweeps_total", { outcome });
    // All are 0 from the start on, so that a rate shows the first change, too.
    for (const outcome of ["complete", "partial", "failed"] as const) this.#sweeps(outcome);
    this.#reclaimed = metrics.counter("sessiond_sweep_reclaimed_total", {});
    this.#healed = metrics.counter("sessiond_sweep_healed_total", {});
  }

  start(): void {
    this.#schedule(MIN_REST_MS);
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
    const startMs = performance.now();
    try {
      const { reclaimed, healed, more } = await this.#store.sweep(SLICE_SIZE);
      this.#sweeps(more ? "partial" : "complete").add();
      this.#reclaimed.add(reclaimed);
      this.#healed.add(healed);
      if (reclaimed > 0) this.#logger.info({ reclaimed, more }, "removed ended sessions");
      // No code of ours makes an index wrong, so an operator should know.
      if (healed > 0) this.#logger.warn({ healed }, "put index entries right");
      this.#busyMs += performance.now() - startMs;
      if (more) return this.#schedule(PAUSE_MS);
      const restMs = Math.min(Math.max(REST_FACTOR * this.#busyMs, MIN_REST_MS), MAX_REST_MS);
      this.#busyMs = 0;
      this.#schedule(restMs);
    } catch (error) {
      this.#sweeps("failed").add();
      this.#logger.warn({ err: error }, "sweep failed");
      this.#schedule(MAX_REST_MS);
    }
  }
}
