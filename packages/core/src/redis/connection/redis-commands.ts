import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster, Command as IoredisCommand, Redis } from "ioredis";
import { storeUnavailable } from "../../errors.js";
import type { Script } from "../sessions/scripts.js";
import { connected } from "./connection-state.js";
import { fromRedisError, isNoScript, isNotRunYet } from "./redis-errors.js";
import { ReplicatedScripts } from "./replicated-scripts.js";

/** One argument of a command. */
export type Argument = string | number | Buffer;
/** A command on one key. */
export interface Command {
  readonly key: string;
  /** The name of the command and all its arguments, the key among them. */
  readonly command: readonly [name: string, ...args: Argument[]];
}
/** What became of a command in a pipeline. */
export type Settled = readonly [error: Error | null, reply: unknown];

/** How long a script is tried again while a resharding moves its keys. */
const RESHARDING_BUDGET_MS = 1_000;
const RESHARDING_PAUSE_MS = 50;
/**
 * Sends commands and scripts to Redis: in batches, around what resharding does to
 * scripts and, where asked, not before a replica has what was changed. Nothing that
 * may have run is sent a second time. Every failure is one of ours.
 */
export class RedisCommands {
  readonly redis: Redis | Cluster;
  readonly #replicated = new ReplicatedScripts(() => this.openAnother());
  #isClosed = false;

  constructor(redis: Redis | Cluster) {
    this.redis = redis;
  }

  async call<T>(send: (redis: Redis | Cluster) => Promise<T>): Promise<T> {
    try {
      return await send(connected(this.redis));
    } catch (error) {
      throw fromRedisError(error);
    }
  }

  /** Sends commands that read. Rejects where one of them fails. */
  async readMany(commands: readonly Command[]): Promise<readonly unknown[]> {
    const settled = await this.settleMany(commands);
    return settled.map(([error, reply]) => {
      if (error) throw fromRedisError(error);
      return reply;
    });
  }

  /** Sends commands that read, in as few round trips as the topology allows. Does not reject. */
  async settleMany(commands: readonly Command[]): Promise<readonly Settled[]> {
    const settled: Settled[] = [];
    await Promise.all(
      this.together([...commands.keys()], (i) => commands[i]?.key ?? "").map(async (indexes) => {
        try {
          const results = await this.#sendPipeline(indexes.map((i) => commands[i] as Command));
          for (const [n, i] of indexes.entries()) settled[i] = results[n] ?? NOT_SENT;
        } catch (error) {
          for (const i of indexes) settled[i] = [error as Error, undefined];
        }
      }),
    );
    return settled;
  }

  /**
   * Sends commands that read one key each, in one write where there is one node. What becomes of
   * each is told by its own promise. Throws where there is no connection.
   */
  sendTogether(commands: readonly IoredisCommand[]): void {
    const redis = connected(this.redis);
    // Before there is a connection there is no stream, whatever the type says.
    const stream: Redis["stream"] | undefined = "nodes" in redis ? undefined : redis.stream;
    stream?.cork();
    try {
      for (const command of commands) redis.sendCommand(command);
    } finally {
      stream?.uncork();
    }
  }

