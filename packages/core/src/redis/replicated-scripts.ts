import { setTimeout as sleep } from "node:timers/promises";
import calculateSlot from "cluster-key-slot";
import type { Cluster, Redis } from "ioredis";
import { storeUnavailable } from "../errors.js";
import { connected, untilReady } from "./connection-state.js";
import type { Argument, Settled } from "./redis-commands.js";
import { fromRedisError, isMoved, isNoScript, isNotRunYet } from "./redis-errors.js";
import type { Script } from "./scripts.js";

/** How long replicas have to acknowledge a change. */
const REPLICATION_TIMEOUT_MS = 800;
const REQUIRED_REPLICAS = 1;
/** A script that could not be sent for this long, because others waited, is not sent any more. */
const MAX_QUEUED_MS = 900;
/** At most this many scripts share one wait. */
const MAX_BATCH_SIZE = 200;
/** How soon a script that met a moving slot is tried again. */
const RESHARDING_PAUSE_MS = 50;
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
  #queue: Run[] = [];
  readonly #busyNodes = new Set<string>();

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
      this.#queue.push({ script, keys, args, queuedMs, resolve, reject, needsSource: false });
      this.#flush();
    });
  }

  /** Lets go of the connection; what is under way fails. */
  close(): void {
    this.#redis?.disconnect();
    this.#redis = undefined;
    for (const { reject } of this.#queue.splice(0)) reject(storeUnavailable("it was closed"));
  }

  /** Sends what is queued to the nodes that are not waiting. */
  #flush(): void {
    const batches = new Map<string, Run[]>();
    const left: Run[] = [];
    for (const run of this.#queue) {
      const node = this.#nodeOf(run);
      const batch = batches.get(node) ?? [];
      if (this.#busyNodes.has(node) || batch.length === MAX_BATCH_SIZE) left.push(run);
      else batches.set(node, [...batch, run]);
    }
    this.#queue = left;
    for (const [node, batch] of batches) void this.#send(node, batch);
  }

  async #send(node: string, batch: readonly Run[]): Promise<void> {
    this.#busyNodes.add(node);
    const oldestMs = performance.now() - MAX_QUEUED_MS;
    const [late, runs] = [
      batch.filter((r) => r.queuedMs < oldestMs),
      batch.filter((r) => r.queuedMs >= oldestMs),
    ];
    for (const { reject } of late) {
      reject(storeUnavailable("too many changes wait for a replica; this one was not made"));
    }
    try {
      if (runs.length > 0) await this.#runAndWait(runs);
    } catch (error) {
      for (const { reject } of runs) reject(fromRedisError(error));
    } finally {
      this.#busyNodes.delete(node);
      this.#flush();
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
    pipeline.call("eval", LAST_WRITE, 1, runs[0]?.keys[0] ?? "");
    pipeline.call("wait", REQUIRED_REPLICAS, REPLICATION_TIMEOUT_MS);
    const results = (await pipeline.exec()) ?? [];
    const [wrote, waited] = results.slice(-2);
    const isConfirmed = !wrote?.[0] && !waited?.[0] && Number(waited?.[1]) >= REQUIRED_REPLICAS;
    for (const [i, run] of runs.entries()) {
      this.#settle(
        run,
        results[i] ?? [new Error("the script was not sent"), undefined],
        isConfirmed,
      );
    }
  }

  #settle(run: Run, [error, reply]: Settled, isConfirmed: boolean): void {
    if (isNoScript(error) && !run.needsSource) {
      run.needsSource = true;
      this.#queue.push(run);
    } else if (isNotRunYet(error) && performance.now() - run.queuedMs < MAX_QUEUED_MS) {
      // A pipeline does not follow a slot to another node by itself.
      if (isMoved(error) && this.#redis?.isCluster) (this.#redis as Cluster).refreshSlotsCache();
      void sleep(RESHARDING_PAUSE_MS).then(() => {
        this.#queue.push(run);
        this.#flush();
      });
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
