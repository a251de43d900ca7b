import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

/** The result of one run of h2load. */
export interface LoadResult {
  readonly callsPerSecond: number;
  /** The server's CPU time for a call, in microseconds. */
  readonly cpuMicros: number;
  /** The CPU time of h2load for a call, in microseconds. */
  readonly clientMicros: number;
}

/** How long calls took, in milliseconds. */
export interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** How fast calls come whose time is measured. */
export interface Pace {
  readonly perSecond: number;
  readonly seconds: number;
}

/** A way to verify a session. */
export interface Target {
  readonly name: string;
  readonly url: string;
  /** The HTTP version. */
  readonly version: 1 | 2;
  /** The file with the request's body. Undefined for a GET. */
  readonly body?: string;
  readonly headers: readonly string[];
  /** The length of an answer's body. A failed gRPC call has HTTP status 200 too, but no body. */
  readonly answerBytes: number;
  readonly server: { cpuSeconds(): number };
}

/** The number of concurrent calls, the same for every protocol. */
export const CALLS_UNDER_WAY = 100;
const CONNECTIONS = 4;
/** Connections that call at a fixed rate. */
const PACED_CONNECTIONS = 10;

/**
 * Calls a target `calls` times from a core, with `times` as many connections as usual. Rejects if one
 * call fails. Asynchronous, because this process reads the servers' logs at the same time.
 */
export async function load(
  target: Target,
  core: string,
  calls: number,
  times = 1,
): Promise<LoadResult> {
  const shape =
    target.version === 1
      ? ["--h1", "-c", `${times * CALLS_UNDER_WAY}`, "-m", "1"]
      : ["-c", `${times * CONNECTIONS}`, "-m", `${CALLS_UNDER_WAY / CONNECTIONS}`];
  const cpuBefore = target.server.cpuSeconds();
  const { stdout, cpuSeconds } = await h2load(target, core, calls, shape);
  const cpuMicros = ((target.server.cpuSeconds() - cpuBefore) * 1e6) / calls;
  const rate = Number(/finished in [\d.]+m?s, ([\d.]+) req\/s/.exec(stdout)?.[1]);
  return { callsPerSecond: rate, cpuMicros, clientMicros: (cpuSeconds * 1e6) / calls };
}

/** Calls a target at a fixed rate, whether it keeps up or not. */
export async function pace(
  target: Target,
  core: string,
  { perSecond, seconds }: Pace,
): Promise<Latency> {
  const log = join(tmpdir(), `sessiond-bench-${randomUUID()}`);
  const shape = ["-c", `${PACED_CONNECTIONS}`, "--rps", `${perSecond / PACED_CONNECTIONS}`];
  const version = target.version === 1 ? ["--h1", "-m", "1"] : ["-m", "10"];
  try {
    const calls = perSecond * seconds;
    await h2load(target, core, calls, [...shape, ...version, "--log-file", log]);
    // Each line: start, status, microseconds.
    const lines = readFileSync(log, "utf8").trim().split("\n");
    return latencyOf(lines.map((line) => Number(line.split("\t")[2]) / 1000));
  } finally {
    rmSync(log, { force: true });
  }
}

/** The percentiles of durations in milliseconds. */
export function latencyOf(durationsMs: readonly number[]): Latency {
  const sorted = durationsMs.toSorted((a, b) => a - b);
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  return { p50Ms: at(0.5), p99Ms: at(0.99) };
}

/** Runs h2load, and checks that each call was answered. */
async function h2load(target: Target, core: string, calls: number, shape: readonly string[]) {
  const headers = target.headers.flatMap((header) => ["-H", header]);
  const body = target.body === undefined ? [] : ["-d", target.body];
  const { stdout, stderr, cpuSeconds } = await timed(core, [
    ...["h2load", "-n", `${calls}`, ...shape, ...headers, ...body, target.url],
  ]);
  const answered = Number(/\((\d+)\) data$/m.exec(stdout)?.[1]);
  const isDone = stdout.includes(` ${calls} succeeded, 0 failed, 0 errored`);
  if (!isDone || answered !== calls * target.answerBytes) {
    throw new Error(`${target.name}: the load did not go through\n${stdout}${stderr}`);
  }
  return { stdout, cpuSeconds };
}

/** Runs a program on a core to its end, and measures its CPU time. */
export async function timed(core: string, command: readonly string[]) {
  // Node does not tell what a child has used; bash does, on the last line of its stderr.
  const script = `TIMEFORMAT="%U %S"; time taskset -c ${core} "$@"`;
  const { stdout, stderr } = await promisify(execFile)("bash", ["-c", script, "bash", ...command]);
  const times = stderr.trim().split("\n").at(-1)?.split(" ") ?? [];
  return { stdout, stderr, cpuSeconds: Number(times[0]) + Number(times[1]) };
}