  async #sendPipeline(commands: readonly Command[]): Promise<readonly Settled[]> {
    const redis = connected(this.redis);
    const pipeline = redis.pipeline();
    for (const { command } of commands) pipeline.callBuffer(...command);
    // Of keys on their way to another node some are there and some are not. ioredis
    // would send the whole pipeline there, and take what has not arrived for
    // missing; but it never does so with a command in it that does not read.
    if (redis.isCluster) pipeline.ping();
    const results = (await pipeline.exec()) ?? [];
    return Promise.all(
      commands.map(async ({ command }, n) => {
        const [error = null, reply] = results[n] ?? NOT_SENT;
        if (!isNotRunYet(error)) return [error, reply] as const;
        return settle(redis.callBuffer(...command));
      }),
    );
  }

  /** Runs a script. */
  eval(script: Script, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    const run = (name: string, text: string) =>
      connected(this.redis).callBuffer(name, text, keys.length, ...keys, ...args);
    return retryWhileResharding(async () => {
      try {
        return await run("evalsha", script.sha1);
      } catch (error) {
        // Redis forgot the script, or never had it; it did not run.
        if (!isNoScript(error)) throw error;
        return run("eval", script.source);
      }
    });
  }

  /**
   * Runs a script that only reads many times, in as few round trips as the topology allows.
   * The keys of a run must be `together`.
   */
  async evalReads(
    script: Script,
    reads: readonly { readonly keys: readonly string[]; readonly args: readonly Argument[] }[],
  ): Promise<readonly unknown[]> {
    const send = (name: string, text: string, some: typeof reads) =>
      this.settleMany(
        some.map(({ keys, args }) => ({
          key: keys[0] ?? "",
          command: [name, text, keys.length, ...keys, ...args],
        })),
      );
    const settled = [...(await send("evalsha_ro", script.sha1, reads))];
    const missing = [...settled.keys()].filter((i) => isNoScript(settled[i]?.[0]));
    // A read-only EVAL teaches Redis the script; in a cluster each node learns it.
    const again = await send(
      "eval_ro",
      script.source,
      missing.map((i) => reads[i] as (typeof reads)[number]),
    );
    for (const [n, i] of missing.entries()) settled[i] = again[n] ?? NOT_SENT;
    return settled.map(([error, reply]) => {
      if (error) throw fromRedisError(error);
      return reply;
    });
  }

  /** Runs a script as `ReplicatedScripts` does. */
  evalReplicated(
    script: Script,
    keys: readonly string[],
    args: readonly Argument[],
  ): Promise<unknown> {
    return this.#replicated.run(script, keys, args);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Opens a connection like the first, which the caller closes. */
  openAnother(): Redis | Cluster {
    if (this.#isClosed) throw storeUnavailable("it was closed");
    const another = "nodes" in this.redis ? this.redis.duplicate() : this.redis.duplicate();
    // Failed attempts to connect are reported by the first connection as well.
    another.on("error", () => {});
    return another;
  }

  /** Closes the connections; what is under way fails. */
  close(): void {
    this.#isClosed = true;
    this.redis.disconnect();
    this.#replicated.close();
  }

  /**
   * Which keys may go together, into one pipeline or one script: all of them, or in a
   * cluster those that share a hash tag, since others may be on another node.
   */
  together<T>(items: readonly T[], keyOf: (item: T) => string): readonly (readonly T[])[] {
    if (!this.redis.isCluster) return items.length > 0 ? [items] : [];
    const groups = new Map<string, T[]>();
    for (const item of items) {
      const tag = hashTag(keyOf(item));
      const group = groups.get(tag);
      if (group) group.push(item);
      else groups.set(tag, [item]);
    }
    return [...groups.values()];
  }
}

async function settle(reply: Promise<unknown>): Promise<Settled> {
  try {
    return [null, await reply];
  } catch (error) {
    return [error as Error, undefined];
  }
}

/** The hash tag of a key, or the key itself where it has none. */
function hashTag(key: string): string {
  return /\{.+?\}/.exec(key)?.[0] ?? key;
}

/**
 * Tries again for a while what was refused because its keys were between two
 * nodes: some have moved already, others not. Such a script has changed nothing.
 */
async function retryWhileResharding<T>(send: () => Promise<T>): Promise<T> {
  const startMs = performance.now();
  for (;;) {
    try {
      return await send();
    } catch (error) {
      const isOver = performance.now() - startMs > RESHARDING_BUDGET_MS;
      if (isOver || !isNotRunYet(error)) throw fromRedisError(error);
      await sleep(RESHARDING_PAUSE_MS);
    }
  }
}

const NOT_SENT: Settled = [new Error("the command was not sent"), undefined];
