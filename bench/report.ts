import type { LoadResult } from "./load.ts";
import { median } from "./results.ts";

/** All rounds of one target, in each the target and the peer right beside it. */
export interface Measurement {
  readonly name: string;
  readonly rounds: { readonly own: LoadResult; readonly peer: LoadResult }[];
}

/** How many calls a target answers for one that the peer answers: the median of the rounds. */
export function ratioOf(measurement: Measurement): number {
  return median(ratiosOf(measurement));
}

/** The section of RESULTS.md: each target beside the peer. */
export function report(
  measurements: readonly Measurement[],
  run: { readonly command: string; readonly machine: string },
): string {
  const [grpc, ...others] = measurements;
  if (grpc === undefined) throw new Error("no results");
  const rows = measurements.map((measurement) => {
    const ratios = ratiosOf(measurement).toSorted((a, b) => a - b);
    const quarter = Math.floor(ratios.length / 4);
    const middle = ratios.slice(quarter, ratios.length - quarter);
    const spread = `${middle.at(0)?.toFixed(2)}–${middle.at(-1)?.toFixed(2)}`;
    const own = measurement.rounds.map((round) => round.own);
    return `| ${ratioOf(measurement).toFixed(2)} | ${spread} | ${measurement.name} | ${figuresOf(own)} |`;
  });
  const peer = measurements.flatMap(({ rounds }) => rounds.map((round) => round.peer));
  return `Written by \`${run.command}\` on ${run.machine}.

| of the peer | half of the rounds | what | calls/s | CPU µs a call | mean ms |
| ----------: | -----------------: | ---- | ------: | ------------: | ------: |
${rows.join("\n")}
| 1.00 | | bare grpc-js echo | ${figuresOf(peer)} |

On Redis, the gRPC port answers as many calls as the HTTP port, times

${others
  .filter(({ name }) => name.endsWith("Redis"))
  .map((other) => `- ${(ratioOf(grpc) / ratioOf(other)).toFixed(1)} for ${other.name}`)
  .join("\n")}

How it was measured:

- The same call everywhere: VerifySession of one session with two roles, a client and a little data.
  sessiond verifies the caller's access token (remembered after the first call) and permission,
  reads the session from the store, checks its secret, unseals it, and logs the call.
- The peer is grpc-js alone: it parses the same request and serialises the same response.
- Each server has core 0 to itself while it is measured; h2load and Redis share core 1. 100 calls are
  under way at any moment: 25 on each of 4 HTTP/2 connections, or 1 on each of 100 HTTP/1.1 ones.
- In each round a target and the peer are measured one right after the other. The machine is shared,
  and may be twice as fast in one minute as in the next: their ratio is what holds. All figures are
  medians of the rounds; half of the rounds lie in the range given.
`;
}

function ratiosOf({ rounds }: Measurement): number[] {
  return rounds.map(({ own, peer }) => own.callsPerSecond / peer.callsPerSecond);
}

function figuresOf(results: readonly LoadResult[]): string {
  const rate = Math.round(median(results.map(({ callsPerSecond }) => callsPerSecond)));
  const micros = Math.round(median(results.map(({ cpuMicros }) => cpuMicros)));
  const ms = median(results.map(({ meanMs }) => meanMs)).toFixed(1);
  return `${rate} | ${micros} | ${ms}`;
}
