import type { SessionKey, StoredFacts, StoredSession } from "../sessions/session-store.js";
import type { FactRow, SessionRow, Statements } from "./statements.js";

/** The session at a key, if it is active. */
export function findSession(
  statements: Statements,
  namespace: string,
  { id, partition }: SessionKey,
  now: number,
): StoredSession | undefined {
  const row = statements.get.get(namespace, id, partition, now);
  return row && toStoredSession(row, now);
}

/** Makes a session of a row of all columns. */
export function toStoredSession(row: unknown, readTimeMs: number): StoredSession {
  const { 13: tokenHash, 14: replacedTokens, 15: record } = row as SessionRow;
  return Object.assign(toStoredFacts(row, readTimeMs), { tokenHash, replacedTokens, record });
}

/** Makes the facts of a session of a row that begins with them. */
export function toStoredFacts(row: unknown, readTimeMs: number): StoredFacts {
  const [
    id,
    userId,
    createTimeMs,
    authenticateTimeMs,
    lastAccessTimeMs,
    idleTimeoutMs,
    expireTimeMs,
    absoluteExpireTimeMs,
    tokenCreateTimeMs,
    storeTimeMs,
    version,
    revokeTimeMs,
    revokeReason,
  ] = row as FactRow;
  return {
    id,
    userId,
    createTimeMs,
    authenticateTimeMs,
    lastAccessTimeMs,
    idleTimeoutMs,
    expireTimeMs,
    absoluteExpireTimeMs,
    tokenCreateTimeMs,
    version,
    storeTimeMs,
    readTimeMs,
    ...(revokeTimeMs !== null && { revokeTimeMs }),
    ...(revokeReason !== null && { revokeReason }),
  };
}
