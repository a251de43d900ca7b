import { collectDefaultMetrics, type Metric, Registry } from "prom-client";
import { chooseFormat } from "./exposition-format.js";
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

/** What a scrape is answered with. */
export interface Exposition {
  readonly contentType: string;
  readonly body: string;
}

const FORMATS: readonly string[] = [
  Registry.PROMETHEUS_CONTENT_TYPE,
  Registry.OPENMETRICS_CONTENT_TYPE,
];

type Series = Counter | Histogram;
type Read = () => readonly Sample[] | Promise<readonly Sample[]>;

/**
 * The metrics of one server. A series is an object that its user keeps: prom-client's own would look
 * their labels up at each call, for 3 % of a VerifySession. prom-client writes both formats, and
 * measures the process.
 */
export class Metrics {
  readonly #series = new Map<MetricName, Map<string, readonly [Sample["labels"], Series]>>();
  readonly #readings = new Map<GaugeName, Read>();
  readonly #registries: readonly Registry[];

  constructor() {
    const metrics = [
      ...(Object.keys(METRICS) as MetricName[]).map((name) => this.#metricOf(name)),
      ...processMetrics(),
    ];
    this.#registries = FORMATS.map((format) => {
      const registry = new Registry();
      registry.setContentType(format as typeof registry.contentType);
      // The registry of OpenMetrics takes "_total" off the names, for good and in place.
      for (const metric of metrics) registry.registerMetric(Object.create(metric));
      return registry;
    });
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
    const contentType = chooseFormat(accept, FORMATS);
    const registry = this.#registries.find((one) => one.contentType === contentType);
    return { contentType, body: (await registry?.metrics()) ?? "" };
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

  /** A metric in the form in which a registry of prom-client asks for it. */
  #metricOf(name: MetricName): Metric {
    const { type, help } = METRICS[name];
    const samples = () => this.#samplesOf(name);
    const metric = {
      ...{ name, type, help, aggregator: "sum" },
      async get(this: { readonly name: string }) {
        return { name: this.name, type, help, values: await samples() };
      },
    };
    return metric as unknown as Metric;
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

let ofProcess: readonly Metric[] | undefined;

/** What prom-client measures of the process: made once, because its timers never stop. */
function processMetrics(): readonly Metric[] {
  if (ofProcess === undefined) {
    const registry = new Registry();
    // No whole numbers here either, see BUCKETS_S.
    collectDefaultMetrics({ register: registry, gcDurationBuckets: [0.001, 0.01, 0.1, 0.5, 2.1] });
    ofProcess = registry.getMetricsAsArray() as unknown as readonly Metric[];
  }
  return ofProcess;
}
