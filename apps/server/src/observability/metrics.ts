import { collectDefaultMetrics, Registry } from "prom-client";
import { type Aggregator, type Exposition, expose, type MetricReport } from "./metric-reports.js";
import {
  type CounterName,
  type GaugeName,
  type HistogramName,
  type Labels,
  METRICS,
  type MetricName,
} from "./metric-table.js";
import { Counter, Histogram, histogramSamples, type Sample } from "./series.js";
import { version } from "./version.js";

/** The value of a gauge's series at a scrape. */
export interface Reading<Name extends GaugeName> {
  readonly labels: Labels<Name>;
  readonly value: number;
}

type Series = Counter | Histogram;
type Read = () => readonly Sample[] | Promise<readonly Sample[]>;

/**
 * The metrics of one process. A series is an object that its user keeps: prom-client's own would look
 * their labels up at each call, for 3 % of a VerifySession. prom-client writes both formats, and
 * measures the process.
 */
export class Metrics {
  readonly #series = new Map<MetricName, Map<string, readonly [Sample["labels"], Series]>>();
  readonly #readings = new Map<GaugeName, Read>();

  constructor() {
    this.gauge("sessiond_build_info", () => [
      { labels: { version: version(), node: process.versions.node }, value: 1 },
    ]);
  }

  /** A series of a counter: 0 in every scrape from now on. Always the same object for these labels. */
  counter<Name extends CounterName>(name: Name, labels: Labels<Name>): Counter {
    return this.#seriesOf(name, labels, Counter);
  }

  /** A series of a histogram. Always the same object for these labels. */
  histogram<Name extends HistogramName>(name: Name, labels: Labels<Name>): Histogram {
    return this.#seriesOf(name, labels, Histogram);
  }

  /** Has a gauge read at each scrape. It has no value in a scrape in which `read` fails. */
  gauge<Name extends GaugeName>(
    name: Name,
    read: () => readonly Reading<Name>[] | Promise<readonly Reading<Name>[]>,
  ): void {
    this.#readings.set(name, read as Read);
  }

  /** Everything, in the format that the `Accept` header of a request prefers. */
  async expose(accept: string | undefined): Promise<Exposition> {
    return expose(await this.report(), accept);
  }

  /** Everything. `isOneOfMany` leaves out what each process of a store would say alike. */
  async report({ isOneOfMany = false } = {}): Promise<MetricReport[]> {
    const names = (Object.keys(METRICS) as MetricName[]).filter(
      (name) => !isOneOfMany || aggregatorOf(name) !== "first",
    );
    const [own, ofProcess] = await Promise.all([
      Promise.all(names.map((name) => this.#reportOf(name))),
      processMetrics(),
    ]);
    return [...own, ...ofProcess];
  }

  #seriesOf<S extends Series>(name: MetricName, labels: Sample["labels"], kind: new () => S): S {
    const key = Object.keys(METRICS[name].labels)
      .map((label) => labels[label])
      .join("\n");
    const family = this.#series.get(name) ?? new Map<string, readonly [Sample["labels"], Series]>();
    this.#series.set(name, family);
    const [, known] = family.get(key) ?? [];
    if (known instanceof kind) return known;
    const series = new kind();
    family.set(key, [labels, series]);
    return series;
  }

  async #reportOf(name: MetricName): Promise<MetricReport> {
    const { type, help } = METRICS[name];
    return {
      name,
      type,
      help,
      aggregator: aggregatorOf(name),
      values: await this.#samplesOf(name),
    };
  }

  async #samplesOf(name: MetricName): Promise<readonly Sample[]> {
    const samples = [...(this.#series.get(name)?.values() ?? [])].flatMap(([labels, series]) =>
      series instanceof Counter
        ? [{ labels, value: series.value }]
        : histogramSamples(name, labels, series),
    );
    try {
      const read = this.#readings.get(name as GaugeName);
      return read === undefined ? samples : await read();
    } catch {
      // No value is better than an old one. The store's errors are counted and logged elsewhere.
      return [];
    }
  }
}

/** How the values of several processes become one: counts are added, gauges as their table says. */
function aggregatorOf(name: MetricName): Aggregator {
  const metric = METRICS[name];
  return metric.type === "gauge" ? metric.ofWorkers : "sum";
}

let registryOfProcess: Registry | undefined;

/** What prom-client measures of the process: by one registry, because its timers never stop. */
async function processMetrics(): Promise<MetricReport[]> {
  if (registryOfProcess === undefined) {
    registryOfProcess = new Registry();
    // No whole numbers here either, see BUCKETS_S.
    const gcDurationBuckets = [0.001, 0.01, 0.1, 0.5, 2.1];
    collectDefaultMetrics({ register: registryOfProcess, gcDurationBuckets });
  }
  const metrics = await registryOfProcess.getMetricsAsJSON();
  return metrics.map((metric) => {
    const { aggregator } = metric;
    const isKnown = aggregator === "sum" || aggregator === "first";
    // prom-client has the mean of event loops' delays, and no start of the process. The latest loop and
    // the youngest worker say more: an alert asks whether a server has just started.
    return { ...metric, aggregator: isKnown ? aggregator : "max" } as unknown as MetricReport;
  });
}
