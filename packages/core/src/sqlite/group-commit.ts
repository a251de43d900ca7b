import type { DatabaseSync, StatementSync } from "node:sqlite";
import { SessiondError, storeUnavailable } from "../errors.js";
import { SQLITE, sqliteCode, toStoreError } from "./sqlite-errors.js";

/** How many operations share a transaction at most, so that reads get their turn in between. */
const MAX_BATCH_SIZE = 1_000;

interface Operation {
  readonly run: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Runs the writes that are asked for in one turn of the event loop in one
 * transaction, so that they share one fsync. A write's promise resolves once it
 * is committed.
 *
 * An operation refuses by throwing a SessiondError before it has written
 * anything; the others are committed all the same. Any other error undoes the
 * batch, and each operation is then run in a transaction of its own, so that
 * only the one at fault fails.
 */
export class GroupCommit {
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  readonly #rollback: StatementSync;
  readonly #db: DatabaseSync;
  #queue: Operation[] = [];
  #flush: NodeJS.Immediate | undefined;

  constructor(db: DatabaseSync) {
    this.#db = db;
    // Taking the write lock first means that nothing read can be outdated by the time of writing.
    this.#begin = db.prepare("BEGIN IMMEDIATE");
    this.#commit = db.prepare("COMMIT");
    this.#rollback = db.prepare("ROLLBACK");
  }

  /** Runs `operation` in the next transaction. Rejects with what it throws, or STORE_UNAVAILABLE. */
  run<T>(operation: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ run: operation, resolve: resolve as (value: unknown) => void, reject });
      this.#flush ??= setImmediate(() => this.#flushBatch());
    });
  }

  /** Refuses what has not been committed yet. */
  close(): void {
    clearImmediate(this.#flush);
    for (const { reject } of this.#queue.splice(0)) reject(storeUnavailable("it was closed"));
  }

  #flushBatch(): void {
    const batch = this.#queue.splice(0, MAX_BATCH_SIZE);
    this.#flush = this.#queue.length > 0 ? setImmediate(() => this.#flushBatch()) : undefined;
    const failure = this.#transact(batch);
    if (failure === undefined) return;
    if (batch.length === 1 || isLockFailure(failure)) rejectAll(batch, failure);
    else this.#runAlone(batch);
  }

  #runAlone(batch: readonly Operation[]): void {
    for (const [i, operation] of batch.entries()) {
      const failure = this.#transact([operation]);
      if (isLockFailure(failure)) {
        // Each of the others would wait for the lock as long again.
        rejectAll(batch.slice(i), failure);
        return;
      }
      if (failure !== undefined) rejectAll([operation], failure);
    }
  }

  /** Runs a batch in one transaction and settles it; or undoes it and answers why. */
  #transact(batch: readonly Operation[]): unknown {
    const settle: (() => void)[] = [];
    try {
      this.#begin.run();
      for (const operation of batch) settle.push(runOperation(operation));
      this.#commit.run();
    } catch (error) {
      if (this.#db.isTransaction) this.#rollback.run();
      return error;
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

function rejectAll(batch: readonly Operation[], failure: unknown): void {
  for (const { reject } of batch) reject(toStoreError(failure));
}

/** Whether another process has the lock: nothing was tried, and trying again takes as long. */
function isLockFailure(error: unknown): boolean {
  return sqliteCode(error) === SQLITE.BUSY;
}
