// Asks a server for five times the calls that it can answer, and measures how long each answer takes:
// those with a session, and the refusals.
import { execFile } from "node:child_process";
import { createReadStream, mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs, promisify } from "node:util";
import {
  countsOf,
  type FloodTarget,
  STORES,
  type Store,
  startFloodTarget,
  watchFor,
} from "./flood-target.ts";
import { latencyOf } from "./load.ts";
import { moveTo } from "./processes.ts";
import { writeSection } from "./results.ts";
import { atLeast, LOAD_CORE, PROTOCOLS, requireTools } from "./verify-session.ts";

const TIMES = 5;
const QUOTA = "2000 per 1s";
/** What the capacity is measured with. */
const FEW = { connections: 4, streams: 8 };
const CAPACITY_S = 5;
/** So many calls wait that the server has more to do at any moment. */
const MANY = { connections: 8, streams: 500 };
const RECOVERY_S = 2;
/** Connections are opened and code is compiled. */
const WARM_UP_S = 3;

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(`Usage: pnpm bench:excess [--seconds N]

Calls VerifySession ${TIMES} times as often as the server can answer, for N seconds (default 60), on Redis
and on SQLite, by a caller without a quota and by one with a quota of ${QUOTA}, and writes a section
of bench/RESULTS.md. Needs h2load and redis-server.`);
} else {
  await main(atLeast(1, "seconds", values.seconds));
}

async function main(seconds: number): Promise<void> {
  requireTools();
  moveTo(LOAD_CORE, process.pid);
  const rows: string[] = [];
  for (const store of STORES) {
    for (const quota of [undefined, QUOTA]) {
      rows.push(await measure(store, quota, seconds));
      console.log(rows.at(-1));
    }
  }
  writeSection(
    "Five times as many calls as a server can answer",
    `Written by \`pnpm bench:excess --seconds ${seconds}\` on Node ${process.versions.node}, ${cpus().length} cores.

| store | the caller's quota | calls/s: possible | asked for | answered | refused | ms until an answer: p50 | p99 | until a refusal: p50 | p99 | MiB before | after | failed probes | slowest probe, ms | ${RECOVERY_S} s later, of the possible |
| ----- | ------------------ | ----------------: | --------: | -------: | ------: | ----------------------: | --: | -------------------: | --: | ---------: | ----: | ------------: | ----------------: | ------: |
${rows.join("\n")}

- VerifySession in Connect's protocol over HTTP/2 by h2load: what is possible with ${FEW.connections * FEW.streams} calls in flight, and then
  ${TIMES} times as many a second on ${MANY.connections} connections, each with up to ${MANY.streams} calls in flight. h2load waits where all of them
  are, so that fewer are made than asked for. It repeats no call.
- The server has core 0, h2load and Redis have core 1. One core cannot even refuse as many calls as it is
  asked for, so a refusal waits, too.
- Beside it, a revocation and \`/readyz\` 20 times a second: a probe that fails, or is answered with
  anything but success, is a failed one. The first ${WARM_UP_S} s do not count.
`,
  );
}

async function measure(store: Store, quota: string | undefined, seconds: number): Promise<string> {
  await using stack = new AsyncDisposableStack();
  const flags = quota === undefined ? [] : ["--caller-quota", quota];
  const protocol = PROTOCOLS.connectOverHttp2;
  const free = await startFloodTarget(store, protocol, stack);
  const target = quota === undefined ? free : await startFloodTarget(store, protocol, stack, flags);
  await flood(free, WARM_UP_S, FEW);
  const possible = (await flood(free, CAPACITY_S, FEW)).answeredMs.length / CAPACITY_S;
  const before = await countsOf(target);
  const asked = TIMES * possible;
  const flooding = flood(target, seconds + WARM_UP_S, { ...MANY, perSecond: asked });
  const watched = await watchFor(seconds + WARM_UP_S, target);
  const { answeredMs, refusedMs } = await flooding;
  const later = (await flood(target, RECOVERY_S, FEW)).answeredMs.length / RECOVERY_S;
  const [answered, refused] = [latencyOf(answeredMs), latencyOf(refusedMs)];
  const most = quota === undefined ? possible : Number.parseInt(quota, 10);
  const cells = [
    ...[store, quota ?? "none", possible, asked].map(rounded),
    ...[answeredMs.length / seconds, refusedMs.length / seconds].map(rounded),
    ...[answered.p50Ms, answered.p99Ms, refused.p50Ms, refused.p99Ms].map(rounded),
    ...[before.mebibytes, watched.mebibytes, watched.failedProbes].map(rounded),
    ...[rounded(watched.slowestProbeMs), (later / most).toFixed(2)],
  ];
  return `| ${cells.join(" | ")} |`;
}

function rounded(value: string | number): string {
  return typeof value === "number" ? `${Math.round(value)}` : value;
}

/** How a flood calls. */
interface Shape {
  readonly connections: number;
  readonly streams: number;
  /** Default: as often as it is answered. */
  readonly perSecond?: number;
}

/** How long each answer took, of the calls that began after the warm-up. */
interface Answers {
  readonly answeredMs: number[];
  readonly refusedMs: number[];
}

/** Has h2load call for so long. */
async function flood(target: FloodTarget, seconds: number, shape: Shape): Promise<Answers> {
  const { connections, streams, perSecond } = shape;
  const dir = mkdtempSync(join(tmpdir(), "sessiond-bench-"));
  const log = join(dir, "calls");
  const rate = perSecond === undefined ? [] : ["--rps", `${perSecond / connections}`];
  const warmUpS = perSecond === undefined ? 0 : WARM_UP_S;
  try {
    await promisify(execFile)("taskset", [
      ...[
        "-c",
        LOAD_CORE,
        "h2load",
        "-D",
        `${seconds}`,
        "-c",
        `${connections}`,
        "-m",
        `${streams}`,
      ],
      ...[...rate, "--log-file", log, "-d", target.body],
      ...target.headers.flatMap((one) => ["-H", one]),
      target.url,
    ]);
    return await readLog(log, warmUpS * 1e6);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Each line: when the call began in microseconds, status, how long it took in microseconds. */
async function readLog(file: string, warmUpMicros: number): Promise<Answers> {
  const answers: Answers = { answeredMs: [], refusedMs: [] };
  let firstMicros = Number.POSITIVE_INFINITY;
  for await (const line of createInterface({ input: createReadStream(file) })) {
    const [beganMicros = 0, status = 0, micros = 0] = line.split("\t").map(Number);
    firstMicros = Math.min(firstMicros, beganMicros);
    if (beganMicros - firstMicros < warmUpMicros) continue;
    if (status === 200) answers.answeredMs.push(micros / 1000);
    else if (status === 429 || status === 503) answers.refusedMs.push(micros / 1000);
    // What h2load gave up at its end has no status.
    else if (status > 0) throw new Error(`a call was answered with ${status}`);
  }
  return answers;
}
