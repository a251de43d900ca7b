import type { NamesOf } from "../known-names.js";
import { CALL_OPTIONS, type CallOptions } from "../options.js";
import type { SessionField } from "./session.js";

/** Options of `verifySession` and `batchVerifySessions`. */
export interface VerifySessionOptions extends CallOptions {
  /** True does not count the call as activity: the idle deadline stays. Default: false. */
  noTouch?: boolean | undefined;
}

/** Options of `getSession`. */
export interface GetSessionOptions extends CallOptions {
  /**
   * The session's user, if known. Saves the server a lookup for ids that the caller chose. A
   * session of another user is not found.
   */
  userId?: string;
}

/** Asks for some fields of a session only. The server neither reads nor sends the others. */
export interface FieldSelection<F extends SessionField> {
  fields: readonly F[];
}

/** Options of `updateSession`. */
export interface UpdateSessionOptions extends CallOptions {
  /** As in `getSession`. */
  userId?: string;

  /**
   * The etag that the session must have. If it has another, the call changes nothing and fails
   * with ETAG_MISMATCH. Default: no condition.
   */
  etag?: string;

  /**
   * A lock that the caller holds, with its fencing token. If a later holder has updated the
   * session with a fence, the call changes nothing and fails with LOCK_NOT_HELD. Default: no
   * condition.
   */
  fence?: Fence;
}

/** Keeps out a holder of a lock that has not noticed the end of its lease. */
export interface Fence {
  /** The lock's name. */
  readonly lock: string;

  /** The fencing token that `acquire` or `withLock` gave. */
  readonly token: number;
}

/** Options of `rotateSessionToken`. */
export interface RotateSessionTokenOptions extends CallOptions {
  /**
   * How long the old token still verifies, refreshes and revokes, in milliseconds, at most
   * 60 000. For a rotation from time to time: requests that are under way with the old token
   * succeed, and `authenticateTime` stays. The grace ends early when the session is revoked, its
   * token is replaced again, or its roles change.
   *
   * Default: 0, which is right after a login or a change of privilege.
   */
  graceMs?: number | undefined;

  /**
   * Names this rotation. Within 10 minutes, another rotation with the same id and the same old
   * token answers the same new token. Default: a new UUID, which is enough for the attempts of one
   * call.
   */
  requestId?: string | undefined;
}

/** Options of `revokeSession`. */
export interface RevokeSessionOptions extends CallOptions {
  /**
   * The session's user, only with a `sessionId`. The session of another user is not revoked, so
   * that users can be let revoke sessions by their ids.
   */
  userId?: string;

  /** The server keeps it with the revoked session, cut to 256 bytes. */
  reason?: string | undefined;
}

/** Options of `revokeUserSessions`. */
export interface RevokeUserSessionsOptions extends CallOptions {
  /** A session to spare, such as the user's current one. It must be an active one of the user. */
  exceptSessionId?: string;

  /** As in `revokeSession`. */
  reason?: string | undefined;
}

/** Options of `listAllSessions`. `timeoutMs` applies to each page. */
export interface ListAllSessionsOptions extends CallOptions {
  /**
   * Receives the ids of sessions that belong in the list but whose records the server cannot
   * unseal. Default: the list skips them.
   */
  onUnreadable?: ((sessionIds: readonly string[]) => void) | undefined;
}

/** The names of each method's options, for the check of what callers pass. */
export const OPTIONS = {
  verifySession: { ...CALL_OPTIONS, noTouch: true } satisfies NamesOf<VerifySessionOptions>,
  getSession: { ...CALL_OPTIONS, userId: true, fields: true } satisfies NamesOf<
    GetSessionOptions & FieldSelection<never>
  >,
  batchGetSessions: { ...CALL_OPTIONS, fields: true } satisfies NamesOf<
    CallOptions & FieldSelection<never>
  >,
  listAllSessions: {
    ...CALL_OPTIONS,
    onUnreadable: true,
  } satisfies NamesOf<ListAllSessionsOptions>,
  updateSession: {
    ...CALL_OPTIONS,
    userId: true,
    etag: true,
    fence: true,
  } satisfies NamesOf<UpdateSessionOptions>,
  rotateSessionToken: {
    ...CALL_OPTIONS,
    graceMs: true,
    requestId: true,
  } satisfies NamesOf<RotateSessionTokenOptions>,
  revokeSession: {
    ...CALL_OPTIONS,
    userId: true,
    reason: true,
  } satisfies NamesOf<RevokeSessionOptions>,
  revokeUserSessions: {
    ...CALL_OPTIONS,
    exceptSessionId: true,
    reason: true,
  } satisfies NamesOf<RevokeUserSessionsOptions>,
};
