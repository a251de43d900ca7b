import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

/** A server in its own process, on its own core. */
export interface ServerProcess {
  readonly addresses: ReadonlyMap<string, string>;
  readonly pid: number;
  /** The CPU time that the process has used so far, in seconds. */
  cpuSeconds(): number;
  stop(): Promise<void>;
}

/** A benchmark that fails leaves none of them behind. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/**
 * Starts a program on a core and waits for the line of JSON with its addresses. Reads and drops its
 * later output, as a log collector would.
 */
export async function startOn(
  core: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<ServerProcess> {
  const child = spawn("taskset", ["-c", core, process.execPath, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  const pid = child.pid ?? 0;
  running.add(child);
  child.once("exit", () => running.delete(child));
  const addresses = await readAddresses(child);
  child.stdout?.resume();
  return { addresses, pid, cpuSeconds: () => cpuMicrosOf(pid) / 1e6, stop: () => stop(child) };
}

/** Moves a running process to a core. */
export function moveTo(core: string, pid: number): void {
  execFileSync("taskset", ["-c", "-p", core, `${pid}`], { stdio: "ignore" });
}

async function readAddresses(child: ChildProcess): Promise<Map<string, string>> {
  const { stdout } = child;
  if (stdout === null) throw new Error("the process has no output");
  const lines = createInterface({ input: stdout });
  for await (const line of lines) {
    if (!/"(grpc|http)_address"/.test(line)) continue;
    lines.close();
    return new Map(Object.entries(JSON.parse(line)));
  }
  throw new Error("the process ended before it listened");
}

/** User and system time of all threads, in microseconds (schedstats of Linux, in nanoseconds). */
export function cpuMicrosOf(pid: number | undefined): number {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const nanos = tasks.map((task) =>
    Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ", 1)[0]),
  );
  return nanos.reduce((sum, each) => sum + each, 0) / 1000;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
}
