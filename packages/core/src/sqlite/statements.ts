import type { DatabaseSync, SQLOutputValue, StatementSync } from "node:sqlite";
import type { ListQuery } from "../sessions/session-store.js";
import type { SessionEventType } from "../watch/session-event.js";

const FACT_COLUMNS = `
  id, user_id, create_time_ms, authenticate_time_ms, last_access_time_ms, idle_timeout_ms,
  expire_time_ms, absolute_expire_time_ms, token_create_time_ms, version, revoke_time_ms,
  revoke_reason`;

/** The columns of a stored session. */
const COLUMNS = `${FACT_COLUMNS}, token_hash, replaced_tokens, record`;

/** A row of `FACT_COLUMNS`. The table is STRICT, so these are the types. */
export type FactRow = readonly [
  id: string,
  userId: string,
  createTimeMs: number,
  authenticateTimeMs: number,
  lastAccessTimeMs: number,
  idleTimeoutMs: number,
  expireTimeMs: number,
  absoluteExpireTimeMs: number,
  tokenCreateTimeMs: number,
  version: number,
  revokeTimeMs: number | null,
  revokeReason: string | null,
];

/** A row of `COLUMNS`. */
export type SessionRow = readonly [
  ...FactRow,
  tokenHash: Uint8Array,
  replacedTokens: Uint8Array,
  record: Uint8Array,
];

/** The columns that the event of a change needs. */
const CHANGED_COLUMNS = "id, user_id, version";

/** A row of `CHANGED_COLUMNS`. */
export type ChangedRow = readonly [id: string, userId: string, version: number];

const EVENT_COLUMNS = "sequence, time_ms, type, session_id, user_id, version, reason";

/** A row of `EVENT_COLUMNS`. */
export type EventRow = readonly [
  sequence: number,
  timeMs: number,
  type: SessionEventType,
  sessionId: string,
  userId: string,
  version: number,
  reason: string | null,
];

/** A row of `findRequest`. */
export type RequestRow = readonly [
  partition: string,
  sessionId: string,
  sessionCreateTimeMs: number,
  record: Uint8Array,
  evictedIds: string,
];

const ACTIVE_AT_KEY = `
  id = :id AND partition = :partition AND end_time_ms IS NULL AND expire_time_ms > :now`;

const ACTIVE_OF_USER = "user_id = :userId AND end_time_ms IS NULL AND expire_time_ms > :now";

/** An idle deadline never moves back, even if the clock does. */
const ACTIVITY = `
  last_access_time_ms = :now,
  expire_time_ms = max(expire_time_ms, min(:now + idle_timeout_ms, absolute_expire_time_ms))`;

const REVOCATION = `
  revoke_time_ms = :now, revoke_reason = :reason, end_time_ms = :now, version = version + 1,
  token_hash = x'', replaced_tokens = x''`;

/**
 * All statements except lists. INDEXED BY, because without statistics the planner guesses. A
 * statement that cannot use its index fails at once.
 */
