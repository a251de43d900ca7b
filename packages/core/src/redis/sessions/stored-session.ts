import { sessionState } from "../../sessions/session.js";
import type { ListQuery, StoredFacts, StoredSession } from "../../sessions/session-store.js";
import type { Argument } from "../connection/script.js";

/** The values of `SESSION_FIELDS` in a session's hash, null if it has none. */
export type Fields = readonly (Buffer | null)[];

/** The fields of a hash that exists. */
type PresentFields = readonly [
  userId: Buffer,
  record: Buffer,
  tokenHash: Buffer,
  facts: Buffer,
  replacedTokens: Buffer | null,
];

const NONE = new Uint8Array();

/** Whether there is a session. We never write a hash without facts. */
function exists(fields: Fields): boolean {
  const [, , , facts] = fields;
  return facts != null;
}

/** The session in a hash that exists, read at `readTimeMs`. */
export function toStoredSession(
  id: Argument,
  fields: Fields,
  readTimeMs: number | Buffer,
): StoredSession {
  const [userId, record, tokenHash, facts, replacedTokens] = fields as PresentFields;
  // Not a spread, which would take as long as parsing.
  return Object.assign(toStoredFacts(id, userId, facts, readTimeMs), {
    record,
    tokenHash,
    replacedTokens: replacedTokens ?? NONE,
  });
}

/** The facts in a hash that exists, read at `readTimeMs`. */
export function toStoredFacts(
  id: Argument,
  userId: Argument,
  facts: Buffer,
  readTimeMs: number | Buffer,
): StoredFacts {
  const [
    version,
    createTime,
    authenticateTime,
    lastAccessTime,
    idleTimeout,
    expireTime,
    absoluteExpireTime,
    tokenCreateTime,
    storeTime,
    revokeTime,
    ...reason
  ] = facts.toString().split(" ");
  return {
    id: String(id),
    userId: String(userId),
    version: Number(version),
    createTimeMs: Number(createTime),
    authenticateTimeMs: Number(authenticateTime),
    lastAccessTimeMs: Number(lastAccessTime),
    idleTimeoutMs: Number(idleTimeout),
    expireTimeMs: Number(expireTime),
    absoluteExpireTimeMs: Number(absoluteExpireTime),
    tokenCreateTimeMs: Number(tokenCreateTime),
    storeTimeMs: Number(storeTime),
    readTimeMs: Number(readTimeMs),
    // A reason may contain spaces.
    ...(revokeTime !== undefined && {
      revokeTimeMs: Number(revokeTime),
      revokeReason: reason.join(" "),
    }),
  };
}

/** The session in a hash, if it is active at `now`. */
export function activeSession(id: string, fields: Fields, now: number): StoredSession | undefined {
  if (!exists(fields)) return undefined;
  const session = toStoredSession(id, fields, now);
  return sessionState(session, now) === "active" ? session : undefined;
}

/** A list of the session in a hash, or an empty list if the query does not ask for its state. */
export function listedSession(
  id: string,
  fields: Fields,
  query: ListQuery,
  now: number,
): StoredSession[] {
  if (!exists(fields)) return [];
  const session = toStoredSession(id, fields, now);
  const state = sessionState(session, now);
  const isWanted =
    state === "active" ||
    (state === "expired" && query.showExpired) ||
    (state === "revoked" && query.showRevoked);
  return isWanted ? [session] : [];
}
