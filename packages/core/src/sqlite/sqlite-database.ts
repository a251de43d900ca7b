import type { DatabaseSync } from "node:sqlite";
import { SessiondError, storeFull, storeUnavailable } from "../errors.js";
import { GroupCommit } from "./group-commit.js";
import { openDatabase } from "./open-database.js";
import { SQLITE, sqliteCode, toStoreError } from "./sqlite-errors.js";

/** The bound of one read transaction, so that other calls get their turn in between. */
const MAX_READS_TOGETHER = 500;

interface Read {
  readonly run: (now: number) => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * An open database for all its stores. They share its clock. Their writes of one turn of the event
 * loop share a commit, and batched reads share a snapshot.
 */
export class SqliteDatabase {
  readonly db: DatabaseSync;
  readonly #now: () => number;
  readonly #writes: GroupCommit;
  #reads: Read[] = [];
  #areReadsDue = false;

  private constructor(db: DatabaseSync, now: () => number) {
    this.db = db;
    this.#now = now;
    this.#writes = new GroupCommit(db);
  }

  /** Opens a file as `openDatabase` does. The clock is `Date.now` by default. */
  static async open(options: {
    readonly path: string;
    readonly now?: (() => number) | undefined;
  }): Promise<SqliteDatabase> {
    return new SqliteDatabase(await openDatabase(options.path), options.now ?? Date.now);
  }

  /** Runs a query. Throws STORE_UNAVAILABLE, also once the database is closed. */
  read<T>(query: (now: number) => T): T {
    this.#assertOpen();
    try {
      return query(this.#now());
    } catch (error) {
      throw toStoreError(error);
    }
  }

  /**
   * Runs a query together with others of this turn of the event loop, in one transaction, before
   * the writes. Rejects with the errors of `read`. For hot reads: under load it costs less than one
   * query after another.
   */
  readTogether<T>(query: (now: number) => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#reads.push({ run: query, resolve: resolve as (value: unknown) => void, reject });
      this.#runReadsSoon();
    });
  }

  #runReadsSoon(): void {
    if (this.#areReadsDue) return;
    this.#areReadsDue = true;
    setImmediate(() => {
      this.#areReadsDue = false;
      this.#runReads();
    });
  }

  #runReads(): void {
    const reads = this.#reads.splice(0, MAX_READS_TOGETHER);
    if (reads.length === 0) return;
    if (this.#reads.length > 0) this.#runReadsSoon();
    try {
      this.read((now) =>
        this.inSnapshot(() => {
          for (const read of reads) settle(read, now);
        }),
      );
    } catch (error) {
      for (const { reject } of reads) reject(error);
    }
  }

  /** Runs queries in one transaction, so that they take the file's lock once. */
  inSnapshot<T>(queries: () => T): T {
    this.db.exec("BEGIN");
    try {
      return queries();
    } finally {
      if (this.db.isTransaction) this.db.exec("COMMIT");
    }
  }

  /** Makes a change and resolves once it is committed. Rejects with STORE_UNAVAILABLE. */
  async write<T>(change: (now: number) => T): Promise<T> {
    this.#assertOpen();
    // Queue the reads first, also later reads of this turn: a commit blocks this thread.
    this.#runReadsSoon();
    return this.#writes.run(() => change(this.#now()));
  }

  /** A write that may fail because the disk is full. Then it rejects with OVERLOADED. */
  async writeMore<T>(change: (now: number) => T): Promise<T> {
    try {
      return await this.write(change);
    } catch (error) {
      throw isFull(error) ? storeFull(error) : error;
    }
  }

  /** Closes the database, and rejects pending calls. May be called twice. */
  close(): void {
    this.#writes.close();
    // The last connection to close merges the WAL into the file and removes it.
    if (this.db.isOpen) this.db.close();
  }

  #assertOpen(): void {
    if (!this.db.isOpen) throw storeUnavailable("it was closed");
  }
}

function settle({ run, resolve, reject }: Read, now: number): void {
  try {
    resolve(run(now));
  } catch (error) {
    reject(toStoreError(error));
  }
}

/** Whether a write failed because the disk is full or the file has reached its size limit. */
function isFull(error: unknown): boolean {
  return error instanceof SessiondError && sqliteCode(error.cause) === SQLITE.FULL;
}
