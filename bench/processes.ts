import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

/** A server in a process of its own, on a core of its own. */
export interface ServerProcess {
  readonly addresses: ReadonlyMap<string, string>;
  /** How much CPU time the process has used so far, in seconds. */
  cpuSeconds(): number;
  stop(): Promise<void>;
}

/**
 * Starts a program on a core and waits for the line of JSON that names its
 * addresses. What it writes afterwards is read and dropped, as a log collector
 * would read it.
 */
export async function startOn(core: string, args: readonly string[]): Promise<ServerProcess> {
  const child = spawn("taskset", ["-c", core, process.execPath, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
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
  // The name, in parentheses, may hold spaces; utime and stime are the 12th and 13th after it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
}
