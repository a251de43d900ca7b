/** At most this many reads go out together, so that none waits for a very long answer. */
const MAX_BATCH_SIZE = 500;

interface Read<T> {
  readonly key: string;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

/** Sends reads and settles each by itself. Must not reject. */
export type SendReads<T> = (reads: readonly Read<T>[]) => Promise<void>;

/**
 * Collects the reads of one turn of the event loop and sends them together: a
 * write to the socket costs as much as all else about a read, and under load
 * many reads come in one turn. ioredis can do this by itself
 * (`enableAutoPipelining`), but not in a cluster, where it loses commands
 * (ioredis #2075).
 */
export class ReadBatch<T> {
  readonly #send: SendReads<T>;
  #reads: Read<T>[] = [];

  constructor(send: SendReads<T>) {
    this.#send = send;
  }

  /** Reads a key with the next batch. */
  read(key: string): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#reads.length === 0) setImmediate(() => this.#flush());
      this.#reads.push({ key, resolve, reject });
    });
  }

  #flush(): void {
    const reads = this.#reads;
    this.#reads = [];
    for (let i = 0; i < reads.length; i += MAX_BATCH_SIZE) {
      void this.#send(reads.slice(i, i + MAX_BATCH_SIZE));
    }
  }
}
