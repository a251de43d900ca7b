import type { StatementSync } from "node:sqlite";
import {
  FENCE_RETENTION_MS,
  type HeldLock,
  type LockStore,
  type OccupiedLock,
} from "../locks/lock-store.js";
import { assertNamespace } from "../namespace.js";
import type { SqliteDatabase } from "./sqlite-database.js";
import { firstColumn, prepareAll } from "./statements.js";

/** How many forgotten locks an acquisition removes: more than it adds. */
const FORGET_BATCH_SIZE = 10;

const STATEMENTS = {
  find: `
    SELECT lock_id, fencing_token, expire_time_ms FROM locks
    WHERE namespace = :namespace AND name = :name`,
  /** Replaces an ended lease too. The token is never below the time: see `FENCE_RETENTION_MS`. */
  take: `
    INSERT INTO locks (namespace, name, lock_id, fencing_token, expire_time_ms, forget_time_ms)
    VALUES (:namespace, :name, :lockId, :now, :expireTimeMs, :forgetTimeMs)
    ON CONFLICT (namespace, name) DO UPDATE SET
      lock_id = :lockId,
      fencing_token = max(fencing_token + 1, :now),
      expire_time_ms = :expireTimeMs,
      forget_time_ms = :forgetTimeMs
    RETURNING fencing_token`,
  renew: `
    UPDATE locks SET expire_time_ms = :expireTimeMs, forget_time_ms = :forgetTimeMs
    WHERE namespace = :namespace AND name = :name AND lock_id = :lockId
      AND expire_time_ms > :now
    RETURNING fencing_token`,
  release: `
    UPDATE locks SET lock_id = NULL
    WHERE namespace = :namespace AND name = :name AND lock_id = :lockId
      AND expire_time_ms > :now`,
  forget: `
    DELETE FROM locks WHERE rowid IN (
      SELECT rowid FROM locks INDEXED BY locks_by_forgetting
      WHERE forget_time_ms <= :now ORDER BY forget_time_ms LIMIT ${FORGET_BATCH_SIZE}
    )`,
} as const;

interface Shared {
  readonly statements: Readonly<Record<keyof typeof STATEMENTS, StatementSync>>;
  readonly listeners: Set<(namespace: string, name: string) => void>;
}

type LockRow = readonly [lockId: string | null, fencingToken: number, expireTimeMs: number];

/**
 * Locks in an SQLite file. Only listeners in this process hear of a release. Waiters of other
 * processes find out by trying, so the store has no queue.
 */
export class SqliteLockStore implements LockStore {
  readonly #database: SqliteDatabase;
  readonly #namespace: string;
  readonly #shared: Shared;
  readonly #statements: Shared["statements"];

  /** A store in a database that others close. Its namespaces have `shared` in common. */
  constructor(
    database: SqliteDatabase,
    namespace = "",
    shared: Shared = { statements: prepareAll(database.db, STATEMENTS), listeners: new Set() },
  ) {
    assertNamespace(namespace);
    this.#database = database;
    this.#namespace = namespace;
    this.#shared = shared;
    this.#statements = shared.statements;
  }

  namespace(name: string): SqliteLockStore {
    return new SqliteLockStore(this.#database, name, this.#shared);
  }

  acquire(name: string, lockId: string, ttlMs: number): Promise<HeldLock | OccupiedLock> {
    return this.#database.writeMore((now) => {
      const [holder, fencingToken, expireTimeMs] = this.#find(name) ?? [null, 0, 0];
      if (holder !== null && now < expireTimeMs) {
        return holder === lockId
          ? { name, fencingToken, expireTimeMs, readTimeMs: now }
          : { occupied: true, expireTimeMs, readTimeMs: now };
      }
      this.#statements.forget.run({ now });
      return this.#lease("take", name, lockId, ttlMs, now) as HeldLock;
    });
  }

  renew(name: string, lockId: string, ttlMs: number): Promise<HeldLock | undefined> {
    return this.#database.write((now) => this.#lease("renew", name, lockId, ttlMs, now));
  }

  async release(name: string, lockId: string): Promise<boolean> {
    const values = { namespace: this.#namespace, name, lockId };
    const isReleased = await this.#database.writeEnd(
      (now) => this.#statements.release.run({ ...values, now }).changes === 1,
    );
    // Later, so that a listener that throws does not fail the release.
    if (isReleased) queueMicrotask(() => this.#tell(name));
    return isReleased;
  }

  async get(name: string, lockId?: string): Promise<HeldLock | undefined> {
    return this.#database.read((now) => {
      const [holder, fencingToken, expireTimeMs] = this.#find(name) ?? [null, 0, 0];
      if (holder === null || now >= expireTimeMs) return undefined;
      if (lockId !== undefined && holder !== lockId) return undefined;
      return { name, fencingToken, expireTimeMs, readTimeMs: now };
    });
  }

  onRelease(listener: (name: string) => void): () => void {
    // A new function, so that one listener may subscribe twice.
    const own = (namespace: string, name: string) => {
      if (namespace === this.#namespace) listener(name);
    };
    this.#shared.listeners.add(own);
    return () => this.#shared.listeners.delete(own);
  }

  #find(name: string): LockRow | undefined {
    return this.#statements.find.get({ namespace: this.#namespace, name }) as LockRow | undefined;
  }

  /** Begins or prolongs a lease. Undefined if there is no lease to prolong. */
  #lease(
    how: "take" | "renew",
    name: string,
    lockId: string,
    ttlMs: number,
    now: number,
  ): HeldLock | undefined {
    const expireTimeMs = now + ttlMs;
    const forgetTimeMs = expireTimeMs + FENCE_RETENTION_MS;
    const namespace = this.#namespace;
    const values = { namespace, name, lockId, now, expireTimeMs, forgetTimeMs };
    const row = this.#statements[how].get(values);
    return row && { name, fencingToken: Number(firstColumn(row)), expireTimeMs, readTimeMs: now };
  }

  #tell(name: string): void {
    for (const listener of this.#shared.listeners) listener(this.#namespace, name);
  }
}
