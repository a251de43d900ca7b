import { Command } from "ioredis";
import { COMMAND_TIMEOUT_MS } from "./connect-redis.js";
import type { RedisCommands } from "./redis-commands.js";
import { fromRedisError } from "./redis-errors.js";

/** At most this many reads go out together, so that none waits for a very long answer. */
const MAX_BATCH_SIZE = 500;

interface Read {
  readonly key: string;
  readonly resolve: (reply: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A command without a timer of its own: making one for each costs as much as a fifth of the read. */
class BatchedCommand extends Command {
  override setTimeout(): void {}
}

/**
 * Collects the reads of one turn of the event loop and sends them together: a
 * write to the socket costs as much as all else about a read, and under load
 * many reads come in one turn. ioredis can do this by itself
 * (`enableAutoPipelining`), but not in a cluster, where it loses commands
 * (ioredis #2075). Its pipelines cost half as much again as the commands in them.
 */
export class ReadBatch<T> {
  readonly #commands: RedisCommands;
  readonly #name: string;
  readonly #args: readonly string[];
  #reads: Read[] = [];

  /** Each read is the command `name`, of the key and `args`. */
  constructor(commands: RedisCommands, name: string, args: readonly string[]) {
    this.#commands = commands;
    this.#name = name;
    this.#args = args;
  }

  /** Reads a key with the next batch. */
  read(key: string): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    if (this.#reads.length === 0) setImmediate(() => this.#flush());
    this.#reads.push({ key, resolve, reject });
    return promise as Promise<T>;
  }

  #flush(): void {
    const reads = this.#reads;
    this.#reads = [];
    for (let i = 0; i < reads.length; i += MAX_BATCH_SIZE) {
      this.#send(reads.slice(i, i + MAX_BATCH_SIZE));
    }
  }

  #send(reads: readonly Read[]): void {
    const fail = (error: unknown) => {
      for (const { reject } of reads) reject(fromRedisError(error));
    };
    const timer = setTimeout(() => fail(new Error("Command timed out")), COMMAND_TIMEOUT_MS);
    let pending = reads.length;
    const settled = () => {
      if (--pending === 0) clearTimeout(timer);
    };
    try {
      this.#commands.sendTogether(
        reads.map(({ key, resolve, reject }) => {
          const args = [key, ...this.#args];
          const command = new BatchedCommand(this.#name, args, { replyEncoding: null });
          command.promise.then(resolve, (error) => reject(fromRedisError(error))).then(settled);
          return command;
        }),
      );
    } catch (error) {
      clearTimeout(timer);
      fail(error);
    }
  }
}
