// Measures what metrics and traces cost a VerifySession: a server with them beside one without.
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startRedisServer } from "@sessiond/core/testing";
import { moveTo } from "./processes.ts";
import { type Measurement, microsOf, ratiosOf } from "./report.ts";
import { median, quartersOf, writeSection } from "./results.ts";
import {
  atLeast,
  createSession,
  LOAD_CORE,
  measureInTurn,
  PROTOCOLS,
  type Protocol,
  requireTools,
  startSessiond,
  targetOf,
} from "./verify-session.ts";

/** What one of two servers has and the other has not, and the environments of both. */
interface Instrument {
  readonly name: string;
  readonly withIt: Environment;
  readonly without: Environment;
}

type Environment = Readonly<Record<string, string>>;

const { values } = parseArgs({
  options: {
    calls: { type: "string", default: "5000" },
    rounds: { type: "string", default: "30" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`Usage: pnpm bench:observability [--calls N] [--rounds N]

Makes N calls of VerifySession (default 5000) on a server with metrics or traces and
on one without in turn, N rounds (default 30), and writes a section of bench/RESULTS.md.
Needs the same tools as pnpm bench.`);
} else {
  await main(atLeast(100, "calls", values.calls), atLeast(4, "rounds", values.rounds));
}

async function main(calls: number, rounds: number): Promise<void> {
  requireTools();
  // This process takes the spans, and must not use the servers' core.
  moveTo(LOAD_CORE, process.pid);
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await startRedisServer());
  moveTo(LOAD_CORE, redis.pid);
  const collector = createServer((request, response) => {
    request.resume().on("end", () => response.end());
  });
  stack.defer(() => collector.closeAllConnections());
  stack.defer(() => void collector.close());
  await once(collector.listen(0, "127.0.0.1"), "listening");
  const { port } = collector.address() as AddressInfo;

  const measurements: Measurement[] = [];
  for (const protocol of [PROTOCOLS.grpc, PROTOCOLS.connect]) {
    for (const instrument of instrumentsOf(`http://127.0.0.1:${port}`)) {
      measurements.push(await measure(instrument, protocol, redis.url, { calls, rounds }));
    }
  }
  writeSection(
    "Metrics and traces",
    `Written by \`pnpm bench:observability --calls ${calls} --rounds ${rounds}\` on Node ${process.versions.node}, ${cpus().length} cores.

| calls/s with it, of those without | middle half of the rounds | what | CPU µs a call | without |
| ------------------------------------: | ------------------------: | ---- | ------------: | ------: |
${measurements.map(rowOf).join("\n")}

- VerifySession on Redis by two servers, one with metrics or traces, measured in turn as above. The
  other has no metrics of calls and of the store (bench/without-metrics.ts), or no traces. The spans
  of a recorded call are those of the call and of one read. A process on core 1 takes them.
`,
  );
}

function instrumentsOf(endpoint: string): readonly Instrument[] {
  const traces = (share: string): Environment => ({
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    OTEL_TRACES_SAMPLER_ARG: share,
  });
  const withoutMetrics = new URL("without-metrics.ts", import.meta.url);
  return [
    { name: "metrics", withIt: {}, without: { NODE_OPTIONS: `--import=${withoutMetrics}` } },
    { name: "1 % of the traces", withIt: traces("0.01"), without: {} },
    { name: "every trace", withIt: traces("1"), without: {} },
  ];
}

async function measure(
  instrument: Instrument,
  protocol: Protocol,
  store: string,
  turns: { readonly calls: number; readonly rounds: number },
): Promise<Measurement> {
  await using stack = new AsyncDisposableStack();
  const dir = mkdtempSync(join(tmpdir(), "sessiond-bench-"));
  stack.defer(() => rmSync(dir, { recursive: true }));
  const start = async (title: string, variables: Environment) => {
    const own = join(dir, title);
    mkdirSync(own);
    const server = await startSessiond(own, store, { env: variables });
    stack.defer(() => server.stop());
    return targetOf(title, protocol, server, await createSession(server, own), own);
  };
  const name = `${protocol.name}, ${instrument.name}`;
  const target = { ...(await start("with", instrument.withIt)), name };
  const peer = await start("without", instrument.without);
  const measurement = await measureInTurn(target, peer, turns);
  console.log(`${name}: ${median(ratiosOf(measurement)).toFixed(3)} of a server without`);
  return measurement;
}

function rowOf(measurement: Measurement): string {
  const { name, rounds } = measurement;
  const ratios = ratiosOf(measurement);
  const [own, peer] = [rounds.map((round) => round.own), rounds.map((round) => round.peer)];
  const [middle, low, high] = [median(ratios), ...quartersOf(ratios)].map((one) => one.toFixed(2));
  const micros = [own, peer].map((results) => Math.round(microsOf(results)));
  return `| ${middle} | ${low}–${high} | ${name} | ${micros.join(" | ")} |`;
}
