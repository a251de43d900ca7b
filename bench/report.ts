import type { LoadResult } from "./load.ts";
import { median } from "./results.ts";

/** The first rounds do not count: V8 still compiles the servers' code. */
export const WARM_UP_ROUNDS = 10;

/** All rounds of one target. Each round measures the target and the peer in turn. */
export interface Measurement {
  readonly name: string;
  readonly rounds: { readonly own: LoadResult; readonly peer: LoadResult }[];
}

/** The target's calls per second divided by the peer's: the median of the rounds. */
export function ratioOf(measurement: Measurement): number {
  return median(ratiosOf(measurement));
}

/** The lowest and the highest ratio of the middle half of the rounds. */
export function quartersOf(measurement: Measurement): readonly [low: number, high: number] {
  const ratios = ratiosOf(measurement).toSorted((a, b) => a - b);
  const quarter = Math.round(ratios.length / 4);
  const middle = ratios.slice(quarter, ratios.length - quarter);
  return [middle.at(0) ?? Number.NaN, middle.at(-1) ?? Number.NaN];
}

function ratiosOf({ rounds }: Measurement): number[] {
  return rounds.map(({ own, peer }) => own.callsPerSecond / peer.callsPerSecond);
}

/** The mean CPU time of a call, in microseconds. */
export function microsOf(results: readonly LoadResult[]): number {
  return results.reduce((sum, { cpuMicros }) => sum + cpuMicros, 0) / results.length;
}
