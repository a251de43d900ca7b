import type { LoadResult } from "./load.ts";
import { median } from "./results.ts";

export const PEER = "bare grpc-js echo";
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

/** The section of RESULTS.md: each target beside the peer. */
export function report(
  measurements: readonly Measurement[],
  run: { readonly command: string; readonly machine: string },
): string {
  const [grpc, ...others] = measurements;
  if (grpc === undefined) throw new Error("no results");
  return `Written by \`${run.command}\` on ${run.machine}.

| of the peer | middle half of the rounds | what | calls/s | the peer's | CPU µs a call | the peer's |
| ----------: | ------------------------: | ---- | ------: | ---------: | ------------: | ---------: |
${measurements.map(rowOf).join("\n")}

On Redis, the gRPC port answers as many calls as the HTTP port, times

${others
  .filter(({ name }) => name.endsWith("Redis"))
  .map((other) => `- ${(ratioOf(grpc) / ratioOf(other)).toFixed(1)} for ${other.name}`)
  .join("\n")}

How it was measured:

- The same call everywhere: VerifySession of one session with two roles, a client and a little data.
  sessiond verifies the caller's access token (remembered after the first call) and permission,
  reads the session from the store, checks its secret, unseals it, and logs the call.
- The peer, a ${PEER}, is grpc-js alone: it parses the same request and serialises the same
  response.
- Each server has core 0 to itself while it is measured; h2load and Redis share core 1. 100 calls are
  under way at any moment: 25 on each of 4 HTTP/2 connections, or 1 on each of 100 HTTP/1.1 ones.
- In each round a target and the peer are measured one right after the other; ${WARM_UP_ROUNDS} rounds before
  do not count. Ratios and calls/s are medians of the rounds, CPU times means. The machine is
  shared, and its speed changes by up to a half within minutes, for neighbours alike. So compare
  ratios, and calls/s only with the peer's of the same row.
`;
}

function rowOf(measurement: Measurement): string {
  const { name, rounds } = measurement;
  const [low, high] = quartersOf(measurement);
  const [own, peer] = [rounds.map((round) => round.own), rounds.map((round) => round.peer)];
  const cells = [
    ratioOf(measurement).toFixed(2),
    `${low.toFixed(2)}–${high.toFixed(2)}`,
    name,
    ...[rateOf(own), rateOf(peer), microsOf(own), microsOf(peer)].map(Math.round),
  ];
  return `| ${cells.join(" | ")} |`;
}

function ratiosOf({ rounds }: Measurement): number[] {
  return rounds.map(({ own, peer }) => own.callsPerSecond / peer.callsPerSecond);
}

function rateOf(results: readonly LoadResult[]): number {
  return median(results.map(({ callsPerSecond }) => callsPerSecond));
}

/** The mean CPU time of a call, in microseconds. */
export function microsOf(results: readonly LoadResult[]): number {
  return results.reduce((sum, { cpuMicros }) => sum + cpuMicros, 0) / results.length;
}
