import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { ServerProcess } from "./processes.ts";

/** What one run of h2load says. */
export interface LoadResult {
  readonly callsPerSecond: number;
  /** CPU time the server took for a call, in microseconds; of few calls it is coarse. */
  readonly cpuMicros: number;
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
  /** How long the body of an answer is: failures of gRPC have the status 200 of HTTP, and none. */
  readonly answerBytes: number;
  readonly server: Pick<ServerProcess, "cpuSeconds">;
}

/** As many calls are under way at any moment, however they are carried. */
const CALLS_UNDER_WAY = 100;
const CONNECTIONS = 4;

/**
 * Makes so many calls of a target from a core. Rejects where a single one fails.
 * This process goes on meanwhile, and reads what the servers log.
 */
export async function load(target: Target, core: string, calls: number): Promise<LoadResult> {
  const shape =
    target.version === 1
      ? ["--h1", "-c", `${CALLS_UNDER_WAY}`, "-m", "1"]
      : ["-c", `${CONNECTIONS}`, "-m", `${CALLS_UNDER_WAY / CONNECTIONS}`];
  const headers = target.headers.flatMap((header) => ["-H", header]);
  const cpuBefore = target.server.cpuSeconds();
  const { stdout, stderr } = await promisify(execFile)("taskset", [
    ...["-c", core, "h2load"],
    ...["-n", `${calls}`, ...shape, ...headers, "-d", target.body, target.url],
  ]);
  const rate = /finished in [\d.]+m?s, ([\d.]+) req\/s/.exec(stdout)?.[1];
  const answered = Number(/\((\d+)\) data$/m.exec(stdout)?.[1]);
  const isDone = stdout.includes(` ${calls} succeeded, 0 failed, 0 errored`);
  if (rate === undefined || !isDone || answered !== calls * target.answerBytes) {
    throw new Error(`${target.name}: the load did not go through\n${stdout}${stderr}`);
  }
  const cpuMicros = ((target.server.cpuSeconds() - cpuBefore) * 1e6) / calls;
  return { callsPerSecond: Number(rate), cpuMicros };
}
