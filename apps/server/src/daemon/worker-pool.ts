import cluster, { type Worker } from "node:cluster";
import type { Logger } from "pino";
import { type ToPrimary, type ToWorker, tell } from "./worker-messages.js";
import { WorkerMetrics } from "./worker-metrics.js";

/** A worker that ends before this time has a fault that the next one may have, too. */
const STABLE_MS = 10_000;
/** The wait before such a worker is replaced: it doubles each time. */
const MIN_REPLACE_MS = 100;
const MAX_REPLACE_MS = 10_000;
/** How long workers may take to end once they were told to at once: longer than to write their logs. */
const KILL_MS = 2_000;

/**
 * The worker processes of a server. The primary process holds the listening sockets and gives each
 * new connection to the next worker, so a connection is refused only while there is no worker at all.
 * A worker that ends takes its own calls with it and nothing else, and is replaced.
 */
export class WorkerPool {
  readonly #count: number;
  readonly #logger: Logger;
  readonly #metrics = new WorkerMetrics();
  readonly #workers = new Set<Worker>();
  readonly #serving = new Set<Worker>();
  readonly #replacing = new Set<NodeJS.Timeout>();
  /** How many workers in a row have ended early. */
  #earlyEnds = 0;
  /** From the start on until the stop, workers that end are replaced. */
  #replaces = false;
  #onChange = () => {};

  constructor(count: number, logger: Logger) {
    this.#count = count;
    this.#logger = logger;
    // The system's own way would let one worker take most of few connections.
    cluster.schedulingPolicy = cluster.SCHED_RR;
  }

  /**
   * Starts all workers. Rejects if one cannot start, after it has said why. The first one starts
   * alone, so that a fault of the start is told once.
   */
  async start(): Promise<void> {
    this.#fork();
    await this.#until(() => this.#serving.size === 1);
    for (let i = 1; i < this.#count; i++) this.#fork();
    await this.#until(() => this.#serving.size === this.#count);
    this.#replaces = true;
    const [first] = this.#serving;
    if (first !== undefined) tell(first, { sessiond: "announce" });
  }

  /** Has all workers read their files again. */
  reload(): void {
    this.#tellAll({ sessiond: "reload" });
  }

  /** Lets all workers finish, together. Resolves when they have ended. */
  async stop(): Promise<void> {
    this.#endReplacing();
    this.#tellAll({ sessiond: "stop" });
    while (this.#workers.size > 0) await this.#change();
  }

  /** Ends all workers as soon as their logs are written. */
  stopNow(): void {
    this.#endReplacing();
    this.#tellAll({ sessiond: "stop-now" });
    setTimeout(() => {
      for (const worker of this.#workers) worker.process.kill("SIGKILL");
    }, KILL_MS).unref();
  }

  #endReplacing(): void {
    this.#replaces = false;
    for (const timer of this.#replacing) clearTimeout(timer);
  }

  #fork(): void {
    const startMs = performance.now();
    const worker = cluster.fork();
    this.#workers.add(worker);
    let isServing = false;
    worker.on("message", (message: ToPrimary) => {
      const others = [...this.#serving].filter((other) => other !== worker);
      if (message.sessiond !== "serving") return this.#metrics.take(worker, message, others);
      isServing = true;
      this.#serving.add(worker);
      if (worker.id > this.#count) this.#logger.info(nameOf(worker), "worker started");
      this.#onChange();
    });
    const onEnd = (code: number | null, signal: string | null) => {
      this.#workers.delete(worker);
      this.#serving.delete(worker);
      this.#metrics.forget(worker);
      this.#onChange();
      if (!this.#replaces) return;
      const upMs = performance.now() - startMs;
      const how = { code, ...(signal !== null && { signal }), up_s: Math.round(upMs / 1000) };
      this.#replace({ ...nameOf(worker), ...how }, isServing && upMs >= STABLE_MS);
    };
    worker.on("exit", onEnd);
    worker.on("error", (err) => {
      this.#logger.error({ ...nameOf(worker), err }, "worker failed");
      // The system could not start its process, so no "exit" follows.
      if (worker.process.pid === undefined) onEnd(null, null);
    });
  }

  #replace(ended: object, wasStable: boolean): void {
    this.#earlyEnds = wasStable ? 0 : this.#earlyEnds + 1;
    const doubled = MIN_REPLACE_MS * 2 ** (this.#earlyEnds - 1);
    const delayMs = wasStable ? 0 : Math.min(doubled, MAX_REPLACE_MS);
    this.#logger.warn({ ...ended, retry_ms: delayMs }, "worker ended");
    const timer = setTimeout(() => {
      this.#replacing.delete(timer);
      try {
        this.#fork();
      } catch (err) {
        // Node throws some errors of the system, such as ENOMEM, instead of emitting them.
        this.#replace({ err }, false);
      }
    }, delayMs);
    this.#replacing.add(timer);
  }

  /** Waits for the workers during the start. Rejects if one of them ends. */
  async #until(isDone: () => boolean): Promise<void> {
    const count = this.#workers.size;
    while (!isDone()) {
      await this.#change();
      if (this.#workers.size < count) throw new Error("a worker could not start");
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#onChange = resolve;
    });
  }

  #tellAll(message: ToWorker): void {
    for (const worker of this.#workers) tell(worker, message);
  }
}

function nameOf(worker: Worker): object {
  return { worker: worker.id, pid: worker.process.pid };
}
