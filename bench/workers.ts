// Measures what two workers answer beside what one process does.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startRedisServer } from "@sessiond/core/testing";
import { load, type Target } from "./load.ts";
import { cpuMicrosOf, type ServerProcess } from "./processes.ts";
import { median, writeSection } from "./results.ts";
import {
  atLeast,
  createSession,
  PROTOCOLS,
  type Protocol,
  requireTools,
  startSessiond,
  targetOf,
  WITHOUT_SHEDDING,
} from "./verify-session.ts";

/** Servers, h2load and Redis share them: who needs the CPU gets it. */
const ALL_CORES = `0-${cpus().length - 1}`;
/** h2load wants a call for each connection: 100 of HTTP/1.1 to each of two workers. */
const LEAST_CALLS = 200;
const WARM_UP_ROUNDS = 3;
const WORKERS = 2;

const { values } = parseArgs({
  options: {
    calls: { type: "string", default: "10000" },
    rounds: { type: "string", default: "12" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`Usage: pnpm bench:workers [--calls N] [--rounds N]

Makes N calls of VerifySession (default 10000, at least ${LEAST_CALLS}) to one process and to two workers in
turn, N rounds (default 12), and writes a section of bench/RESULTS.md. Needs the same tools as pnpm
bench.`);
} else {
  await main(atLeast(LEAST_CALLS, "calls", values.calls), atLeast(4, "rounds", values.rounds));
}

/** What a round of calls has cost. */
interface Round {
  readonly callsPerSecond: number;
  /** The CPU time of all processes of the server for a call, in microseconds. */
  readonly server: number;
  /** Of these, that of the process that gives connections away. */
  readonly primary: number;
  readonly client: number;
  /** The part of the workers' CPU time that the busier one took. */
  readonly busiest: number;
}

async function main(calls: number, rounds: number): Promise<void> {
  requireTools();
  const rows: string[] = [];
  for (const protocol of [PROTOCOLS.grpc, PROTOCOLS.json]) {
    await using stack = new AsyncDisposableStack();
    const redis = stack.use(await startRedisServer());
    const one = await start(1, protocol, redis.url, stack);
    const two = await start(2, protocol, redis.url, stack);
    const measured: { readonly one: Round; readonly two: Round }[] = [];
    for (let round = 1 - WARM_UP_ROUNDS; round <= rounds; round++) {
      // The order alternates, so that a machine that becomes slower favours neither.
      const before = round % 2 === 0 ? await two(calls) : undefined;
      const alone = await one(calls);
      const both = before ?? (await two(calls));
      if (round > 0) measured.push({ one: alone, two: both });
    }
    rows.push(rowOf(protocol, measured));
    console.log(rows.at(-1));
  }
  writeSection(
    "Two workers beside one process",
    `Written by \`pnpm bench:workers --calls ${calls} --rounds ${rounds}\` on Node ${process.versions.node}, ${cpus().length} cores.

| what two cores answer, of one | what | server CPU µs: one | two | first process | CPU of the busier worker | h2load µs | calls/s: one | two |
| ----------------------------: | ---- | -----------------: | --: | ------------: | -------------------: | --------: | -----------: | --: |
${rows.join("\n")}

- VerifySession on Redis by 4 connections of HTTP/2, or 100 of HTTP/1.1, to each process. Both servers are measured in turn; medians
  of the rounds. The first process gives connections away and does nothing for a call.
- Workers are bound by their CPU. Each has half of the calls: connections go to the workers in turn (\`pnpm
  bench:balance\`), and h2load makes as many calls on each. So two cores that do nothing else answer twice as many
  calls as one core, times what one process takes for a call, divided by what two workers take. The busier worker is
  the one that h2load and Redis took a core from more often.
- The last columns are what this machine answered while h2load and Redis took their part of the same
  ${cpus().length} cores: with one process they have the other core, with two workers nobody has one alone.
`,
  );
}

function rowOf(protocol: Protocol, rounds: readonly { one: Round; two: Round }[]): string {
  const of = (value: (round: { one: Round; two: Round }) => number) => median(rounds.map(value));
  const cells = [
    of(({ one, two }) => (WORKERS * one.server) / two.server).toFixed(2),
    protocol.name,
    of(({ one }) => one.server).toFixed(0),
    of(({ two }) => two.server).toFixed(0),
    of(({ two }) => two.primary).toFixed(1),
    `${Math.round(100 * of(({ two }) => two.busiest))} %`,
    of(({ two }) => two.client).toFixed(0),
    Math.round(of(({ one }) => one.callsPerSecond)),
    Math.round(of(({ two }) => two.callsPerSecond)),
  ];
  return `| ${cells.join(" | ")} |`;
}

/** Starts a server. Answers what calls it and measures. */
async function start(
  workers: number,
  protocol: Protocol,
  store: string,
  stack: AsyncDisposableStack,
): Promise<(calls: number) => Promise<Round>> {
  const dir = mkdtempSync(join(tmpdir(), "sessiond-bench-"));
  stack.defer(() => rmSync(dir, { recursive: true }));
  const server = await startSessiond(dir, store, {
    core: ALL_CORES,
    // Each has sessions of its own.
    flags: ["--workers", `${workers}`, "--key-prefix", `workers-${workers}:`],
    env: WITHOUT_SHEDDING,
  });
  stack.defer(() => server.stop());
  const created = await createSession(server, dir);
  const target = targetOf(`${workers} workers`, protocol, server, created, dir);
  return (calls) => measure(target, server, calls);
}

async function measure(target: Target, { pid }: ServerProcess, calls: number): Promise<Round> {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
  const workers = children.filter((one) => one !== "").map(Number);
  const pids = [pid, ...workers];
  const before = pids.map(cpuMicrosOf);
  // As much is under way in each process: with less, fewer calls share a turn of the event loop.
  const { callsPerSecond, clientMicros } = await load(
    target,
    ALL_CORES,
    calls,
    workers.length || 1,
  );
  const [primary = 0, ...own] = pids.map((one, i) => cpuMicrosOf(one) - (before[i] ?? 0));
  const all = own.reduce((sum, micros) => sum + micros, 0);
  return {
    callsPerSecond,
    server: (primary + all) / calls,
    primary: primary / calls,
    client: clientMicros,
    busiest: own.length === 0 ? 1 : Math.max(...own) / all,
  };
}