export const STATEMENTS = {
  idIsTaken: "SELECT 1 FROM sessions WHERE id = :id",
  partitionOf: "SELECT partition FROM sessions WHERE id = :id",
  /** Parameters by position (id, partition, now) make the hottest read a quarter faster. */
  get: `
    SELECT ${COLUMNS} FROM sessions
    WHERE id = ? AND partition = ? AND end_time_ms IS NULL AND expire_time_ms > ?`,
  insert: `
    INSERT INTO sessions (
      id, partition, user_id, create_time_ms, authenticate_time_ms, last_access_time_ms,
      idle_timeout_ms, expire_time_ms, absolute_expire_time_ms, token_create_time_ms, version,
      token_hash, record
    ) VALUES (
      :id, :partition, :userId, :createTimeMs, :authenticateTimeMs, :lastAccessTimeMs,
      :idleTimeoutMs, :expireTimeMs, :absoluteExpireTimeMs, :createTimeMs, 1,
      :tokenHash, :record
    ) RETURNING ${FACT_COLUMNS}`,
  touch: `
    UPDATE sessions SET ${ACTIVITY} WHERE ${ACTIVE_AT_KEY} RETURNING ${COLUMNS}`,
  replaceRecord: `
    UPDATE sessions SET record = :record, version = version + 1
    WHERE ${ACTIVE_AT_KEY} AND version = :version RETURNING ${FACT_COLUMNS}`,
  findFence: "SELECT token FROM session_fences WHERE session_id = :id AND lock = :lock",
  countFences: "SELECT count(*) FROM session_fences WHERE session_id = :id",
  putFence:
    "INSERT OR REPLACE INTO session_fences (session_id, lock, token) VALUES (:id, :lock, :token)",
  rotateToken: `
    UPDATE sessions
    SET
      ${ACTIVITY}, authenticate_time_ms = :authenticateTimeMs, token_create_time_ms = :now,
      token_hash = :newTokenHash, replaced_tokens = :replacedTokens, version = version + 1
    WHERE ${ACTIVE_AT_KEY} RETURNING ${COLUMNS}`,
  putReplacedTokens: `
    UPDATE sessions SET replaced_tokens = :replacedTokens WHERE ${ACTIVE_AT_KEY}`,
  recordReuse: `
    UPDATE sessions SET replaced_tokens = :replacedTokens, version = version + 1
    WHERE ${ACTIVE_AT_KEY} RETURNING ${CHANGED_COLUMNS}`,
  reseal: `
    UPDATE sessions SET record = :resealed
    WHERE id = :id AND partition = :partition AND record = :record`,
  revoke: `
    UPDATE sessions SET ${REVOCATION}
    WHERE ${ACTIVE_AT_KEY} AND (:userId IS NULL OR user_id = :userId)
    RETURNING ${CHANGED_COLUMNS}`,
  activeOfUser: `SELECT 1 FROM sessions WHERE id = :id AND ${ACTIVE_OF_USER}`,
  revokeUser: `
    UPDATE sessions INDEXED BY live_by_user SET ${REVOCATION}
    WHERE ${ACTIVE_OF_USER} AND id IS NOT :exceptId
    RETURNING ${CHANGED_COLUMNS}`,
  oldestOfUser: `
    SELECT id FROM sessions INDEXED BY live_by_user
    WHERE ${ACTIVE_OF_USER} ORDER BY create_time_ms, id LIMIT :count`,
  evict: `UPDATE sessions SET ${REVOCATION} WHERE id = :id RETURNING ${CHANGED_COLUMNS}`,
  countUser: `SELECT count(*) FROM sessions INDEXED BY live_by_user WHERE ${ACTIVE_OF_USER}`,
  countAll: `
    SELECT count(*) FROM sessions INDEXED BY live_by_deadline
    WHERE end_time_ms IS NULL AND expire_time_ms > :now`,
  /** Moves expired sessions out of the live indexes. */
  settleExpired: `
    UPDATE sessions SET end_time_ms = expire_time_ms
    WHERE id IN (
      SELECT id FROM sessions INDEXED BY live_by_deadline
      WHERE end_time_ms IS NULL AND expire_time_ms <= :now ORDER BY expire_time_ms LIMIT :limit
    )`,
  /** Removes sessions that ended at `:endedBy` or earlier. */
  removeEnded: `
    DELETE FROM sessions
    WHERE id IN (
      SELECT id FROM sessions INDEXED BY ended_by_end
      WHERE end_time_ms <= :endedBy ORDER BY end_time_ms LIMIT :limit
    )`,
  hasExpired: `
    SELECT 1 FROM sessions INDEXED BY live_by_deadline
    WHERE end_time_ms IS NULL AND expire_time_ms <= :now LIMIT 1`,
  hasEnded: `
    SELECT 1 FROM sessions INDEXED BY ended_by_end WHERE end_time_ms <= :endedBy LIMIT 1`,
  appendEvent: `
    INSERT INTO session_events (time_ms, type, session_id, user_id, version, reason)
    VALUES (?, ?, ?, ?, ?, ?)`,
  lastSequence: "SELECT seq FROM sqlite_sequence WHERE name = 'session_events'",
  readEvents: `
    SELECT ${EVENT_COLUMNS} FROM session_events
    WHERE sequence > :after ORDER BY sequence LIMIT :limit`,
  /**
   * Removes the events before the first that stays, so that no gap remains, even if the clock
   * jumps.
   */
  trimEvents: `
    DELETE FROM session_events
    WHERE sequence < coalesce(
      (
        SELECT sequence FROM session_events
        WHERE sequence > :overflow
          AND sequence < (SELECT min(sequence) FROM session_events) + :limit
          AND time_ms > :trimBy
        ORDER BY sequence LIMIT 1
      ),
      (SELECT min(sequence) FROM session_events) + :limit
    )`,
  hasEventsToTrim: `
    SELECT 1 FROM session_events
    WHERE sequence = (SELECT min(sequence) FROM session_events)
      AND (sequence <= :overflow OR time_ms <= :trimBy)`,
  findRequest: `
    SELECT partition, session_id, session_create_time_ms, record, evicted_ids FROM requests
    WHERE key = :key AND expire_time_ms > :now`,
  sessionOfRequest: `
    SELECT ${COLUMNS} FROM sessions
    WHERE id = :id AND partition = :partition AND create_time_ms = :createTimeMs`,
  /** Replaces an expired request too. */
  insertRequest: `
    INSERT OR REPLACE INTO requests (
      key, partition, session_id, session_create_time_ms, record, evicted_ids, expire_time_ms
    ) VALUES (
      :key, :partition, :sessionId, :createTimeMs, :record, :evictedIds, :now + :keptForMs
    )`,
  removeExpiredRequests: `
    DELETE FROM requests
    WHERE key IN (
      SELECT key FROM requests INDEXED BY requests_by_expiry
      WHERE expire_time_ms <= :now ORDER BY expire_time_ms LIMIT :limit
    )`,
  hasExpiredRequests: `
    SELECT 1 FROM requests INDEXED BY requests_by_expiry WHERE expire_time_ms <= :now LIMIT 1`,
  removeExpiredAttempts: `
    DELETE FROM rate_limit_attempts WHERE (key, time_ms, total) IN (
      SELECT key, time_ms, total FROM rate_limit_attempts
      INDEXED BY rate_limit_attempts_by_expiry
      WHERE expire_time_ms <= :now ORDER BY expire_time_ms LIMIT :limit
    )`,
  hasExpiredAttempts: `
    SELECT 1 FROM rate_limit_attempts INDEXED BY rate_limit_attempts_by_expiry
    WHERE expire_time_ms <= :now LIMIT 1`,
  check: "SELECT 1 FROM sessions LIMIT 1",
} as const;

