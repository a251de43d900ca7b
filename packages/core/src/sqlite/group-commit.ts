import type { DatabaseSync, StatementSync } from "node:sqlite";
import { SessiondError, storeUnavailable } from "../errors.js";
import { isFull, SQLITE, sqliteCode, toStoreError } from "./sqlite-errors.js";

/** The bound of one transaction, so that reads get their turn in between. */
const MAX_BATCH_SIZE = 1_000;
/** The bound of a transaction that uses the reserve, so that it needs little of it: about 1 MB. */
const MAX_WITH_RESERVE = 50;
/**
 * How long a write waits for other processes, counted from its call. Must answer within two
 * seconds.
 */
const LOCK_WAIT_MS = 1_500;
/**
 * The pause between tries. Each try blocks this thread for SQLite's timeout, so reads run
 * meanwhile.
 */
const LOCK_PAUSE_MS = 30;

interface Operation {
  /** No further try after this time, on the monotonic clock. */
  readonly latestMs: number;
  readonly mayUseReserve: boolean;
  readonly run: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** What a database does around its transactions. */
export interface TransactionHooks {
  /** Runs in a new transaction, before its operations. */
  begun(): void;
  /** Runs in the transaction, after its operations. */
  committing(): void;
  /** Runs before anybody is told. If it throws, every operation of the batch gets the error. */
  committed(): void;
  /**
   * Takes room from the reserve for an operation that may use it, more with each of several tries
   * from 0 on. Answers whether there was any left.
   */
  makeRoom(tries: number): boolean;
}

const NO_HOOKS: TransactionHooks = {
  begun() {},
  committing() {},
  committed() {},
  makeRoom: () => false,
};

/**
 * Runs the writes of one turn of the event loop in one transaction, so that they share one fsync. A
 * write's promise resolves once it is committed.
 *
 * An operation may throw a SessiondError before it has written anything. The others are still
 * committed. Any other error undoes the batch, and then each operation runs in its own transaction,
 * so that only the faulty operation fails.
 */
export class GroupCommit {
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  readonly #rollback: StatementSync;
  readonly #db: DatabaseSync;
  readonly #hooks: TransactionHooks;
  #queue: Operation[] = [];
  #cancelFlush: (() => void) | undefined;

  constructor(db: DatabaseSync, hooks: TransactionHooks = NO_HOOKS) {
    this.#db = db;
    this.#hooks = hooks;
    // Take the write lock first, so that no read is outdated at the time of the write.
    this.#begin = db.prepare("BEGIN IMMEDIATE");
    this.#commit = db.prepare("COMMIT");
    this.#rollback = db.prepare("ROLLBACK");
  }

  /**
   * Runs `operation` in the next transaction. Rejects with its error, or with STORE_UNAVAILABLE,
   * also if another process holds the lock for too long. An operation that may use the reserve is
   * tried again with more room if the disk is full.
   */
  run<T>(operation: () => T, mayUseReserve = false): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const latestMs = performance.now() + LOCK_WAIT_MS;
      const settle = { resolve: resolve as (value: unknown) => void, reject };
      this.#queue.push({ latestMs, mayUseReserve, run: operation, ...settle });
      if (this.#cancelFlush === undefined) this.#flushSoon();
    });
  }

  /** Rejects all operations that are not committed yet. */
  close(): void {
    this.#cancelFlush?.();
    for (const { reject } of this.#queue.splice(0)) reject(storeUnavailable("it was closed"));
  }

  #flushSoon(): void {
    const flush = setImmediate(() => this.#flushBatch());
    this.#cancelFlush = () => clearImmediate(flush);
  }

  #flushLater(): void {
    const flush = setTimeout(() => this.#flushBatch(), LOCK_PAUSE_MS);
    this.#cancelFlush = () => clearTimeout(flush);
  }

  #flushBatch(): void {
    const batch = this.#queue.splice(0, MAX_BATCH_SIZE);
    const isLocked = !this.#settle(batch);
    this.#cancelFlush = undefined;
    if (this.#queue.length === 0) return;
    if (isLocked) this.#flushLater();
    else this.#flushSoon();
  }

  /** Answers whether it got the lock. Otherwise the rest of the batch is in the queue again. */
  #settle(batch: readonly Operation[]): boolean {
    const failure = this.#transactWithRoom(batch);
    if (failure === undefined) return true;
    if (isLockFailure(failure)) return this.#putBack(batch, failure);
    const urgent = isFull(failure) ? batch.filter(mayUseReserve).slice(0, MAX_WITH_RESERVE) : [];
    if (urgent.length > 0 && urgent.length < batch.length) {
      this.#queue.unshift(...batch.filter((operation) => !urgent.includes(operation)));
      return this.#settle(urgent);
    }
    if (batch.length > 1) return this.#runAlone(batch);
    rejectAll(batch, failure);
    return true;
  }

  #runAlone(batch: readonly Operation[]): boolean {
    for (const [i, operation] of batch.entries()) {
      const failure = this.#transactWithRoom([operation]);
      if (isLockFailure(failure)) return this.#putBack(batch.slice(i), failure);
      if (failure !== undefined) rejectAll([operation], failure);
    }
    return true;
  }

  /** As `#transact`. If the disk is full, a small batch that may use the reserve is tried again. */
  #transactWithRoom(batch: readonly Operation[]): unknown {
    const hasRight = batch.length <= MAX_WITH_RESERVE && batch.every(mayUseReserve);
    for (let tries = 0; ; tries++) {
      const failure = this.#transact(batch);
      if (!hasRight || !isFull(failure) || !this.#hooks.makeRoom(tries)) return failure;
    }
  }

  /** Puts operations back at the front of the queue, and rejects all that have waited too long. */
  #putBack(batch: readonly Operation[], failure: unknown): false {
    this.#queue.unshift(...batch);
    const now = performance.now();
    const patient = this.#queue.findIndex(({ latestMs }) => now < latestMs);
    rejectAll(this.#queue.splice(0, patient === -1 ? this.#queue.length : patient), failure);
    return false;
  }

  /** Runs a batch in one transaction and settles it, or undoes it and answers the error. */
  #transact(batch: readonly Operation[]): unknown {
    const settle: (() => void)[] = [];
    try {
      this.#begin.run();
      this.#hooks.begun();
      for (const operation of batch) settle.push(runOperation(operation));
      this.#hooks.committing();
      this.#commit.run();
    } catch (error) {
      if (this.#db.isTransaction) this.#rollback.run();
      return error;
    }
    try {
      this.#hooks.committed();
    } catch (error) {
      rejectAll(batch, error);
      return undefined;
    }
    for (const settleOne of settle) settleOne();
    return undefined;
  }
}

/** Runs an operation and answers how to settle its promise once the batch is committed. */
function runOperation({ run, resolve, reject }: Operation): () => void {
  try {
    const value = run();
    return () => resolve(value);
  } catch (error) {
    if (!(error instanceof SessiondError)) throw error;
    return () => reject(error);
  }
}

function mayUseReserve(operation: Operation): boolean {
  return operation.mayUseReserve;
}

function rejectAll(batch: readonly Operation[], failure: unknown): void {
  for (const { reject } of batch) reject(toStoreError(failure));
}

/** Whether another process has the lock. Nothing was changed. */
function isLockFailure(error: unknown): boolean {
  return sqliteCode(error) === SQLITE.BUSY;
}
