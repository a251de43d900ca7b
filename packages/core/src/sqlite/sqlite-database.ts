import type { DatabaseSync, StatementSync } from "node:sqlite";
import { SessiondError, storeFull, storeUnavailable } from "../errors.js";
import type { DiskReserve } from "./disk-reserve.js";
import { GroupCommit } from "./group-commit.js";
import { IN_MEMORY, type OpenDatabase, openDatabase } from "./open-database.js";
import type { OpenFiles } from "./open-files.js";
import { openReadOnly } from "./open-read-only.js";
import { isFull, toStoreError } from "./sqlite-errors.js";
import { firstColumn, prepare } from "./statements.js";
import { type Clock, StoreClock } from "./store-clock.js";

/** The bound of one read transaction, so that other calls get their turn in between. */
const MAX_READS_TOGETHER = 500;

/** For how long reads believe that the files are in their places, and know the other servers' time. */
const FRESH_MS = 100;

/** How often we look whether the reserve has to be rebuilt. */
const REBUILD_INTERVAL_MS = 1_000;

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
  readonly #clock: Clock;
  readonly #files: OpenFiles | undefined;
  readonly #reserve: DiskReserve | undefined;
  readonly #writes: GroupCommit;
  readonly #readTime: StatementSync;
  readonly #writeTime: StatementSync;
  #rebuilding: NodeJS.Timeout | undefined;
  /** The latest time that a change of this transaction was made with. */
  #changeTimeMs = 0;
  #freshUntilMs = 0;
  #reads: Read[] = [];
  #areReadsDue = false;

  private constructor({ db, files, reserve }: OpenDatabase, clock: Clock) {
    this.db = db;
    this.#clock = clock;
    this.#files = files;
    this.#reserve = reserve;
    this.#readTime = prepare(db, "SELECT time_ms FROM clock");
    this.#writeTime = prepare(db, "UPDATE clock SET time_ms = ?1 WHERE time_ms < ?1");
    this.#writes = new GroupCommit(db, {
      begun: () => this.#begun(),
      committing: () => void this.#writeTime.run(this.#changeTimeMs),
      committed: () => this.#files?.assertInPlace(),
      makeRoom: (tries) => this.#makeRoom(tries),
    });
    this.#rebuildLater();
  }

  /**
   * Opens a file as `openDatabase` does, or as `openReadOnly`. The clock is a `StoreClock` by
   * default.
   */
  static async open(options: {
    readonly path: string;
    readonly now?: (() => number) | undefined;
    readonly readOnly?: boolean | undefined;
  }): Promise<SqliteDatabase> {
    const { path, now, readOnly = false } = options;
    const clock = now === undefined ? new StoreClock() : { now, advanceTo() {} };
    const opened = readOnly && path !== IN_MEMORY ? openReadOnly(path) : await openDatabase(path);
    return new SqliteDatabase(opened, clock);
  }

  /** Runs a query. Throws STORE_UNAVAILABLE, also once the database is closed. */
  read<T>(query: (now: number) => T): T {
    this.#assertOpen();
    try {
      this.#refresh();
      return query(this.#clock.now());
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

  /**
   * Makes a change and resolves once it is committed. Rejects with STORE_UNAVAILABLE, and with
   * OVERLOADED if the disk is full.
   */
  async write<T>(change: (now: number) => T): Promise<T> {
    try {
      return await this.#commit(change, false);
    } catch (error) {
      throw error instanceof SessiondError && isFull(error.cause) ? storeFull(error) : error;
    }
  }

  /** A write that takes more room. On a full disk it must not take what the reserve gave up. */
  writeMore<T>(change: (now: number) => T): Promise<T> {
    return this.write((now) => {
      if (this.isReserveInUse) throw storeFull();
      return change(now);
    });
  }

  /**
   * A write that ends or removes something. On a full disk it takes room from the reserve. Rejects
   * with STORE_UNAVAILABLE.
   */
  writeEnd<T>(change: (now: number) => T): Promise<T> {
    return this.#commit(change, true);
  }

  /** As `DiskReserve.isInUse` says. */
  get isReserveInUse(): boolean {
    return this.#reserve?.isInUse ?? false;
  }

  /** Throws STORE_UNAVAILABLE if it was closed, or its files were deleted or replaced. */
  check(): void {
    this.#assertOpen();
    this.#files?.assertInPlace();
    this.#reserve?.look();
  }

  /** Closes the database, and rejects pending calls. May be called twice. */
  close(): void {
    clearTimeout(this.#rebuilding);
    this.#writes.close();
    // The last connection to close merges the WAL into the file and removes it.
    if (!this.db.isOpen) return;
    this.db.close();
    void this.#reserve?.close();
  }

  async #commit<T>(change: (now: number) => T, mayUseReserve: boolean): Promise<T> {
    this.#assertOpen();
    // Queue the reads first, also later reads of this turn: a commit blocks this thread.
    this.#runReadsSoon();
    return this.#writes.run(() => {
      const now = this.#clock.now();
      this.#changeTimeMs = Math.max(this.#changeTimeMs, now);
      return change(now);
    }, mayUseReserve);
  }

  #begun(): void {
    this.#reserve?.look();
    this.#learnTime();
  }

  #makeRoom(tries: number): boolean {
    if (!this.#reserve?.giveUp(tries)) return false;
    try {
      // Moves the WAL into the file, which may have to grow, so that the WAL need not.
      this.db.exec("PRAGMA wal_checkpoint(PASSIVE)");
    } catch {
      // There was too little room for all of it. The next try says whether it was enough.
    }
    return true;
  }

  #rebuildLater(): void {
    this.#rebuilding = setTimeout(async () => {
      await this.#reserve?.rebuild();
      if (this.db.isOpen) this.#rebuildLater();
    }, REBUILD_INTERVAL_MS).unref();
  }

  /** For reads: what every write does, but now and then. */
  #refresh(): void {
    const nowMs = performance.now();
    if (nowMs < this.#freshUntilMs) return;
    this.#files?.assertInPlace();
    this.#learnTime();
    this.#freshUntilMs = nowMs + FRESH_MS;
  }

  /** Another server's clock may be ahead of ours. */
  #learnTime(): void {
    this.#clock.advanceTo(Number(firstColumn(this.#readTime.get())));
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
