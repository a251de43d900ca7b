import type { StatementSync } from "node:sqlite";
import { tooManyFences } from "../errors.js";
import { assertNamespace } from "../namespace.js";
import type { Partition } from "../sessions/session-id.js";
import {
  type Creation,
  type Fence,
  type ListPage,
  type ListQuery,
  MAX_FENCES_PER_SESSION,
  type NewSession,
  type OnceOnly,
  type RepeatedCreation,
  type RepeatedRotation,
  type SessionKey,
  type SessionLimit,
  type SessionStore,
  type StoredFacts,
  type StoredSession,
  type SweepResult,
} from "../sessions/session-store.js";
import { type Author, NOBODY } from "../watch/author.js";
import { SessionCreation } from "./session-creation.js";
import { SqliteDatabase } from "./sqlite-database.js";
import { SqliteEventLog } from "./sqlite-event-log.js";
import {
  firstColumn,
  listStatement,
  prepare,
  prepareStatements,
  type Statements,
} from "./statements.js";
import { findSession, toStoredFacts, toStoredSession } from "./stored-session.js";
import { TokenRotation } from "./token-rotation.js";

/** Options of `SqliteSessionStore`. */
export interface SqliteSessionStoreOptions {
  /** The database file, or `:memory:` for a database that ends with the store. */
  readonly path: string;
  /** How long ended sessions and events stay. 10 minutes by default: longer than any call. */
  readonly retentionMs?: number;
  /**
   * The clock. By default the wall clock, but never backwards, for all servers that share the file.
   * Do not set a clock of your own back: an expired session would be active again.
   */
  readonly now?: () => number;
  /** Opens an existing file without changing it or its folder. Every write fails. */
  readonly readOnly?: boolean;
}

const DEFAULT_RETENTION_MS = 10 * 60_000;

const RESERVE_IN_USE =
  "the disk is full and the reserve is in use: sessions and locks can be ended, not created";

/**
 * Sessions in an SQLite file. Calls block the event loop: microseconds for a read, an fsync for the
 * writes of one turn. Servers on one machine may share the file.
 */
export class SqliteSessionStore implements SessionStore {
  readonly events: SqliteEventLog;
  readonly #database: SqliteDatabase;
  readonly #retentionMs: number;
  /** Where this view's rows are, for statements by name. */
  readonly #in: { readonly namespace: string };
  readonly #author: Author;
  readonly #statements: Statements;
  readonly #creation: SessionCreation;
  readonly #tokens: TokenRotation;
  /** The statements of lists by their text, one for each kind of query. */
  readonly #listStatements: Map<string, StatementSync>;

