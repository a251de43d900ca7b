import type { DatabaseSync, SQLOutputValue, StatementSync } from "node:sqlite";
import type { ListQuery } from "../sessions/session-store.js";
import type { SessionEventType } from "../watch/session-event.js";

const FACT_COLUMNS = `
  id, user_id, create_time_ms, authenticate_time_ms, last_access_time_ms, idle_timeout_ms,
  expire_time_ms, absolute_expire_time_ms, token_create_time_ms, store_time_ms, version,
  revoke_time_ms, revoke_reason`;

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
  storeTimeMs: number,
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

const EVENT_COLUMNS = "sequence, time_ms, type, session_id, user_id, version, reason, changed_by";

/** A row of `EVENT_COLUMNS`. */
export type EventRow = readonly [
  sequence: number,
  timeMs: number,
  type: SessionEventType,
  sessionId: string,
  userId: string,
  version: number,
  reason: string | null,
  changedBy: string,
];

/** A row of `findRequest`. */
export type RequestRow = readonly [
  partition: string,
  sessionId: string,
  sessionStoreTimeMs: number,
  record: Uint8Array,
  evictedIds: string,
];

/** Every statement on the data of a namespace names it, except those that sweep all of them. */
const AT_ID = "namespace = :namespace AND id = :id";

const ACTIVE_AT_KEY = `
  ${AT_ID} AND partition = :partition AND end_time_ms IS NULL AND expire_time_ms > :now`;

const ACTIVE_OF_USER = `
  namespace = :namespace AND user_id = :userId AND end_time_ms IS NULL AND expire_time_ms > :now`;

/** An idle deadline never moves back, even if the clock does. */
const ACTIVITY = `
  last_access_time_ms = :now,
  expire_time_ms = max(expire_time_ms, min(:now + idle_timeout_ms, absolute_expire_time_ms))`;

const REVOCATION = `
  revoke_time_ms = :now, revoke_reason = :reason, end_time_ms = :now, version = version + 1,
  token_hash = x'', replaced_tokens = x'', rotation_request = x''`;

/**
 * The names of namespaces among rows, by one search for each, however many rows there are. SQLite
 * itself would read all rows.
 */
function namesIn(rows: string, condition: string): string {
  const next = `SELECT min(namespace) FROM ${rows} WHERE ${condition}`;
  return `
    WITH RECURSIVE names (name) AS (
      ${next}
      UNION ALL
      SELECT (${next} AND namespace > name) FROM names WHERE name NOT NULL
    )`;
}

/** The namespaces of live sessions. */
const LIVE_NAMES = namesIn("sessions INDEXED BY live_by_deadline", "end_time_ms IS NULL");

/** The expired sessions of all `LIVE_NAMES` that are in a live index. */
function expired(columns: string): string {
  return `
    SELECT ${columns} FROM names CROSS JOIN sessions INDEXED BY live_by_deadline
    WHERE namespace = name AND end_time_ms IS NULL AND expire_time_ms <= :now`;
}

/**
 * All statements except lists. INDEXED BY, because without statistics the planner guesses. A
 * statement that cannot use its index fails at once.
 */
