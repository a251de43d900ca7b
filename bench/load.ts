import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { ServerProcess } from "./processes.ts";

/** The result of one run of h2load. */
export interface LoadResult {
  readonly callsPerSecond: number;
  /** The server's CPU time for a call, in microseconds. Coarse if there are few calls. */
  readonly cpuMicros: number;
}

/** A way to call VerifySession. */
export interface Target {
  readonly name: string;
  readonly url: string;
  /** The HTTP version. */
  readonly version: 1 | 2;
  /** The file with the request's body. */
  readonly body: string;
  readonly headers: readonly string[];
  /** The length of an answer's body. A failed gRPC call has HTTP status 200 too, but no body. */
  readonly answerBytes: number;
  readonly server: Pick<ServerProcess, "cpuSeconds">;
}

/** The number of concurrent calls, the same for every protocol. */
const CALLS_UNDER_WAY = 100;
const CONNECTIONS = 4;

/**
 * Calls a target `calls` times from a core. Rejects if one call fails. Asynchronous, because this
 * process reads the servers' logs at the same time.
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
