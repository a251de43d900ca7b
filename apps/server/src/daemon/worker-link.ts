import cluster from "node:cluster";
import { type Exposer, expose, type MetricReport, merge } from "../observability/metric-reports.js";
import type { Metrics } from "../observability/metrics.js";
import type { ToPrimary, ToWorker } from "./worker-messages.js";

/** What a worker hears of its primary process, and tells it. */
export class WorkerLink {
  /** The number of this worker; no other has had it. */
  readonly id: number;
  /** True when the primary asks this worker to announce the server. False if it stops before. */
  readonly #announced = new Promise<boolean>((resolve) => {
    this.on("announce", () => resolve(true));
    this.on("stop", () => resolve(false));
  });
  readonly #scrapes = new Map<number, (reports: MetricReport[]) => void>();
  #lastScrape = 0;

  private constructor(id: number) {
    this.id = id;
    this.on("reports", ({ scrape, reports }) => {
      this.#scrapes.get(scrape)?.(reports);
      this.#scrapes.delete(scrape);
    });
  }

  /** Undefined if this process is no worker: it serves alone. */
  static join(): WorkerLink | undefined {
    return cluster.worker && new WorkerLink(cluster.worker.id);
  }

  /** Calls `listener` with each of these messages. */
  on<K extends ToWorker["sessiond"]>(
    kind: K,
    listener: (message: Extract<ToWorker, { readonly sessiond: K }>) => void,
  ): void {
    process.on("message", (message: ToWorker) => {
      if (message.sessiond === kind) listener(message as Parameters<typeof listener>[0]);
    });
  }

  /**
   * Says that this worker takes calls. The first worker then waits until all do, or until they stop.
   * Returns true if this worker logs that the server listens.
   */
  async serve(): Promise<boolean> {
    this.#send({ sessiond: "serving" });
    return this.id === 1 && this.#announced;
  }

  /** The metrics of all workers, whichever of them is asked. */
  shareMetrics(metrics: Metrics): Exposer {
    this.on("report", async () => {
      this.#send({ sessiond: "report", report: await metrics.report({ isOneOfMany: true }) });
    });
    return {
      expose: async (accept) => {
        const report = await metrics.report();
        const scrape = ++this.#lastScrape;
        const others = new Promise<MetricReport[]>((resolve) => this.#scrapes.set(scrape, resolve));
        this.#send({ sessiond: "scrape", scrape, report });
        return expose(merge([report, await others]), accept);
      },
    };
  }

  #send(message: ToPrimary): void {
    // Without the primary, this process is about to end.
    process.send?.(message, undefined, undefined, () => {});
  }
}
