// Measures what a server gives to VerifySession with thousands of calls in flight, beside what it
// gives with 32, and what else it does meanwhile.
import { execFile } from "node:child_process";
import { cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import {
  countsOf,
  type FloodTarget,
  STORES,
  startFloodTarget,
  type Watched,
  watchFor,
} from "./flood-target.ts";
import { moveTo } from "./processes.ts";
import { median, writeSection } from "./results.ts";
import { atLeast, LOAD_CORE, PROTOCOLS, requireTools } from "./verify-session.ts";

/** What every answer is compared with. */
const FEW = 32;
/** As many as a connection takes. */
const STREAMS = 1_000;
const WARM_UP_S = 3;

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "10" },
    rounds: { type: "string", default: "3" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`Usage: pnpm bench:overload [--seconds N] [--rounds N]

Calls VerifySession with 3,000, 8,000 and 15,000 calls in flight, each beside 32, for N seconds
(default 10), N times (default 3), on Redis and on SQLite, and writes a section of bench/RESULTS.md.
Needs h2load and redis-server.`);
} else {
  await main(atLeast(1, "seconds", values.seconds), atLeast(1, "rounds", values.rounds));
}

/** One run of h2load, and what was seen beside it. */
interface Run extends Watched {
  readonly servedPerSecond: number;
  readonly refusedPerSecond: number;
}

async function main(seconds: number, rounds: number): Promise<void> {
  requireTools();
  moveTo(LOAD_CORE, process.pid);
  const rows: string[] = [];
  for (const store of STORES) {
    await using stack = new AsyncDisposableStack();
    const target = await startFloodTarget(store, PROTOCOLS.grpc, stack);
    for (const inFlight of [3_000, 8_000, 15_000]) {
      const ratios: number[] = [];
      const many: Run[] = [];
      for (let round = 0; round < rounds; round++) {
        const few = await run(target, FEW, seconds);
        const flood = await run(target, inFlight, seconds);
        many.push(flood);
        ratios.push(flood.servedPerSecond / few.servedPerSecond);
      }
      rows.push(rowOf(store, inFlight, ratios, many));
      console.log(rows.at(-1));
    }
  }
  writeSection(
    "Too many calls",
    `Written by \`pnpm bench:overload --seconds ${seconds} --rounds ${rounds}\` on Node ${process.versions.node}, ${cpus().length} cores.

| of the goodput at ${FEW} | in flight | store | served/s | refused/s | server MiB | failed probes | slowest probe, ms |
| ---------------------: | --------: | ----- | -------: | --------: | ---------: | ------------: | ----------------: |
${rows.join("\n")}

- VerifySession over gRPC by h2load, ${STREAMS} calls in flight on each connection. It calls again at
  once after a refusal, as no client should: one that waits as it is told comes back later.
- Goodput is what is answered with a session. The server has core 0, h2load and Redis have core 1.
- Beside it, a revocation and \`/readyz\` 20 times a second: a probe that fails, or is answered with
  anything but success, is a failed one. The first ${WARM_UP_S} s do not count.
`,
  );
}

function rowOf(store: string, inFlight: number, ratios: readonly number[], runs: readonly Run[]) {
  const most = (of: (run: Run) => number) => Math.round(Math.max(...runs.map(of)));
  const cells = [
    ...[median(ratios).toFixed(2), inFlight, store],
    Math.round(median(runs.map((run) => run.servedPerSecond))),
    Math.round(median(runs.map((run) => run.refusedPerSecond))),
    ...[most((run) => run.mebibytes), most((run) => run.failedProbes)],
    most((run) => run.slowestProbeMs),
  ];
  return `| ${cells.join(" | ")} |`;
}

/** Has h2load call for so long, and looks at the server meanwhile. */
async function run(target: FloodTarget, inFlight: number, seconds: number): Promise<Run> {
  const connections = Math.max(4, Math.ceil(inFlight / STREAMS));
  const shape = ["-c", `${connections}`, "-m", `${Math.ceil(inFlight / connections)}`];
  const load = promisify(execFile)("taskset", [
    ...["-c", LOAD_CORE, "h2load", "-D", `${seconds + WARM_UP_S}`, ...shape, "-d", target.body],
    ...target.headers.flatMap((one) => ["-H", one]),
    target.url,
  ]);
  await sleep(WARM_UP_S * 1_000);
  const before = await countsOf(target);
  const watched = await watchFor(seconds, target);
  const after = await countsOf(target);
  await load;
  const elapsedS = (after.timeMs - before.timeMs) / 1_000;
  return {
    servedPerSecond: (after.served - before.served) / elapsedS,
    refusedPerSecond: (after.refused - before.refused) / elapsedS,
    ...watched,
  };
}
