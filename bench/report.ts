import type { LoadResult } from "./load.ts";
import { median } from "./results.ts";

/** All runs of one target. */
export interface Measurement {
  readonly name: string;
  readonly results: LoadResult[];
}

/** The section of RESULTS.md: each target beside the peer, which is the last one. */
export function report(
  measurements: readonly Measurement[],
  run: { readonly command: string; readonly machine: string },
): string {
  const peer = measurements.at(-1);
  const [grpc, ...others] = measurements;
  if (peer === undefined || grpc === undefined) throw new Error("no results");
  const rows = measurements.map((measurement) => {
    const rates = measurement.results.map((result) => result.callsPerSecond);
    const spread = `${Math.round(Math.min(...rates))}–${Math.round(Math.max(...rates))}`;
    const micros = Math.round(cpuOf(measurement));
    const ms = median(measurement.results.map((result) => result.meanMs)).toFixed(1);
    const ratio = (rateOf(measurement) / rateOf(peer)).toFixed(2);
    return `| ${ratio} | ${measurement.name} | ${Math.round(rateOf(measurement))} | ${spread} | ${micros} | ${ms} |`;
  });
  return `Written by \`${run.command}\` on ${run.machine}.

| of the peer | what | calls/s | slowest–fastest round | CPU µs a call | mean ms |
| ----------: | ---- | ------: | --------------------: | ------------: | ------: |
${rows.join("\n")}

On Redis, the gRPC port answers as many calls as the HTTP port, times

${others
  .filter(({ name }) => name.endsWith("Redis"))
  .map((other) => `- ${(rateOf(grpc) / rateOf(other)).toFixed(1)} for ${other.name}`)
  .join("\n")}

How it was measured:

- The same call everywhere: VerifySession of one session with two roles, a client and a little data.
  sessiond verifies the caller's access token (remembered after the first call) and permission,
  reads the session from the store, checks its secret, unseals it, and logs the call.
- The peer is grpc-js alone: it parses the same request and serialises the same response.
- Each server has core 0 to itself while it is measured; h2load and Redis share core 1. 100 calls are
  under way at any moment: 25 on each of 4 HTTP/2 connections, or 1 on each of 100 HTTP/1.1 ones.
  A round before the first is not counted.
- Targets take turns, round by round; all figures are medians of the rounds. The machine is
  shared, so compare rows of one run only.
`;
}

function cpuOf({ results }: Measurement): number {
  return median(results.map((result) => result.cpuMicros));
}

function rateOf({ results }: Measurement): number {
  return median(results.map((result) => result.callsPerSecond));
}
