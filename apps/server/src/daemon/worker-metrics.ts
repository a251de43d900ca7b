import type { Worker } from "node:cluster";
import { growing, type MetricReport, merge } from "../observability/metric-reports.js";
import { type ToPrimary, tell } from "./worker-messages.js";

/** A worker answers in milliseconds unless its event loop is late; a scrape may take ten seconds. */
const ANSWER_WAIT_MS = 1_000;

/**
 * Gathers the metrics of all workers for the one that is scraped. What a worker has counted stays in
 * the sum when it ends: Prometheus would read a lower sum as a counter that began at 0 again.
 */
export class WorkerMetrics {
  /** What each worker has reported last. It stands for a worker that does not answer in time. */
  readonly #last = new Map<Worker, MetricReport[]>();
  readonly #waiting = new Map<Worker, Set<() => void>>();
  /** What workers that have ended had counted. */
  #ended: MetricReport[] = [];

  /** Handles a message of this worker. `others` are the other workers that serve. */
  take(
    worker: Worker,
    message: Exclude<ToPrimary, { readonly sessiond: "serving" }>,
    others: readonly Worker[],
  ): void {
    this.#last.set(worker, message.report);
    if (message.sessiond === "scrape") void this.#answer(worker, message.scrape, others);
    else this.#resolve(worker);
  }

  /** Keeps what a worker that has ended had counted. */
  forget(worker: Worker): void {
    this.#ended = merge([this.#ended, growing(this.#last.get(worker) ?? [])]);
    this.#last.delete(worker);
    this.#resolve(worker);
    this.#waiting.delete(worker);
  }

  async #answer(asker: Worker, scrape: number, others: readonly Worker[]): Promise<void> {
    await Promise.all(others.map((worker) => this.#reportOf(worker)));
    const present = others.flatMap((worker) => {
      const report = this.#last.get(worker);
      return report === undefined ? [] : [report];
    });
    const reports = merge([...present, this.#ended]);
    tell(asker, { sessiond: "reports", scrape, reports });
  }

  #reportOf(worker: Worker): Promise<void> {
    if (!worker.isConnected()) return Promise.resolve();
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(worker) ?? new Set();
      this.#waiting.set(worker, waiting);
      const end = () => {
        clearTimeout(timer);
        waiting.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ANSWER_WAIT_MS);
      waiting.add(end);
      tell(worker, { sessiond: "report" });
    });
  }

  #resolve(worker: Worker): void {
    for (const end of this.#waiting.get(worker) ?? []) end();
  }
}
