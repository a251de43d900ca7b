import type { StatementSync } from "node:sqlite";
import {
  movedInTooLate,
  requestIdReused,
  sessionAlreadyExists,
  sessionLimitReached,
  tooManyFences,
} from "../errors.js";
import {
  isProof,
  judgeReuse,
  REUSE_REASON,
  withoutGraces,
  withReplacedToken,
  withReuseEvent,
} from "../sessions/replaced-tokens.js";
import type { Partition } from "../sessions/session-id.js";
import {
  type Creation,
  EVICTION_REASON,
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
import { hashesEqual } from "../sessions/session-token.js";
import type { SessionEventType } from "../watch/session-event.js";
import { SqliteDatabase } from "./sqlite-database.js";
import { SqliteEventLog } from "./sqlite-event-log.js";
import {
  type ChangedRow,
  firstColumn,
  listStatement,
  prepare,
  prepareStatements,
  type RequestRow,
  type Statements,
} from "./statements.js";
import { toStoredFacts, toStoredSession } from "./stored-session.js";

/** Options of `SqliteSessionStore`. */
export interface SqliteSessionStoreOptions {
  /** The database file, or `:memory:` for a database that ends with the store. */
  readonly path: string;
  /** How long ended sessions and events stay. 10 minutes by default: longer than any call. */
  readonly retentionMs?: number;
  /**
   * The clock, `Date.now` by default. Do not set it back: an expired session would be active again,
   * unless a sweep came in between.
   */
  readonly now?: () => number;
}

const DEFAULT_RETENTION_MS = 10 * 60_000;

/**
 * Sessions in an SQLite file. Calls block the event loop: microseconds for a read, an fsync for the
 * writes of one turn. Servers on one machine may share the file.
 */
export class SqliteSessionStore implements SessionStore {
  readonly events: SqliteEventLog;
  readonly #database: SqliteDatabase;
  readonly #retentionMs: number;
  readonly #statements: Statements;
  /** The statements of lists by their text, one for each kind of query. */
  readonly #listStatements = new Map<string, StatementSync>();

  /** The store uses the database's clock and closes the database. */
  constructor(
    database: SqliteDatabase,
    options: Pick<SqliteSessionStoreOptions, "retentionMs"> = {},
  ) {
    const { db } = database;
    this.#database = database;
    this.#retentionMs = options.retentionMs ?? DEFAULT_RETENTION_MS;
    this.#statements = prepareStatements(db);
    this.events = new SqliteEventLog(db, this.#statements, (query) => database.read(query));
  }

  /** Opens the store of a file as `openDatabase` does. */
  static async open(options: SqliteSessionStoreOptions): Promise<SqliteSessionStore> {
    return new SqliteSessionStore(await SqliteDatabase.open(options), options);
  }

  create(session: NewSession, limit: SessionLimit): Promise<Creation> {
    return this.#writeMore((now) => this.#insert(session, limit, now));
  }

  createOnce(
    request: OnceOnly,
    session: NewSession,
    limit: SessionLimit,
  ): Promise<Creation | RepeatedCreation> {
    return this.#writeMore((now) => {
      const earlier = this.#findRequest(request.key, session.key.partition, now);
      if (earlier !== undefined) return earlier;
      const creation = this.#insert(session, limit, now);
      this.#statements.insertRequest.run({
        key: request.key,
        partition: session.key.partition,
        sessionId: session.key.id,
        createTimeMs: creation.session.createTimeMs,
        record: request.record,
        evictedIds: JSON.stringify(creation.evictedIds),
        now,
        keptForMs: request.keptForMs,
      });
      return creation;
    });
  }

  async partitionOf(chosenId: string): Promise<Partition | undefined> {
    const row = this.#database.read(() => this.#statements.partitionOf.get({ id: chosenId }));
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
      if (!this.#isProven(key, tokenHash, now)) return undefined;
      const row = this.#statements.touch.get({ ...key, now });
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
    return this.#write((now) => {
      const { id, partition } = key;
      if (fence !== undefined) {
        const found = this.#find(key, now);
        if (found === undefined) return undefined;
        const seen = firstColumn(this.#statements.findFence.get({ id, lock: fence.lock }));
        if (seen !== undefined && Number(seen) > fence.token) return "fenced";
        if (found.version !== version) return "version_mismatch";
        if (seen === undefined) this.#assertRoomForFence(id);
        this.#statements.putFence.run({ id, ...fence });
      }
      const row = this.#statements.replaceRecord.get({ id, partition, now, version, record });
      if (row === undefined) return this.#find(key, now) && "version_mismatch";
      if (endsGrace) this.#endGraces(key, now);
      return this.#changed("updated", toStoredFacts(row, now), now);
    });
  }

  reseal(
    { id, partition }: SessionKey,
    record: Uint8Array,
    resealed: Uint8Array,
  ): Promise<boolean> {
    return this.#write(
      () => this.#statements.reseal.run({ id, partition, record, resealed }).changes === 1,
    );
  }

  rotateToken(
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs = 0,
  ): Promise<StoredSession | undefined> {
    return this.#write((now) => this.#rotate(key, tokenHash, newTokenHash, graceMs, now));
  }

  rotateTokenOnce(
    { key: requestKey, record, keptForMs }: OnceOnly,
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs = 0,
  ): Promise<StoredSession | RepeatedRotation | undefined> {
    const { id, partition } = key;
    // No key of a creation begins with a word and a space.
    const rotation = `rotation ${id} ${requestKey}`;
    return this.#write((now) => {
      const row = this.#statements.findRequest.get({ key: rotation, now });
      if (row !== undefined) {
        const [, , , repeated] = row as unknown as RequestRow;
        return { repeated, session: this.#find(key, now) };
      }
      const session = this.#rotate(key, tokenHash, newTokenHash, graceMs, now);
      if (session === undefined) return undefined;
      this.#statements.insertRequest.run({
        ...{ key: rotation, partition, sessionId: id, createTimeMs: session.createTimeMs },
        ...{ record, evictedIds: "[]", now, keptForMs },
      });
      return session;
    });
  }

  reportReuse(key: SessionKey, tokenHash: Uint8Array, revokes: boolean): Promise<void> {
    return this.#write((now) => {
      const session = this.#find(key, now);
      if (session === undefined) return;
      const { isEventDue, isTheft } = judgeReuse(session.replacedTokens, tokenHash, now);
      if (isEventDue) {
        const replacedTokens = withReuseEvent(session.replacedTokens, now);
        const rows = this.#statements.recordReuse.all({ ...key, now, replacedTokens });
        this.#append("token_reused", rows, now);
      }
      if (!revokes || !isTheft) return;
      const rows = this.#statements.revoke.all({ ...key, now, reason: REUSE_REASON, userId: null });
      this.#append("revoked", rows, now, REUSE_REASON);
    });
  }

  revoke(
    key: SessionKey,
    reason: string,
    tokenHash?: Uint8Array,
    userId?: string,
  ): Promise<boolean> {
    return this.#write((now) => {
      if (!this.#isProven(key, tokenHash, now)) return false;
      const rows = this.#statements.revoke.all({ ...key, now, reason, userId: userId ?? null });
      this.#append("revoked", rows, now, reason);
      return rows.length === 1;
    });
  }

  revokeUser(userId: string, reason: string, exceptId?: string): Promise<number | undefined> {
    return this.#write((now) => {
      if (exceptId !== undefined) {
        const kept = this.#statements.activeOfUser.get({ id: exceptId, userId, now });
        if (kept === undefined) return undefined;
      }
      const values = { userId, now, reason, exceptId: exceptId ?? null };
      const rows = this.#statements.revokeUser.all(values);
      this.#append("revoked", rows, now, reason);
      return rows.length;
    });
  }

  async list(query: ListQuery): Promise<ListPage> {
    return this.#database.read((now) => {
      // One more session than requested tells whether there is a next page.
      const { sql, parameters } = listStatement({ ...query, limit: query.limit + 1 }, now);
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
    return this.#write((now) => {
      const endedBy = now - this.#retentionMs;
      this.#statements.settleExpired.run({ now, limit });
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
      return { reclaimed, healed: 0, more };
    });
  }

  async check(): Promise<void> {
    this.#database.read(() => this.#statements.check.get());
  }

  async close(): Promise<void> {
    this.events.close();
    this.#database.close();
  }

  #insert(session: NewSession, limit: SessionLimit, now: number): Creation {
    const { key, userId, record, tokenHash, idleTimeoutMs } = session;
    const times = timesOfNewSession(session, now);
    if (times.expireTimeMs <= now) throw movedInTooLate();
    if (this.#statements.idIsTaken.get({ id: key.id }) !== undefined) throw sessionAlreadyExists();
    const evictedIds = this.#makeRoom(userId, limit, now);
    const content = { userId, record, tokenHash, idleTimeoutMs };
    const row = this.#statements.insert.get({ ...key, ...content, ...times });
    if (row === undefined) throw new Error("an INSERT with RETURNING answered no row");
    return { session: this.#changed("created", toStoredFacts(row, now), now), evictedIds };
  }

  /** The result of an earlier call with this request, within its time. */
  #findRequest(key: string, partition: Partition, now: number): RepeatedCreation | undefined {
    const row = this.#statements.findRequest.get({ key, now });
    if (row === undefined) return undefined;
    const [earlierPartition, id, createTimeMs, record, evictedIds] = row as unknown as RequestRow;
    if (earlierPartition !== partition) throw requestIdReused();
    const session = this.#statements.sessionOfRequest.get({ id, partition, createTimeMs });
    return {
      repeated: record,
      session: session && toStoredSession(session, now),
      evictedIds: JSON.parse(evictedIds) as string[],
    };
  }

  /** Evicts a user's oldest sessions until there is room for one more. Answers their ids. */
  #makeRoom(userId: string, limit: SessionLimit, now: number): string[] {
    const tooMany = this.#count(userId, now) + 1 - limit.maxSessionsPerUser;
    if (tooMany <= 0) return [];
    if (limit.policy === "reject") throw sessionLimitReached(limit.maxSessionsPerUser);
    const oldest = this.#statements.oldestOfUser.all({ userId, now, count: tooMany });
    const ids = oldest.map((row) => String(firstColumn(row)));
    for (const id of ids) {
      const rows = this.#statements.evict.all({ id, now, reason: EVICTION_REASON });
      this.#append("evicted", rows, now, EVICTION_REASON);
    }
    return ids;
  }

  /** Appends the event of a change, and answers the changed session. */
  #changed<T extends StoredFacts>(type: SessionEventType, session: T, now: number): T {
    this.events.append(type, session.id, session.userId, session.version, now);
    return session;
  }

  /** Appends the events of changed sessions. */
  #append(type: SessionEventType, rows: readonly unknown[], now: number, reason?: string): void {
    for (const [id, userId, version] of rows as readonly ChangedRow[]) {
      this.events.append(type, id, userId, version, now, reason);
    }
  }

  /** Whether a token hash, if there is one, proves the session. */
  #isProven(key: SessionKey, tokenHash: Uint8Array | undefined, now: number): boolean {
    if (tokenHash === undefined) return true;
    const session = this.#find(key, now);
    return session !== undefined && isProof(session, tokenHash, now);
  }

  #endGraces(key: SessionKey, now: number): void {
    const { replacedTokens } = this.#find(key, now) ?? {};
    if (!replacedTokens?.length) return;
    const ended = withoutGraces(replacedTokens, now);
    this.#statements.putReplacedTokens.run({ ...key, now, replacedTokens: ended });
  }

  #rotate(
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs: number,
    now: number,
  ): StoredSession | undefined {
    const session = this.#find(key, now);
    if (session === undefined || !hashesEqual(session.tokenHash, tokenHash)) return undefined;
    const row = this.#statements.rotateToken.get({
      ...{ ...key, now, newTokenHash },
      authenticateTimeMs: graceMs === 0 ? now : session.authenticateTimeMs,
      replacedTokens: withReplacedToken(session, now, graceMs),
    });
    return row && this.#changed("token_rotated", toStoredSession(row, now), now);
  }

  #assertRoomForFence(id: string): void {
    const count = Number(firstColumn(this.#statements.countFences.get({ id })));
    if (count >= MAX_FENCES_PER_SESSION) throw tooManyFences(MAX_FENCES_PER_SESSION);
  }

  #find({ id, partition }: SessionKey, now: number): StoredSession | undefined {
    const row = this.#statements.get.get(id, partition, now);
    return row && toStoredSession(row, now);
  }

  #count(userId: string | undefined, now: number): number {
    const row =
      userId === undefined
        ? this.#statements.countAll.get({ now })
        : this.#statements.countUser.get({ userId, now });
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

  async #write<T>(change: (now: number) => T): Promise<T> {
    const value = await this.#database.write(change);
    this.events.committed();
    return value;
  }

  /** A write that may fail because the disk is full. */
  async #writeMore<T>(change: (now: number) => T): Promise<T> {
    const value = await this.#database.writeMore(change);
    this.events.committed();
    return value;
  }
}

/** The times of a new session, as the store's contract has them. */
function timesOfNewSession(
  { idleTimeoutMs, lifetimeMs, movedIn = {} }: NewSession,
  now: number,
): Readonly<Record<string, number>> & { readonly expireTimeMs: number } {
  const createTimeMs = Math.min(movedIn.createTimeMs ?? now, now);
  const authenticateTimeMs = Math.min(movedIn.authenticateTimeMs ?? createTimeMs, now);
  const idleDeadlineMs = Math.min(movedIn.expireTimeMs ?? Infinity, now + idleTimeoutMs);
  const absoluteExpireTimeMs = createTimeMs + lifetimeMs;
  return {
    createTimeMs,
    authenticateTimeMs: Math.max(createTimeMs, authenticateTimeMs),
    lastAccessTimeMs: Math.max(createTimeMs, idleDeadlineMs - idleTimeoutMs),
    expireTimeMs: Math.min(idleDeadlineMs, absoluteExpireTimeMs),
    absoluteExpireTimeMs,
  };
}