/** The prepared form of `STATEMENTS`. */
export type Statements = { readonly [name in keyof typeof STATEMENTS]: StatementSync };

/** Prepares all of `STATEMENTS`. */
export function prepareStatements(db: DatabaseSync): Statements {
  return prepareAll(db, STATEMENTS);
}

/** Prepares each of several statements. */
export function prepareAll<Name extends string>(
  db: DatabaseSync,
  statements: Readonly<Record<Name, string>>,
): Readonly<Record<Name, StatementSync>> {
  const prepared = Object.entries<string>(statements).map(([name, sql]) => [
    name,
    prepare(db, sql),
  ]);
  return Object.fromEntries(prepared);
}

/** Prepares a statement that answers rows as arrays, which are faster than objects. */
export function prepare(db: DatabaseSync, sql: string): StatementSync {
  const statement = db.prepare(sql);
  statement.setReturnArrays(true);
  return statement;
}

/** The first column of a row. */
export function firstColumn(row: unknown): SQLOutputValue | undefined {
  return (row as readonly SQLOutputValue[] | undefined)?.[0];
}

/** A list's statement and its parameters. */
export interface ListStatement {
  readonly sql: string;
  readonly parameters: Record<string, string | number>;
}

/** The SQL of a page: live sessions and, if requested, ended sessions, merged in order. */
export function listStatement(query: ListQuery, nowMs: number): ListStatement {
  const { userId, showExpired, showRevoked, order, limit } = query;
  const parameters: ListStatement["parameters"] = { limit };
  const conditions = rangeConditions(query, parameters);
  if (userId !== undefined) {
    conditions.push("user_id = :userId");
    parameters["userId"] = userId;
  }
  const live = ["end_time_ms IS NULL", ...conditions];
  if (!showExpired) {
    live.push("expire_time_ms > :now");
    parameters["now"] = nowMs;
  }
  const ended = ["end_time_ms IS NOT NULL", ...conditions];
  if (showExpired !== showRevoked) ended.push(`revoke_time_ms IS ${showRevoked ? "NOT " : ""}NULL`);

  const by = userId === undefined ? "creation" : "user";
  const branches = [select(`live_by_${by}`, live)];
  if (showExpired || showRevoked) branches.push(select(`ended_by_${by}`, ended));
  const sql = `${branches.join("\nUNION ALL\n")}
    ORDER BY create_time_ms ${order}, id ${order} LIMIT :limit`;
  return { sql, parameters };
}

/**
 * The bounds of the page. A cursor within the range replaces the bound at which the list starts:
 * given both, SQLite might start at that bound and walk to the cursor.
 */
function rangeConditions(query: ListQuery, parameters: ListStatement["parameters"]): string[] {
  const { after, createTimeFromMs: fromMs, createTimeToMs: toMs } = query;
  const ascending = query.order === "asc";
  const isPastStart = (timeMs: number) =>
    ascending ? timeMs >= (fromMs ?? -Infinity) : timeMs < (toMs ?? Infinity);
  const cursor = after && isPastStart(after.createTimeMs) ? after : undefined;
  const conditions: string[] = [];
  if (cursor !== undefined) {
    conditions.push(`(create_time_ms, id) ${ascending ? ">" : "<"} (:afterCreateTimeMs, :afterId)`);
    parameters["afterCreateTimeMs"] = cursor.createTimeMs;
    parameters["afterId"] = cursor.id;
  }
  if (fromMs !== undefined && !(cursor && ascending)) {
    conditions.push("create_time_ms >= :createTimeFromMs");
    parameters["createTimeFromMs"] = fromMs;
  }
  if (toMs !== undefined && !(cursor && !ascending)) {
    conditions.push("create_time_ms < :createTimeToMs");
    parameters["createTimeToMs"] = toMs;
  }
  return conditions;
}

function select(index: string, conditions: readonly string[]): string {
  return `SELECT ${COLUMNS} FROM sessions INDEXED BY ${index} WHERE ${conditions.join(" AND ")}`;
}