  /**
   * The store uses the database's clock and closes the database. With `whole` it is another view of
   * that store.
   */
  constructor(
    database: SqliteDatabase,
    options: Pick<SqliteSessionStoreOptions, "retentionMs"> = {},
    namespace = "",
    author: Author = NOBODY,
    whole?: SqliteSessionStore,
  ) {
    const { db } = database;
    assertNamespace(namespace);
    this.#database = database;
    this.#retentionMs = options.retentionMs ?? DEFAULT_RETENTION_MS;
    this.#in = { namespace };
    this.#author = author;
    this.#statements = whole === undefined ? prepareStatements(db) : whole.#statements;
    this.#listStatements = whole === undefined ? new Map() : whole.#listStatements;
    this.events =
      whole?.events.namespace(namespace, author) ??
      new SqliteEventLog(db, this.#statements, (query) => database.read(query));
    this.#creation = new SessionCreation(this.#statements, this.events, namespace);
    this.#tokens = new TokenRotation(this.#statements, this.events, namespace);
  }

  /** Opens the store of a file as `openDatabase` does. */
  static async open(options: SqliteSessionStoreOptions): Promise<SqliteSessionStore> {
    return new SqliteSessionStore(await SqliteDatabase.open(options), options);
  }

  namespace(name: string, author = NOBODY): SqliteSessionStore {
    if (name === this.#in.namespace && author === this.#author) return this;
    const options = { retentionMs: this.#retentionMs };
    return new SqliteSessionStore(this.#database, options, name, author, this);
  }

  async namespaces(): Promise<readonly string[]> {
    const rows = this.#database.read(() => this.#statements.namespaces.all());
    return [...new Set(["", ...rows.map((row) => String(firstColumn(row)))])];
  }

  create(session: NewSession, limit: SessionLimit): Promise<Creation> {
    return this.#writeMore((now) => this.#creation.create(session, limit, now));
  }

  createOnce(
    request: OnceOnly,
    session: NewSession,
    limit: SessionLimit,
  ): Promise<Creation | RepeatedCreation> {
    return this.#writeMore((now) => this.#creation.createOnce(request, session, limit, now));
  }

  async partitionOf(chosenId: string): Promise<Partition | undefined> {
    const row = this.#database.read(() =>
      this.#statements.partitionOf.get({ ...this.#in, id: chosenId }),
    );
    return row && String(firstColumn(row));
  }

  get(key: SessionKey): Promise<StoredSession | undefined> {
    return this.#database.readTogether((now) => this.#find(key, now));
  }

  async getMany(keys: readonly SessionKey[]): Promise<readonly (StoredSession | undefined)[]> {
    return this.#database.read((now) =>
      this.#database.inSnapshot(() => keys.map((key) => this.#find(key, now))),
    );
  }

  touch(key: SessionKey, tokenHash?: Uint8Array): Promise<StoredSession | undefined> {
    return this.#write((now) => {
      if (!this.#tokens.isProven(key, tokenHash, now)) return undefined;
      const row = this.#statements.touch.get({ ...this.#in, ...key, now });
      return row && toStoredSession(row, now);
    });
  }

  replaceRecord(
    key: SessionKey,
    version: number,
    record: Uint8Array,
    fence?: Fence,
    endsGrace = false,
  ): Promise<StoredFacts | "version_mismatch" | "fenced" | undefined> {
    return this.#writeMore((now) => {
      const { id, partition } = key;
      if (fence !== undefined) {
        const found = this.#find(key, now);
        if (found === undefined) return undefined;
        const seen = firstColumn(
          this.#statements.findFence.get({ ...this.#in, id, lock: fence.lock }),
        );
        if (seen !== undefined && Number(seen) > fence.token) return "fenced";
        if (found.version !== version) return "version_mismatch";
        if (seen === undefined) this.#assertRoomForFence(id);
        this.#statements.putFence.run({ ...this.#in, id, ...fence });
      }
      const values = { ...this.#in, id, partition, now, version, record };
      const row = this.#statements.replaceRecord.get(values);
      if (row === undefined) return this.#find(key, now) && "version_mismatch";
      if (endsGrace) this.#tokens.endGraces(key, now);
      const updated = toStoredFacts(row, now);
      this.events.append("updated", updated, now);
      return updated;
    });
  }

  reseal(
    { id, partition }: SessionKey,
    record: Uint8Array,
    resealed: Uint8Array,
  ): Promise<boolean> {
    const values = { ...this.#in, id, partition, record, resealed };
    return this.#writeMore(() => this.#statements.reseal.run(values).changes === 1);
  }

  rotateToken(
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs = 0,
  ): Promise<StoredSession | undefined> {
    return this.#writeEnd((now) => this.#tokens.rotate(key, tokenHash, newTokenHash, graceMs, now));
  }

  rotateTokenOnce(
    request: OnceOnly,
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs = 0,
  ): Promise<StoredSession | RepeatedRotation | undefined> {
    return this.#writeEnd((now) =>
      this.#tokens.rotateOnce(request, key, tokenHash, newTokenHash, graceMs, now),
    );
  }

  reportReuse(key: SessionKey, tokenHash: Uint8Array, revokes: boolean): Promise<boolean> {
    return this.#writeEnd((now) => this.#tokens.reportReuse(key, tokenHash, revokes, now));
  }

  revoke(
    key: SessionKey,
    reason: string,
    tokenHash?: Uint8Array,
    userId?: string,
  ): Promise<boolean> {
    const values = { ...this.#in, ...key, reason, userId: userId ?? null };
    return this.#writeEnd((now) => {
      if (!this.#tokens.isProven(key, tokenHash, now)) return false;
      const rows = this.#statements.revoke.all({ ...values, now });
      this.events.appendAll("revoked", rows, now, reason);
      return rows.length === 1;
    });
  }

