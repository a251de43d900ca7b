/** A number that only grows. */
export class Counter {
  value = 0;

  add(count = 1): void {
    this.value += count;
  }
}

/**
 * The upper bounds of the buckets, in seconds. 2.1 is beyond the promise of an answer within two.
 * None is a whole number, which the two formats write differently.
 */
export const BUCKETS_S: readonly number[] = [
  ...[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.2, 2.1],
];

/** Durations, counted by bucket. */
export class Histogram {
  /** How many were in each bucket, and in none at the end. */
  readonly counts = new Float64Array(BUCKETS_S.length + 1);
  sumS = 0;

  observeMs(durationMs: number): void {
    const seconds = durationMs / 1000;
    let bucket = 0;
    while (seconds > (BUCKETS_S[bucket] ?? Number.POSITIVE_INFINITY)) bucket++;
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
    this.sumS += seconds;
  }
}

/** One line of an exposition, as prom-client's registry prints it. */
export interface Sample {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The lines of a histogram (https://prometheus.io/docs/instrumenting/exposition_formats). */
export function histogramSamples(
  name: string,
  labels: Sample["labels"],
  { counts, sumS }: Histogram,
): Sample[] {
  const samples: Sample[] = [];
  let count = 0;
  for (const [i, inBucket] of counts.entries()) {
    count += inBucket;
    const le = String(BUCKETS_S[i] ?? "+Inf");
    samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: count });
  }
  samples.push({ metricName: `${name}_sum`, labels, value: sumS });
  samples.push({ metricName: `${name}_count`, labels, value: count });
  return samples;
}
