import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

/** A server in its own process, on its own core. */
export interface ServerProcess {
  readonly addresses: ReadonlyMap<string, string>;
  /** The CPU time that the process has used so far, in seconds. */
  cpuSeconds(): number;
  stop(): Promise<void>;
}

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
  const addresses = await readAddresses(child);
  child.stdout?.resume();
  return { addresses, cpuSeconds: () => cpuSecondsOf(child.pid), stop: () => stop(child) };
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
    if (!line.includes("grpc_address")) continue;
    lines.close();
    return new Map(Object.entries(JSON.parse(line)));
  }
  throw new Error("the process ended before it listened");
}

/** User and system time, counted in ticks of 10 ms (proc(5), /proc/pid/stat). */
function cpuSecondsOf(pid: number | undefined): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name, in parentheses, may have spaces. utime and stime are fields 12 and 13 after it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
}
