// Measures VerifySession beside its peers and its limits, each on one core, and writes RESULTS.md, the
// charts and the headlines of the README.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startRedisServer } from "@sessiond/core/testing";
import { startCandidates } from "./candidates.ts";
import { drawCharts } from "./charts.ts";
import {
  type Circumstances,
  figuresOf,
  type Row,
  sectionOf,
  writeHeadlines,
} from "./comparison.ts";
import { moveTo } from "./processes.ts";
import { writeSection } from "./results.ts";
import { atLeast, LOAD_CORE, requireTools } from "./verify-session.ts";

/** Slow enough for all of them. */
const CALLS_PER_SECOND = 400;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    calls: { type: "string" },
    rounds: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
/** How much is measured. Before it, V8 compiles the servers' code, which does not count. */
const defaults = values.quick
  ? { calls: "1000", rounds: "4", warmUpCalls: 2_000, pacedSeconds: [1], sessions: 2_000 }
  : {
      calls: "5000",
      rounds: "30",
      warmUpCalls: 50_000,
      pacedSeconds: [2, 2, 2, 2, 2],
      sessions: 20_000,
    };

if (values.help) {
  console.log(`Usage: pnpm bench [--quick] [--calls N] [--rounds N]

Verifies a session N times (default 5000, at least 400) by sessiond, its peers and its limits in
turn, N rounds (default 30), and writes bench/RESULTS.md, bench/charts and the figures in README.md.
With --quick it takes less than two minutes, and the figures are rough. Needs redis-server,
redis-benchmark, taskset and h2load (Debian: apt-get install redis util-linux nghttp2-client), and
two cores.`);
} else {
  const calls = atLeast(400, "calls", values.calls ?? defaults.calls);
  await main(calls, atLeast(4, "rounds", values.rounds ?? defaults.rounds));
}

async function main(calls: number, rounds: number): Promise<void> {
  requireTools();
  // This process reads the servers' logs, and must not use their core.
  moveTo(LOAD_CORE, process.pid);
  const dir = mkdtempSync(join(tmpdir(), "sessiond-bench-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(dir, { recursive: true }));
  const redis = stack.use(await startRedisServer());
  moveTo(LOAD_CORE, redis.pid);
  const candidates = await startCandidates({ redis, dir, stack, sessions: defaults.sessions });
  const rows: Row[] = candidates.map((candidate) => ({ candidate, costs: [], latencies: [] }));

  for (const candidate of candidates) await candidate.measure(defaults.warmUpCalls);
  for (let round = 1; round <= rounds; round++) {
    // The order alternates, so that a machine that becomes slower favours none.
    for (const { candidate, costs } of round % 2 === 0 ? rows : rows.toReversed()) {
      costs.push(await candidate.measure(calls));
    }
    console.log(`round ${round} of ${rounds}`);
  }
  for (const seconds of defaults.pacedSeconds) {
    for (const { candidate, latencies } of rows) {
      const latency = await candidate.latency?.({ perSecond: CALLS_PER_SECOND, seconds });
      if (latency !== undefined) latencies.push(latency);
    }
  }
  const run = circumstances(calls, rounds);
  writeSection("VerifySession, beside its peers", sectionOf(rows, run));
  drawCharts(figuresOf(rows), run);
  writeHeadlines(rows, run);
}

function circumstances(calls: number, rounds: number): Circumstances {
  const quick = values.quick ? " --quick" : "";
  const redis = execFileSync("redis-server", ["--version"], { encoding: "utf8" });
  const [cpu] = cpus();
  const peers = ["express-session", "@fastify/session", "better-auth", "@grpc/grpc-js", "ioredis"];
  const versions = [
    `Node ${process.versions.node}`,
    `Redis ${/v=([\d.]+)/.exec(redis)?.[1]}`,
    ...peers.map((name) => `${name} ${versionOf(name)}`),
  ];
  return {
    command: `pnpm bench${quick} --calls ${calls} --rounds ${rounds}`,
    machine: `${cpus().length} cores of ${cpu?.model.trim()}`,
    versions: versions.join(", "),
    perSecond: CALLS_PER_SECOND,
    sessions: defaults.sessions,
  };
}

function versionOf(name: string): string {
  const { dependencies, devDependencies } = createRequire(import.meta.url)("./package.json");
  return dependencies[name] ?? devDependencies[name];
}
