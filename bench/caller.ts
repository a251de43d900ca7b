// A process that calls a store or a server by itself, each time that its parent asks it to: both ends.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

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
  /** The process's CPU time of all calls together. */
  readonly cpuMicros: number;
  /** Only of calls in intervals. */
  readonly latenciesMs: readonly number[];
}

/** A process that calls as it is told. */
export interface Caller {
  call(order: Order): Promise<Bill>;
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
    stop: () => void child.kill(),
  };
}

/**
 * In the process: makes the calls that the parent asks for. `call` gets the number of the call in its
 * order. If it brings nothing, the process fails.
 */
export function takeOrders(call: (n: number) => Promise<unknown>): void {
  process.on("message", async (order: Order) => process.send?.(await callAll(order, call)));
  // A parent that has failed stops nobody.
  process.once("disconnect", () => process.exit());
  process.send?.("ready");
}

async function callAll(order: Order, call: (n: number) => Promise<unknown>): Promise<Bill> {
  const { calls, concurrent, intervalMs } = order;
  const latenciesMs: number[] = [];
  const startCpu = process.cpuUsage();
  const startMs = performance.now();
  let next = 0;
  const work = async () => {
    while (next < calls) {
      const n = next++;
      if (intervalMs !== undefined) await sleepUntil(startMs + intervalMs * n);
      const sentMs = performance.now();
      const answer = await call(n);
      if (answer === undefined || answer === null) throw new Error("the session is not there");
      if (intervalMs !== undefined) latenciesMs.push(performance.now() - sentMs);
    }
  };
  await Promise.all(Array.from({ length: concurrent }, work));
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(startCpu);
  return { seconds, cpuMicros: user + system, latenciesMs };
}

async function sleepUntil(dueMs: number): Promise<void> {
  const waitMs = dueMs - performance.now();
  if (waitMs > 0) await sleep(waitMs);
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
