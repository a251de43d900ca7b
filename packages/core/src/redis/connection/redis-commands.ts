import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster, Redis } from "ioredis";
import type { Around } from "../../around.js";
import { storeUnavailable } from "../../errors.js";
import { connected } from "./connection-state.js";
import { HintChannels } from "./hint-channels.js";
import { sendPatiently } from "./patient-command.js";
import { ReadBatch } from "./read-batch.js";
import { ReconnectingRedis } from "./reconnecting-redis.js";
import { fromRedisError, isNoScript, isNotRunYet } from "./redis-errors.js";
import { ReplicaWaits } from "./replica-waits.js";
import { type Argument, argumentsOf, type Script, type ScriptCall } from "./script.js";

/** How long a script is retried while a resharding moves its keys. */
const RESHARDING_BUDGET_MS = 800;
const RESHARDING_PAUSE_MS = 50;

/** Options of `RedisCommands`. */
export interface RedisCommandsOptions {
  /** The clock, in ms since the Unix epoch. By default the time of Redis, so that servers agree. */
  readonly now?: () => number;
  /** Runs each change that waits for a replica. By default nothing is done around it. */
  readonly aroundReplicaWait?: Around | undefined;
}

/**
 * Sends commands and scripts to Redis. It batches reads, retries scripts during a resharding, and
 * can wait for a replica. It never repeats a command that may have run, and converts every error to
 * ours.
 */
export class RedisCommands {
  readonly redis: Redis | Cluster;
  readonly hints = new HintChannels(() => this.openAnother());
  readonly #now: (() => number) | undefined;
  readonly #aroundReplicaWait: Around | undefined;
  readonly #reads: ReadBatch;
  readonly #replicaWaits = new ReplicaWaits(() => this.openAnother());
  #isClosed = false;

  constructor(redis: Redis | Cluster, { now, aroundReplicaWait }: RedisCommandsOptions = {}) {
    this.redis = redis;
    this.#now = now;
    this.#aroundReplicaWait = aroundReplicaWait;
    this.#reads = new ReadBatch(redis);
  }

  async call<T>(send: (redis: Redis | Cluster) => Promise<T>): Promise<T> {
    try {
      return await send(connected(this.redis));
    } catch (error) {
      throw fromRedisError(error);
    }
  }

  /** Sends a reading command, batched with other reads. */
  read(name: string, args: Argument[]): Promise<unknown> {
    return this.#reads.read(name, args, fromRedisError);
  }

  /** Reads a string, batched with other reads. Null if there is none. */
  get(key: Buffer): Promise<Buffer | null> {
    return this.#reads.get(key, fromRedisError);
  }

  /**
   * Runs a script. With `isReplicated` it answers once a replica has the script's changes, and
   * rejects with STORE_UNAVAILABLE if no replica has them in time. `made` is told the answer as soon
   * as the script has run, also if no replica then confirms it.
   */
  async run<Key extends string, Arg extends string, Reply>(
    script: Script<Key, Arg, Reply>,
    call: ScriptCall<Key, Arg>,
    isReplicated = false,
    made?: (answer: Reply) => void,
  ): Promise<Reply> {
    const reply = await this.#retry(script, call, async (name, text, args) => {
      if (!isReplicated) return sendPatiently(connected(this.redis), name, [text, ...args]);
      const send = () =>
        this.#replicaWaits.send(String(args[1]), [name, text, ...args], (early) =>
          made?.(script.parse(early, call.args)),
        );
      return this.#aroundReplicaWait === undefined ? send() : this.#aroundReplicaWait(send);
    });
    const answer = script.parse(reply, call.args);
    if (!isReplicated) made?.(answer);
    return answer;
  }

  /** Runs a script that only reads, batched with other reads. */
  async runRead<Key extends string, Arg extends string, Reply>(
    script: Script<Key, Arg, Reply>,
    call: ScriptCall<Key, Arg>,
  ): Promise<Reply> {
    const reply = await this.#retry(script, call, (name, text, args) =>
      this.#reads.read(`${name}_ro`, [text, ...args]),
    );
    return script.parse(reply, call.args);
  }

  /**
   * Sends a script by its hash, or by its source if Redis does not know the hash and so did not run
   * it. Retries a script that was refused because its keys move between two nodes: it has changed
   * nothing.
   */
  async #retry<Key extends string, Arg extends string>(
    script: Script<Key, Arg, unknown>,
    call: ScriptCall<Key, Arg>,
    send: (
      name: "evalsha" | "eval",
      text: string,
      args: readonly [keyCount: number, ...Argument[]],
    ) => Promise<unknown>,
  ): Promise<unknown> {
    const args = argumentsOf(script, call, this.#now?.());
    const startMs = performance.now();
    let isKnown = true;
    for (;;) {
      try {
        return isKnown
          ? await send("evalsha", script.sha1, args)
          : await send("eval", script.source, args);
      } catch (error) {
        const mayGoOn = performance.now() - startMs < RESHARDING_BUDGET_MS;
        if (isNoScript(error) && isKnown) isKnown = false;
        else if (isNotRunYet(error) && mayGoOn) await sleep(RESHARDING_PAUSE_MS);
        else throw fromRedisError(error);
      }
    }
  }

  /** Opens a second connection. The caller closes it. */
  openAnother(): Redis | Cluster {
    if (this.#isClosed) throw storeUnavailable("it was closed");
    const another =
      "nodes" in this.redis ? this.redis.duplicate() : new ReconnectingRedis(this.redis.options);
    // The first connection reports failed attempts too.
    another.on("error", () => {});
    return another;
  }

  /** Closes the connections. Pending commands fail. */
  close(): void {
    this.#isClosed = true;
    this.redis.disconnect();
    this.#replicaWaits.close();
    this.hints.close();
  }

  /** Groups items for one script each: all, or in a cluster those whose keys share a hash tag. */
  together<T>(items: readonly T[], keyOf: (item: T) => string): readonly (readonly T[])[] {
    if (!this.redis.isCluster) return items.length > 0 ? [items] : [];
    return [...Map.groupBy(items, (item) => hashTag(keyOf(item))).values()];
  }
}

/** The hash tag of a key, or the key itself where it has none. */
function hashTag(key: string): string {
  return /\{.+?\}/.exec(key)?.[0] ?? key;
}
