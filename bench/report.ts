import type { LoadResult } from "./load.ts";

/** The first rounds do not count: V8 still compiles the servers' code. */
export const WARM_UP_ROUNDS = 10;

/** All rounds of one target. Each round measures the target and the peer in turn. */
export interface Measurement {
  readonly name: string;
  readonly rounds: { readonly own: LoadResult; readonly peer: LoadResult }[];
}

/** The target's calls per second divided by the peer's, in each round. */
export function ratiosOf({ rounds }: Measurement): number[] {
  return rounds.map(({ own, peer }) => own.callsPerSecond / peer.callsPerSecond);
}

/** The mean CPU time of a call, in microseconds. */
export function microsOf(results: readonly LoadResult[]): number {
  return results.reduce((sum, { cpuMicros }) => sum + cpuMicros, 0) / results.length;
}
