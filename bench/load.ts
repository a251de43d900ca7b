import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { ServerProcess } from "./processes.ts";

/** What one run of h2load says. */
export interface LoadResult {
  readonly callsPerSecond: number;
  /** CPU time the server took for a call, in microseconds; less shaken by a busy machine. */
  readonly cpuMicros: number;
  /** Mean time of a call in milliseconds, waiting behind the other calls included. */
  readonly meanMs: number;
}

/** A way to call VerifySession. */
export interface Target {
  readonly name: string;
  readonly url: string;
  /** Of HTTP. */
  readonly version: 1 | 2;
  /** The file with the request's body. */
  readonly body: string;
  readonly headers: readonly string[];
  readonly server: Pick<ServerProcess, "cpuSeconds">;
}

/** As many calls are under way at any moment, however they are carried. */
const CALLS_UNDER_WAY = 100;
const CONNECTIONS = 4;
const WARM_UP_SECONDS = 1;

/**
 * Loads a target from its own core for some seconds. Rejects where a single call fails.
 * This process goes on meanwhile, and reads what the servers log.
 */
export async function load(target: Target, core: string, seconds: number): Promise<LoadResult> {
  const shape =
    target.version === 1
      ? ["--h1", "-c", `${CALLS_UNDER_WAY}`, "-m", "1"]
      : ["-c", `${CONNECTIONS}`, "-m", `${CALLS_UNDER_WAY / CONNECTIONS}`];
  const headers = target.headers.flatMap((header) => ["-H", header]);
  const timing = ["--duration", `${seconds}`, "--warm-up-time", `${WARM_UP_SECONDS}`];
  const cpuBefore = target.server.cpuSeconds();
  const { stdout, stderr } = await promisify(execFile)("taskset", [
    ...["-c", core, "h2load"],
    ...[...timing, ...shape, ...headers, "-d", target.body, target.url],
  ]);
  const rate = /finished in [\d.]+s, ([\d.]+) req\/s/.exec(stdout)?.[1];
  const counts = /(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/.exec(stdout);
  const mean = /time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)/.exec(stdout);
  const [, succeeded, ...unsuccessful] = counts ?? [];
  if (rate === undefined || !Number(succeeded) || unsuccessful.some((count) => count !== "0")) {
    throw new Error(`${target.name}: the load did not go through\n${stdout}${stderr}`);
  }
  // The warm-up is part of the CPU time, but not of the calls that h2load counts.
  const calls = Number(succeeded) * (1 + WARM_UP_SECONDS / seconds);
  const cpuMicros = ((target.server.cpuSeconds() - cpuBefore) * 1e6) / calls;
  return { callsPerSecond: Number(rate), cpuMicros, meanMs: toMs(mean?.[1], mean?.[2]) };
}

function toMs(digits: string | undefined, unit: string | undefined): number {
  const factor = unit === "us" ? 0.001 : unit === "ms" ? 1 : 1000;
  return Number(digits) * factor;
}
