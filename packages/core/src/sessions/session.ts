/** Any JSON value. */
export type JsonValue = string | number | boolean | null | JsonValue[] | JsonObject;

/** A JSON object. */
export interface JsonObject {
  [key: string]: JsonValue;
}

/** Where a user logged in from. Empty strings stand for what is not known. */
export interface SessionClient {
  readonly ip: string;
  readonly userAgent: string;
  readonly device: string;
}

/** `expired` and `revoked` sessions are seen in lists only, for a while. */
export type SessionState = "active" | "expired" | "revoked";

/** The part of a session that is stored sealed. */
export interface SessionContent {
  readonly displayName: string;
  readonly roles: readonly string[];
  readonly client: SessionClient;
  readonly data: JsonObject;
}

/** The part of a session that stores read: plain, and no secret. */
export interface SessionFacts {
  readonly id: string;
  readonly userId: string;
  /** All times are milliseconds since the Unix epoch, by the store's clock. */
  readonly createTimeMs: number;
  readonly authenticateTimeMs: number;
  readonly lastAccessTimeMs: number;
  readonly idleTimeoutMs: number;
  /** The earlier of the idle deadline and `absoluteExpireTimeMs`. Alive before it, gone at it. */
  readonly expireTimeMs: number;
  readonly absoluteExpireTimeMs: number;
  /** Grows by one with every update, rotation and revocation; not with touches. */
  readonly version: number;
  readonly revokeTimeMs?: number;
  readonly revokeReason?: string;
}

/** One login of one user. */
export interface Session extends SessionFacts, SessionContent {
  readonly state: SessionState;
  /** Opaque; equal as long as fields, token and revocation are unchanged. */
  readonly etag: string;
}

/** The state of a session at a moment, by the store's clock. */
export function sessionState(session: SessionFacts, nowMs: number): SessionState {
  if (session.revokeTimeMs !== undefined) return "revoked";
  return nowMs < session.expireTimeMs ? "active" : "expired";
}

/**
 * The etag of a session. It carries the creation time beside the version, so
 * that a session created later under the same chosen id never shares one.
 */
export function sessionEtag(session: SessionFacts): string {
  return `${session.createTimeMs.toString(36)}-${session.version.toString(36)}`;
}
