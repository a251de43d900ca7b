/** Any JSON value. */
export type JsonValue = string | number | boolean | null | JsonValue[] | JsonObject;

/** A JSON object. */
export interface JsonObject {
  [key: string]: JsonValue;
}

/** Where a user logged in from. An empty string means unknown. */
export interface SessionClient {
  readonly ip: string;
  readonly userAgent: string;
  readonly device: string;
}

/** `expired` and `revoked` sessions appear only in lists, for the retention time. */
export type SessionState = "active" | "expired" | "revoked";

/** The sealed part of a stored session. */
export interface SessionContent {
  readonly displayName: string;
  readonly roles: readonly string[];
  readonly client: SessionClient;
  readonly data: JsonObject;
}

/** The part of a session that stores can read: plain, without secrets. */
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
  /** When the token was made: at creation or by the last rotation. */
  readonly tokenCreateTimeMs: number;
  /** Grows by one with every event of the session, but not with a touch. */
  readonly version: number;
  readonly revokeTimeMs?: number;
  readonly revokeReason?: string;
}

/** One login of one user. */
export interface Session extends SessionFacts, SessionContent {
  readonly state: SessionState;
  /** Opaque. Stays equal while fields, token and revocation are unchanged. */
  readonly etag: string;
}

/** The state of a session at a moment, by the store's clock. */
export function sessionState(session: SessionFacts, nowMs: number): SessionState {
  if (session.revokeTimeMs !== undefined) return "revoked";
  return nowMs < session.expireTimeMs ? "active" : "expired";
}

/** An etag has a time too: a later session with the same chosen id must not share it. */
export function sessionEtag(session: {
  readonly storeTimeMs: number;
  readonly version: number;
}): string {
  return `${session.storeTimeMs.toString(36)}-${session.version.toString(36)}`;
}
