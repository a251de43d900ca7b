import { type Metric, Registry } from "prom-client";
import { chooseFormat } from "./exposition-format.js";
import type { Sample } from "./series.js";

/** `first` if all processes say the same. */
export type Aggregator = "sum" | "min" | "max" | "first";

/** A metric and its values in one process, as they go from process to process. */
export interface MetricReport {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  /** How the values of several processes become one. */
  readonly aggregator: Aggregator;
  readonly values: readonly Sample[];
}

/** What a scrape is answered with. */
export interface Exposition {
  readonly contentType: string;
  readonly body: string;
}

/** Answers scrapes: with the metrics of this process, or of all workers. */
export interface Exposer {
  /** Everything, in the format that the `Accept` header of a request prefers. */
  expose(accept: string | undefined): Promise<Exposition>;
}

const FORMATS = [Registry.PROMETHEUS_CONTENT_TYPE, Registry.OPENMETRICS_CONTENT_TYPE] as const;

/** Metrics in the format that the `Accept` header of a request prefers. */
export async function expose(
  reports: readonly MetricReport[],
  accept: string | undefined,
): Promise<Exposition> {
  const contentType = chooseFormat(accept, FORMATS);
  const registry = new Registry();
  registry.setContentType(contentType as typeof registry.contentType);
  for (const report of reports) {
    // The registry of OpenMetrics takes "_total" off the name, in place.
    const metric = {
      ...report,
      async get(this: { readonly name: string }) {
        return { ...report, name: this.name };
      },
    };
    registry.registerMetric(metric as unknown as Metric);
  }
  return { contentType, body: await registry.metrics() };
}

const COMBINE: Readonly<Record<Aggregator, (a: number, b: number) => number>> = {
  sum: (a, b) => a + b,
  min: Math.min,
  max: Math.max,
  first: (a) => a,
};

/** Merges the metrics of several processes. Each list has the metrics of one process. */
export function merge(lists: readonly (readonly MetricReport[])[]): MetricReport[] {
  const byName = Map.groupBy(lists.flat(), ({ name }) => name);
  return [...byName.values()].flatMap((reports) => {
    const [first] = reports;
    if (first === undefined) return [];
    const combine = COMBINE[first.aggregator];
    const samples = new Map<string, Sample>();
    for (const sample of reports.flatMap(({ values }) => values)) {
      // All processes give the labels of a metric in the same order.
      const key = JSON.stringify([sample.metricName, sample.labels]);
      const before = samples.get(key);
      const value = before === undefined ? sample.value : combine(before.value, sample.value);
      samples.set(key, { ...sample, value });
    }
    return [{ ...first, values: [...samples.values()] }];
  });
}

/** What only grows: it stays part of the sum when its process has ended. */
export function growing(reports: readonly MetricReport[]): MetricReport[] {
  return reports.filter(({ type }) => type !== "gauge");
}
