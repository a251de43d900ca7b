import { type Cluster, Command, type Redis } from "ioredis";
import { COMMAND_TIMEOUT_MS } from "./connect-redis.js";
import { connected } from "./connection-state.js";
import { afterSilence } from "./patient-command.js";
import type { Argument } from "./script.js";

/** The bound of one batch, so that no read waits for a very long answer. */
const MAX_BATCH_SIZE = 500;

interface Read {
  readonly name: string;
  readonly args: Argument[];
  readonly resolve: (reply: unknown) => void;
  readonly reject: (error: unknown) => void;
}

interface Get {
  readonly key: Buffer;
  readonly resolve: (value: Buffer | null) => void;
  readonly reject: (error: unknown) => void;
}

/** A command without its own timer. A timer for each would cost a fifth of the read. */
class BatchedCommand extends Command {
  override setTimeout(): void {}
}

/**
 * Sends the reads of one turn of the event loop together, because a write to the socket costs as
 * much as the rest of a read. The `enableAutoPipelining` of ioredis loses commands in a cluster
 * (ioredis #2075), and its pipelines cost half as much again as their commands.
 */
export class ReadBatch {
  readonly #redis: Redis | Cluster;
  #reads: Read[] = [];
  #gets: Get[] = [];

  constructor(redis: Redis | Cluster) {
    this.#redis = redis;
  }

  /** Sends a reading command with the next batch. Rejects with what `toError` makes of ioredis's error. */
  read(
    name: string,
    args: Argument[],
    toError: (error: unknown) => unknown = (error) => error,
  ): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#flushSoon();
    this.#reads.push({ name, args, resolve, reject: (error) => reject(toError(error)) });
    return promise;
  }

  /**
   * Reads a string with the next batch. Null if there is none, or something else than a string.
   * One MGET reads all keys of a batch. A cluster needs one MGET for each key, because the keys may
   * be in different slots.
   */
  get(key: Buffer, toError: (error: unknown) => unknown): Promise<Buffer | null> {
    return new Promise((resolve, reject) => {
      this.#flushSoon();
      this.#gets.push({ key, resolve, reject: (error) => reject(toError(error)) });
    });
  }

  #flushSoon(): void {
    if (this.#reads.length + this.#gets.length === 0) setImmediate(() => this.#flush());
  }

  #flush(): void {
    const perCommand = this.#redis.isCluster ? 1 : MAX_BATCH_SIZE;
    for (const gets of inParts(this.#gets, MAX_BATCH_SIZE)) {
      this.#send(inParts(gets, perCommand).map(inOneCommand));
    }
    for (const reads of inParts(this.#reads, MAX_BATCH_SIZE)) this.#send(reads);
    this.#reads = [];
    this.#gets = [];
  }

  #send(reads: readonly Read[]): void {
    const fail = (error: unknown) => {
      for (const { reject } of reads) reject(error);
    };
    const cancel = afterSilence(COMMAND_TIMEOUT_MS, () => fail(new Error("Command timed out")));
    let pending = reads.length;
    const settled = () => {
      if (--pending === 0) cancel();
    };
    try {
      const redis = connected(this.#redis);
      // Despite its type, the stream is undefined before there is a connection.
      const stream: Redis["stream"] | undefined = "nodes" in redis ? undefined : redis.stream;
      stream?.cork();
      try {
        for (const { name, args, resolve, reject } of reads) {
          const command = new BatchedCommand(name, args, { replyEncoding: null });
          command.promise.then(resolve, reject).then(settled);
          redis.sendCommand(command);
        }
      } finally {
        stream?.uncork();
      }
    } catch (error) {
      cancel();
      fail(error);
    }
  }
}

/** The command that gets several strings. */
function inOneCommand(gets: readonly Get[]): Read {
  return {
    name: "mget",
    args: gets.map(({ key }) => key),
    resolve: (reply) => {
      const values = reply as readonly (Buffer | null)[];
      for (const [n, { resolve }] of gets.entries()) resolve(values[n] ?? null);
    },
    reject: (error) => {
      for (const { reject } of gets) reject(error);
    },
  };
}

function inParts<T>(items: readonly T[], most: number): (readonly T[])[] {
  const parts: (readonly T[])[] = [];
  for (let i = 0; i < items.length; i += most) parts.push(items.slice(i, i + most));
  return parts;
}
