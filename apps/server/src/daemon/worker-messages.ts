import type { Worker } from "node:cluster";
import type { MetricReport } from "../observability/metric-reports.js";

/** What the primary process tells a worker. */
export type ToWorker =
  /** All workers serve for the first time. One of them says so in the log. */
  | { readonly sessiond: "announce" }
  /** To finish, as on SIGTERM. */
  | { readonly sessiond: "stop" }
  /** To end at once, as on a second SIGTERM. */
  | { readonly sessiond: "stop-now" }
  /** To read its files again, as on SIGHUP. */
  | { readonly sessiond: "reload" }
  /** To send a report. */
  | { readonly sessiond: "report" }
  /** What the other workers report, for the scrape with this number. */
  | { readonly sessiond: "reports"; readonly scrape: number; readonly reports: MetricReport[] };

/** What a worker tells the primary process. */
export type ToPrimary =
  /** It takes calls. */
  | { readonly sessiond: "serving" }
  /** Its metrics, as it was asked. */
  | { readonly sessiond: "report"; readonly report: MetricReport[] }
  /** It answers a scrape: it sends its metrics, and asks for the metrics of the other workers. */
  | { readonly sessiond: "scrape"; readonly scrape: number; readonly report: MetricReport[] };

/** Sends a message to a worker, unless it ends at this moment. */
export function tell(worker: Worker, message: ToWorker): void {
  if (worker.isConnected()) worker.send(message, () => {});
}
