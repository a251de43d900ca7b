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
    if (this.#reads.length === 0) setImmediate(() => this.#flush());
    this.#reads.push({ name, args, resolve, reject: (error) => reject(toError(error)) });
    return promise;
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
