// A process that calls a store by itself, each time that its parent asks it to.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cpuMicrosOf } from "./processes.ts";

/** What the parent asks for. */
export interface Order {
  readonly calls: number;
  readonly concurrent: number;
  /** The time between two calls. Undefined for as fast as possible. */
  readonly intervalMs?: number;
}

/** How the calls went. */
export interface Bill {
  readonly seconds: number;
  /** Only of calls in intervals. */
  readonly latenciesMs: readonly number[];
}

/** A process that calls as it is told. */
export interface Caller {
  call(order: Order): Promise<Bill>;
  /** The CPU time that the process has used so far. */
  cpuMicros(): number;
  stop(): void;
}

/** Starts a program on a core, and waits until it can be told to call. */
export async function startCaller(core: string, args: readonly string[]): Promise<Caller> {
  const child = spawn("taskset", ["-c", core, process.execPath, ...args], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  await nextMessage(child);
  return {
    call: (order) => {
      child.send(order);
      return nextMessage(child) as Promise<Bill>;
    },
    cpuMicros: () => cpuMicrosOf(child.pid),
    stop: () => void child.kill(),
  };
}

/** Rejects if the process ends instead. */
async function nextMessage(child: ChildProcess): Promise<unknown> {
  const done = new AbortController();
  const { signal } = done;
  try {
    const ended = once(child, "exit", { signal }).then(() => {
      throw new Error("a caller has failed");
    });
    const [message] = await Promise.race([once(child, "message", { signal }), ended]);
    return message;
  } finally {
    done.abort();
  }
}
