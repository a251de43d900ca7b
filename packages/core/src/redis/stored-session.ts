import { sessionState } from "../session.js";
import type { ListQuery, StoredSession } from "../session-store.js";

/** A session's hash as Redis answers it: a value for each of `SESSION_FIELDS`, null where it has none. */
export type Fields = readonly (Buffer | null)[];

/** The fields of a hash that exists; those of a revocation are null unless it is revoked. */
type PresentFields = readonly [
  userId: Buffer,
  record: Buffer,
  tokenHash: Buffer,
  version: Buffer,
  createTime: Buffer,
  authenticateTime: Buffer,
  lastAccessTime: Buffer,
  idleTimeout: Buffer,
  expireTime: Buffer,
  absoluteExpireTime: Buffer,
  revokeTime: Buffer | null,
  revokeReason: Buffer | null,
];

/** The session in a hash that exists, seen at `readTimeMs`. */
export function toStoredSession(id: string, fields: Fields, readTimeMs: number): StoredSession {
  const [
    userId,
    record,
    tokenHash,
    version,
    createTime,
    authenticateTime,
    lastAccessTime,
    idleTimeout,
    expireTime,
    absoluteExpireTime,
    revokeTime,
    revokeReason,
  ] = fields as PresentFields;
  return {
    id,
    userId: userId.toString(),
    record,
    tokenHash,
    version: toNumber(version),
    createTimeMs: toNumber(createTime),
    authenticateTimeMs: toNumber(authenticateTime),
    lastAccessTimeMs: toNumber(lastAccessTime),
    idleTimeoutMs: toNumber(idleTimeout),
    expireTimeMs: toNumber(expireTime),
    absoluteExpireTimeMs: toNumber(absoluteExpireTime),
    readTimeMs,
    ...(revokeTime && {
      revokeTimeMs: toNumber(revokeTime),
      revokeReason: revokeReason?.toString() ?? "",
    }),
  };
}

/** The session in a hash, if it exists and is active at `now`. */
export function activeSession(id: string, fields: Fields, now: number): StoredSession | undefined {
  if (!fields[0]) return undefined;
  const session = toStoredSession(id, fields, now);
  return sessionState(session, now) === "active" ? session : undefined;
}

/** The session that a script answered as `{ now, fields }`, if it answered one. */
export function repliedSession(id: string, reply: unknown): StoredSession | undefined {
  if (reply === null) return undefined;
  const [now, fields] = reply as [Buffer, Fields];
  return toStoredSession(id, fields, Number(now));
}

/** The session in a hash, in a list of its own, or none if the query does not ask for its kind. */
export function listedSession(
  id: string,
  fields: Fields,
  query: ListQuery,
  now: number,
): StoredSession[] {
  if (!fields[0]) return [];
  const session = toStoredSession(id, fields, now);
  const state = sessionState(session, now);
  const isWanted =
    state === "active" ||
    (state === "expired" && query.showExpired) ||
    (state === "revoked" && query.showRevoked);
  return isWanted ? [session] : [];
}

function toNumber(digits: Buffer): number {
  return Number(digits.toString("latin1"));
}