export const STATEMENTS = {
  idIsTaken: `SELECT 1 FROM sessions WHERE ${AT_ID}`,
  partitionOf: `SELECT partition FROM sessions WHERE ${AT_ID}`,
  /** Parameters by position (namespace, id, partition, now) make the hottest read a quarter faster. */
  get: `
    SELECT ${COLUMNS} FROM sessions
    WHERE namespace = ? AND id = ? AND partition = ? AND end_time_ms IS NULL
      AND expire_time_ms > ?`,
  insert: `
    INSERT INTO sessions (
      namespace, id, partition, user_id, create_time_ms, authenticate_time_ms, last_access_time_ms,
      idle_timeout_ms, expire_time_ms, absolute_expire_time_ms, token_create_time_ms, store_time_ms,
      version, token_hash, record
    ) VALUES (
      :namespace, :id, :partition, :userId, :createTimeMs, :authenticateTimeMs, :lastAccessTimeMs,
      :idleTimeoutMs, :expireTimeMs, :absoluteExpireTimeMs, :createTimeMs, :storeTimeMs,
      1, :tokenHash, :record
    ) RETURNING ${FACT_COLUMNS}`,
  touch: `
    UPDATE sessions SET ${ACTIVITY} WHERE ${ACTIVE_AT_KEY} RETURNING ${COLUMNS}`,
  replaceRecord: `
    UPDATE sessions SET record = :record, version = version + 1
    WHERE ${ACTIVE_AT_KEY} AND version = :version RETURNING ${FACT_COLUMNS}`,
  findFence: `
    SELECT token FROM session_fences
    WHERE namespace = :namespace AND session_id = :id AND lock = :lock`,
  countFences: `
    SELECT count(*) FROM session_fences WHERE namespace = :namespace AND session_id = :id`,
  putFence: `
    INSERT OR REPLACE INTO session_fences (namespace, session_id, lock, token)
    VALUES (:namespace, :id, :lock, :token)`,
  rotateToken: `
    UPDATE sessions
    SET
      ${ACTIVITY}, authenticate_time_ms = :authenticateTimeMs, token_create_time_ms = :now,
      token_hash = :newTokenHash, replaced_tokens = :replacedTokens,
      rotation_request = :rotationRequest, version = version + 1
    WHERE ${ACTIVE_AT_KEY} RETURNING ${COLUMNS}`,
  rotationRequest: `SELECT rotation_request FROM sessions WHERE ${ACTIVE_AT_KEY}`,
  putReplacedTokens: `
    UPDATE sessions SET replaced_tokens = :replacedTokens WHERE ${ACTIVE_AT_KEY}`,
  recordReuse: `
    UPDATE sessions SET replaced_tokens = :replacedTokens, version = version + 1
    WHERE ${ACTIVE_AT_KEY} RETURNING ${CHANGED_COLUMNS}`,
  reseal: `
    UPDATE sessions SET record = :resealed
    WHERE ${AT_ID} AND partition = :partition AND record = :record`,
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
  evict: `UPDATE sessions SET ${REVOCATION} WHERE ${AT_ID} RETURNING ${CHANGED_COLUMNS}`,
  countUser: `SELECT count(*) FROM sessions INDEXED BY live_by_user WHERE ${ACTIVE_OF_USER}`,
  countAll: `
    SELECT count(*) FROM sessions INDEXED BY live_by_deadline
    WHERE namespace = :namespace AND end_time_ms IS NULL AND expire_time_ms > :now`,
  namespaces: `${namesIn("sessions", "true")} SELECT name FROM names WHERE name NOT NULL`,
  /** Moves expired sessions of all namespaces out of the live indexes. */
  settleExpired: `
    ${LIVE_NAMES} UPDATE sessions SET end_time_ms = expire_time_ms
    WHERE rowid IN (${expired("sessions.rowid")} LIMIT :limit)`,
  /** Removes sessions that ended at `:endedBy` or earlier. */
  removeEnded: `
    DELETE FROM sessions
    WHERE rowid IN (
      SELECT rowid FROM sessions INDEXED BY ended_by_end
      WHERE end_time_ms <= :endedBy ORDER BY end_time_ms LIMIT :limit
    )`,
  hasExpired: `${LIVE_NAMES} ${expired("1")} LIMIT 1`,
  hasEnded: `
    SELECT 1 FROM sessions INDEXED BY ended_by_end WHERE end_time_ms <= :endedBy LIMIT 1`,
  nextSequence: `
    INSERT INTO event_ends (namespace, sequence)
    SELECT :namespace, sequence + 1 FROM event_start WHERE true
    ON CONFLICT (namespace) DO UPDATE SET sequence = event_ends.sequence + 1
    RETURNING sequence`,
  appendEvent: `
    INSERT INTO session_events (
      namespace, sequence, time_ms, type, session_id, user_id, version, reason, changed_by
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  lastSequence: `
    SELECT coalesce(
      (SELECT sequence FROM event_ends WHERE namespace = :namespace),
      (SELECT sequence FROM event_start)
    )`,
  /** The position of the newest event of all namespaces, or of the last that was trimmed. */
  lastPosition: `
    SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'session_events'), 0)`,
  timeOfEvent: `
    SELECT time_ms FROM session_events INDEXED BY session_events_by_sequence
    WHERE namespace = :namespace AND sequence = :sequence`,
  readEvents: `
    SELECT ${EVENT_COLUMNS} FROM session_events INDEXED BY session_events_by_sequence
    WHERE namespace = :namespace AND sequence > :after ORDER BY sequence LIMIT :limit`,
  /**
   * Removes the events of all namespaces before the first that stays, so that no gap remains, even
   * if the clock jumps.
   */
  trimEvents: `
    DELETE FROM session_events
    WHERE position < coalesce(
      (
        SELECT position FROM session_events
        WHERE position > :overflow
          AND position < (SELECT min(position) FROM session_events) + :limit
          AND time_ms > :trimBy
        ORDER BY position LIMIT 1
      ),
      (SELECT min(position) FROM session_events) + :limit
    )`,
  hasEventsToTrim: `
    SELECT 1 FROM session_events
    WHERE position = (SELECT min(position) FROM session_events)
      AND (position <= :overflow OR time_ms <= :trimBy)`,
  findRequest: `
    SELECT partition, session_id, session_store_time_ms, record, evicted_ids FROM requests
    WHERE namespace = :namespace AND key = :key AND expire_time_ms > :now`,
  sessionOfRequest: `
    SELECT ${COLUMNS} FROM sessions
    WHERE ${AT_ID} AND partition = :partition AND store_time_ms = :storeTimeMs`,
  /** Replaces an expired request too. */
  insertRequest: `
    INSERT OR REPLACE INTO requests (
      namespace, key, partition, session_id, session_store_time_ms, record, evicted_ids,
      expire_time_ms
    ) VALUES (
      :namespace, :key, :partition, :sessionId, :storeTimeMs, :record, :evictedIds,
      :now + :keptForMs
    )`,
  removeExpiredRequests: `
    DELETE FROM requests
    WHERE rowid IN (
      SELECT rowid FROM requests INDEXED BY requests_by_expiry
      WHERE expire_time_ms <= :now ORDER BY expire_time_ms LIMIT :limit
    )`,
  hasExpiredRequests: `
    SELECT 1 FROM requests INDEXED BY requests_by_expiry WHERE expire_time_ms <= :now LIMIT 1`,
  removeExpiredAttempts: `
    DELETE FROM rate_limit_attempts WHERE (namespace, key, time_ms, total) IN (
      SELECT namespace, key, time_ms, total FROM rate_limit_attempts
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
export function listStatement(
  query: ListQuery & { readonly namespace: string },
  nowMs: number,
): ListStatement {
  const { namespace, userId, showExpired, showRevoked, order, limit } = query;
  const parameters: ListStatement["parameters"] = { namespace, limit };
  const conditions = ["namespace = :namespace", ...rangeConditions(query, parameters)];
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
