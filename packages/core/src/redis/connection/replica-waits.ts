import { setImmediate as nextTurn } from "node:timers/promises";
import calculateSlot from "cluster-key-slot";
import type { Cluster, Redis } from "ioredis";
import { storeUnavailable } from "../../errors.js";
import { connected, untilReady } from "./connection-state.js";
import { isMoved } from "./redis-errors.js";
import type { Argument } from "./script.js";

/** How long replicas have to acknowledge a change. */
const REPLICATION_TIMEOUT_MS = 800;
const REQUIRED_REPLICAS = 1;
/**
 * A command that was queued for this long is refused. Longer than one wait, and together with
 * another wait below two seconds.
 */
const MAX_QUEUED_MS = 1_000;
/** At most this many commands share one WAIT. */
const MAX_BATCH_SIZE = 200;
/**
 * A write without effect, for WAIT to wait for. It uses a command's key, so it goes to the same
 * node: an index, or the claim on an id, which is a string. It also works when memory is full.
 */
const LAST_WRITE = `#!lua flags=allow-oom
if redis.call('TYPE', KEYS[1]).ok == 'string' then
  redis.call('APPEND', KEYS[1], '')
else
  redis.call('ZADD', KEYS[1], 0, '')
  redis.call('ZREM', KEYS[1], '')
end`;

interface Queued {
  readonly key: string;
  readonly command: readonly [name: string, ...args: Argument[]];
  readonly queuedMs: number;
  readonly made: (reply: unknown) => void;
  readonly resolve: (reply: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Sends commands that change something, and answers once a replica has the change.
 *
 * WAIT blocks its connection, so it has its own connection. Commands that arrive meanwhile share
 * the next WAIT of their node.
 */
export class ReplicaWaits {
  readonly #open: () => Redis | Cluster;
  #redis: Redis | Cluster | undefined;
  #connecting: Promise<void> | undefined;
  /** The commands to send to each node after the current batch. */
  readonly #queues = new Map<string, Queued[]>();

  /** `open` opens the connection. `close` closes it. */
  constructor(open: () => Redis | Cluster) {
    this.#open = open;
  }

  /**
   * Sends a command on `key`. Rejects with the error of Redis, or with STORE_UNAVAILABLE if no
   * replica acknowledges in time: the command did run, but a failover may undo it. A repetition
   * also waits for the changes of the first run. `made` is told the reply before that, confirmed or
   * not.
   */
  async send(
    key: string,
    command: readonly [name: string, ...args: Argument[]],
    made: (reply: unknown) => void,
  ): Promise<unknown> {
    const queuedMs = performance.now();
    await this.#connect();
    return new Promise((resolve, reject) => {
      this.#enqueue({ key, command, queuedMs, made, resolve, reject });
    });
  }

  /** Closes the connection. Pending commands fail. */
  close(): void {
    this.#redis?.disconnect();
    this.#redis = undefined;
    for (const queue of this.#queues.values()) {
      for (const { reject } of queue.splice(0)) reject(storeUnavailable("it was closed"));
    }
  }

  #enqueue(queued: Queued): void {
    const node = this.#nodeOf(queued.key);
    const queue = this.#queues.get(node);
    if (queue) {
      queue.push(queued);
    } else {
      this.#queues.set(node, [queued]);
      void this.#drain(node);
    }
  }

  /** Sends a node's queue, batch after batch, until it is empty. */
  async #drain(node: string): Promise<void> {
    const queue = this.#queues.get(node) ?? [];
    // All commands of this turn of the event loop share the first WAIT.
    await nextTurn();
    while (queue.length > 0) await this.#sendBatch(node, queue.splice(0, MAX_BATCH_SIZE));
    this.#queues.delete(node);
  }

  async #sendBatch(node: string, batch: readonly Queued[]): Promise<void> {
    const oldestMs = performance.now() - MAX_QUEUED_MS;
    const sent: Queued[] = [];
    for (const queued of batch) {
      if (queued.queuedMs < oldestMs) {
        queued.reject(
          storeUnavailable("too many changes wait for a replica; this one was not made"),
        );
      } else if (this.#nodeOf(queued.key) === node) {
        sent.push(queued);
      } else {
        // The slot has moved meanwhile.
        this.#enqueue(queued);
      }
    }
    if (sent.length === 0) return;
    try {
      await this.#sendAndWait(sent);
    } catch (error) {
      for (const { reject } of sent) reject(error);
    }
  }

  async #sendAndWait(sent: readonly Queued[]): Promise<void> {
    const redis = this.#redis;
    if (redis === undefined) throw storeUnavailable("it was closed");
    const pipeline = connected(redis).pipeline();
    for (const { command } of sent) pipeline.callBuffer(...command);
    // One such write is enough, but a slot that is half moved refuses it.
    for (const key of new Set(sent.map(({ key }) => key))) {
      pipeline.call("eval", LAST_WRITE, 1, key);
    }
    pipeline.call("wait", REQUIRED_REPLICAS, REPLICATION_TIMEOUT_MS);
    const results = (await pipeline.exec()) ?? [];
    const [waitError, replicas] = results.at(-1) ?? NOT_SENT;
    const hasWritten = results.slice(sent.length, -1).some(([error]) => !error);
    const isConfirmed = hasWritten && !waitError && Number(replicas) >= REQUIRED_REPLICAS;
    for (const [i, { made, resolve, reject }] of sent.entries()) {
      const [error, reply] = results[i] ?? NOT_SENT;
      // A pipeline does not follow a slot to another node.
      if (isMoved(error) && redis.isCluster) (redis as Cluster).refreshSlotsCache();
      if (!error) made(reply);
      if (error) reject(error);
      else if (isConfirmed) resolve(reply);
      else reject(unconfirmed());
    }
  }

  /** Waits for the connection, for a limited time. */
  async #connect(): Promise<void> {
    this.#redis ??= this.#open();
    if (this.#redis.status === "ready") return;
    this.#connecting ??= untilReady(this.#redis).finally(() => {
      this.#connecting = undefined;
    });
    await this.#connecting;
  }

  /** The known node of a key. A pipeline goes to one node. */
  #nodeOf(key: string): string {
    const redis = this.#redis;
    if (redis === undefined || !("slots" in redis)) return "";
    return redis.slots[calculateSlot(key)]?.join() ?? key;
  }
}

function unconfirmed(): Error {
  return storeUnavailable(
    "the change was made, but no replica confirmed it in time, so that a failover could undo it; it is safe to try again",
  );
}

const NOT_SENT = [new Error("the command was not sent"), undefined] as const;