  revokeUser(userId: string, reason: string, exceptId?: string): Promise<number | undefined> {
    return this.#writeEnd((now) => {
      const user = { ...this.#in, userId, now };
      if (exceptId !== undefined) {
        const kept = this.#statements.activeOfUser.get({ ...user, id: exceptId });
        if (kept === undefined) return undefined;
      }
      const values = { ...user, reason, exceptId: exceptId ?? null };
      const rows = this.#statements.revokeUser.all(values);
      this.events.appendAll("revoked", rows, now, reason);
      return rows.length;
    });
  }

  async list(query: ListQuery): Promise<ListPage> {
    return this.#database.read((now) => {
      // One more session than requested tells whether there is a next page.
      const { sql, parameters } = listStatement(
        { ...query, ...this.#in, limit: query.limit + 1 },
        now,
      );
      const rows = this.#prepareList(sql).all(parameters);
      const sessions = rows.slice(0, query.limit).map((row) => toStoredSession(row, now));
      const last = rows.length > query.limit ? sessions.at(-1) : undefined;
      return {
        sessions,
        ...(last && { next: { createTimeMs: last.createTimeMs, id: last.id } }),
      };
    });
  }

  async count(userId?: string): Promise<number> {
    return this.#database.read((now) => this.#count(userId, now));
  }

  sweep(limit: number): Promise<SweepResult> {
    return this.#writeEnd((now) => {
      const endedBy = now - this.#retentionMs;
      const expired = Number(this.#statements.settleExpired.run({ now, limit }).changes);
      const reclaimed = Number(this.#statements.removeEnded.run({ endedBy, limit }).changes);
      this.#statements.removeExpiredRequests.run({ now, limit });
      // Rate limits in the same file: maybe no later attempt comes to remove these.
      this.#statements.removeExpiredAttempts.run({ now, limit });
      const hasMoreEvents = this.events.trim(endedBy, limit);
      const more =
        hasMoreEvents ||
        this.#statements.hasEnded.get({ endedBy }) !== undefined ||
        this.#statements.hasExpired.get({ now }) !== undefined ||
        this.#statements.hasExpiredRequests.get({ now }) !== undefined ||
        this.#statements.hasExpiredAttempts.get({ now }) !== undefined;
      // SQLite keeps the indexes right, so there is nothing to heal.
      return { expired, reclaimed, healed: 0, more };
    });
  }

  async check(): Promise<string | undefined> {
    this.#database.check();
    this.#database.read(() => this.#statements.check.get());
    return this.#database.isReserveInUse ? RESERVE_IN_USE : undefined;
  }

  async close(): Promise<void> {
    this.events.close();
    this.#database.close();
  }

  #assertRoomForFence(id: string): void {
    const count = Number(firstColumn(this.#statements.countFences.get({ ...this.#in, id })));
    if (count >= MAX_FENCES_PER_SESSION) throw tooManyFences(MAX_FENCES_PER_SESSION);
  }

  #find(key: SessionKey, now: number): StoredSession | undefined {
    return findSession(this.#statements, this.#in.namespace, key, now);
  }

  #count(userId: string | undefined, now: number): number {
    const row =
      userId === undefined
        ? this.#statements.countAll.get({ ...this.#in, now })
        : this.#statements.countUser.get({ ...this.#in, userId, now });
    return Number(firstColumn(row));
  }

  #prepareList(sql: string): StatementSync {
    let statement = this.#listStatements.get(sql);
    if (statement === undefined) {
      statement = prepare(this.#database.db, sql);
      this.#listStatements.set(sql, statement);
    }
    return statement;
  }

  async #write<T>(
    change: (now: number) => T,
    how: "write" | "writeMore" | "writeEnd" = "write",
  ): Promise<T> {
    const [value, changes] = await this.#database[how]((now) =>
      this.events.record(() => change(now)),
    );
    this.events.committed();
    for (const made of changes) this.#author.changed(made);
    return value;
  }

  /** A write that takes more room: refused on a full disk. */
  #writeMore<T>(change: (now: number) => T): Promise<T> {
    return this.#write(change, "writeMore");
  }

  /** A write that ends something: it passes on a full disk too. */
  #writeEnd<T>(change: (now: number) => T): Promise<T> {
    return this.#write(change, "writeEnd");
  }
}
