import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import calculateSlot from "cluster-key-slot";
import type { Cluster, Redis } from "ioredis";
import { storeUnavailable } from "../../errors.js";
import type { Script } from "../sessions/scripts.js";
import { connected, untilReady } from "./connection-state.js";
import type { Argument, Settled } from "./redis-commands.js";
import { fromRedisError, isMoved, isNoScript, isNotRunYet } from "./redis-errors.js";

/** How long replicas have to acknowledge a change. */
const REPLICATION_TIMEOUT_MS = 800;
const REQUIRED_REPLICAS = 1;
/**
 * A script that could not be sent for this long, because others waited, is not sent any more.
 * More than one wait, and with another still less than two seconds.
 */
const MAX_QUEUED_MS = 1_000;
/** At most this many scripts share one wait. */
const MAX_BATCH_SIZE = 200;
/** How soon a script that met a moving slot is tried again, and since it was queued for how long. */
const RESHARDING_PAUSE_MS = 50;
const RESHARDING_BUDGET_MS = 800;
/**
 * A write that leaves nothing, for WAIT to wait for. On a key that the scripts
 * have as well, so that it is where they are; possible when memory is used up.
 */
const LAST_WRITE = `#!lua flags=allow-oom
redis.call('ZADD', KEYS[1], 0, '')
redis.call('ZREM', KEYS[1], '')`;

/** A script to run, and whoever waits for it. */
interface Run {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly Argument[];
  readonly queuedMs: number;
  readonly resolve: (reply: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** Whether Redis has said that it does not know the script. */
  needsSource: boolean;
}

/**
 * Runs scripts, and does not say so before a replica has what they changed.
 *
 * WAIT blocks its connection, so there is one for this alone, and scripts that
 * come while it is blocked go together with the next WAIT: those of a node share
 * one, however many they are.
 */
export class ReplicatedScripts {
  readonly #open: () => Redis | Cluster;
  #redis: Redis | Cluster | undefined;
  #connecting: Promise<void> | undefined;
  /** What is to be sent to each node once the batch before is answered. */
  readonly #queues = new Map<string, Run[]>();

  /** `open` makes the connection, which `close` closes. */
  constructor(open: () => Redis | Cluster) {
    this.#open = open;
  }

  /**
   * Runs a script. Rejects with STORE_UNAVAILABLE where no replica acknowledges in
   * time, although the script did run: what it changed may yet be lost in a failover. Run
   * again, it also waits for what the first run changed.
   */
  async run(script: Script, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    const queuedMs = performance.now();
    await this.#connect();
    return new Promise((resolve, reject) => {
      this.#enqueue({ script, keys, args, queuedMs, resolve, reject, needsSource: false });
    });
  }

  /** Lets go of the connection; what is under way fails. */
  close(): void {
    this.#redis?.disconnect();
    this.#redis = undefined;
    for (const queue of this.#queues.values()) {
      for (const { reject } of queue.splice(0)) reject(storeUnavailable("it was closed"));
    }
  }

  /** Has a script sent with the next batch for its node. */
  #enqueue(run: Run): void {
    const node = this.#nodeOf(run);
    const queue = this.#queues.get(node);
    if (queue) {
      queue.push(run);
    } else {
      this.#queues.set(node, [run]);
      void this.#drain(node);
    }
  }

  /** Sends what is queued for a node, batch after batch, until nothing is. */
  async #drain(node: string): Promise<void> {
    const queue = this.#queues.get(node) ?? [];
    // What comes in one turn of the event loop shares the first wait as well.
    await nextTurn();
    while (queue.length > 0) await this.#send(node, queue.splice(0, MAX_BATCH_SIZE));
    this.#queues.delete(node);
  }

  async #send(node: string, batch: readonly Run[]): Promise<void> {
    const oldestMs = performance.now() - MAX_QUEUED_MS;
    const runs: Run[] = [];
    for (const run of batch) {
      if (run.queuedMs < oldestMs) {
        run.reject(storeUnavailable("too many changes wait for a replica; this one was not made"));
      } else if (this.#nodeOf(run) === node) {
        runs.push(run);
      } else {
        // Its slot has moved while it waited.
        this.#enqueue(run);
      }
    }
    if (runs.length === 0) return;
    try {
      await this.#runAndWait(runs);
    } catch (error) {
      for (const { reject } of runs) reject(fromRedisError(error));
    }
  }

  async #runAndWait(runs: readonly Run[]): Promise<void> {
    const redis = this.#redis;
    if (redis === undefined) throw storeUnavailable("it was closed");
    const pipeline = connected(redis).pipeline();
    for (const { script, keys, args, needsSource } of runs) {
      const [name, text] = needsSource ? ["eval", script.source] : ["evalsha", script.sha1];
      pipeline.callBuffer(name ?? "", text ?? "", keys.length, ...keys, ...args);
    }
    // One is enough, but a slot that is half moved does not take it.
    for (const key of new Set(runs.map(({ keys }) => keys[0] ?? ""))) {
      pipeline.call("eval", LAST_WRITE, 1, key);
    }
    pipeline.call("wait", REQUIRED_REPLICAS, REPLICATION_TIMEOUT_MS);
    const results = (await pipeline.exec()) ?? [];
    const [waitError, replicas] = results.at(-1) ?? NOT_SENT;
    const hasWritten = results.slice(runs.length, -1).some(([error]) => !error);
    const isConfirmed = hasWritten && !waitError && Number(replicas) >= REQUIRED_REPLICAS;
    for (const [i, run] of runs.entries()) {
      this.#settle(run, results[i] ?? NOT_SENT, isConfirmed);
    }
  }

  #settle(run: Run, [error, reply]: Settled, isConfirmed: boolean): void {
    if (isNoScript(error) && !run.needsSource) {
      run.needsSource = true;
      this.#enqueue(run);
    } else if (isNotRunYet(error) && performance.now() - run.queuedMs < RESHARDING_BUDGET_MS) {
      // A pipeline does not follow a slot to another node by itself.
      if (isMoved(error) && this.#redis?.isCluster) (this.#redis as Cluster).refreshSlotsCache();
      void sleep(RESHARDING_PAUSE_MS).then(() => this.#enqueue(run));
    } else if (error) {
      run.reject(fromRedisError(error));
    } else if (isConfirmed) {
      run.resolve(reply);
    } else {
      run.reject(
        storeUnavailable(
          "the change was made, but no replica confirmed it in time, so that a failover could undo it; it is safe to try again",
        ),
      );
    }
  }

  /** Resolves when there is a connection, or there has been none for too long. */
  async #connect(): Promise<void> {
    this.#redis ??= this.#open();
    if (this.#redis.status === "ready") return;
    this.#connecting ??= untilReady(this.#redis).finally(() => {
      this.#connecting = undefined;
    });
    await this.#connecting;
  }

  /** The node that a run goes to, as far as is known: what shares a pipeline must go to one. */
  #nodeOf({ keys }: Run): string {
    const redis = this.#redis;
    const [key = ""] = keys;
    if (redis === undefined || !("slots" in redis)) return "";
    return redis.slots[calculateSlot(key)]?.join() ?? key;
  }
}

const NOT_SENT: Settled = [new Error("the script was not sent"), undefined];
