import type { DatabaseSync } from "node:sqlite";
import { SessiondError, storeFull, storeUnavailable } from "../errors.js";
import { GroupCommit } from "./group-commit.js";
import { openDatabase } from "./open-database.js";
import { SQLITE, sqliteCode, toStoreError } from "./sqlite-errors.js";

/** A query that waits for the end of its turn. */
interface Read {
  readonly run: (now: number) => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * An open database, for all stores that are in it: they share its clock, and
 * their writes of one turn of the event loop share a commit.
 */
export class SqliteDatabase {
  readonly db: DatabaseSync;
  readonly #now: () => number;
  readonly #writes: GroupCommit;
  #reads: Read[] = [];

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
   * Runs a query together with the others of this turn of the event loop, in one
   * transaction. Rejects as `read` throws.
   *
   * What it wins is less in the query than around it: the calls that came in one turn
   * then take each further step side by side, and find the code for it in the processor's
   * caches. One call after the other costs a server under load up to twice the time.
   */
  readTogether<T>(query: (now: number) => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#reads.length === 0) setImmediate(() => this.#runReads());
      this.#reads.push({ run: query, resolve: resolve as (value: unknown) => void, reject });
    });
  }

  #runReads(): void {
    const reads = this.#reads;
    this.#reads = [];
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

  /** Runs queries in one transaction, which spares each of them taking the file's lock. */
  inSnapshot<T>(queries: () => T): T {
    this.db.exec("BEGIN");
    try {
      return queries();
    } finally {
      if (this.db.isTransaction) this.db.exec("COMMIT");
    }
  }

  /** Makes a change; resolves once it is committed. Rejects with STORE_UNAVAILABLE. */
  async write<T>(change: (now: number) => T): Promise<T> {
    this.#assertOpen();
    return this.#writes.run(() => change(this.#now()));
  }

  /** A write that may need room; rejects with OVERLOADED where there is none. */
  async writeMore<T>(change: (now: number) => T): Promise<T> {
    try {
      return await this.write(change);
    } catch (error) {
      throw isFull(error) ? storeFull(error) : error;
    }
  }

  /** Closes the database; twice is fine. What is not committed yet is refused. */
  close(): void {
    this.#writes.close();
    // The last one to close the file brings the WAL home and removes it.
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

/** Whether a write failed because the disk, or the file's size limit, is used up. */
function isFull(error: unknown): boolean {
  return error instanceof SessiondError && sqliteCode(error.cause) === SQLITE.FULL;
}
