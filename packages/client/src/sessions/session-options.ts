import type { CallOptions } from "../options.js";
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

/** Options of `revokeSession`. */
export interface RevokeSessionOptions extends CallOptions {
  /** The server keeps it with the revoked session. At most 256 bytes. */
  reason?: string | undefined;
}

/** Options of `revokeUserSessions`. */
export interface RevokeUserSessionsOptions extends RevokeSessionOptions {
  /** A session to spare, such as the user's current one. */
  exceptSessionId?: string;
}

/** Options of `listAllSessions`. `timeoutMs` applies to each page. */
export interface ListAllSessionsOptions extends CallOptions {
  /**
   * Receives the ids of sessions that belong in the list but whose records the server cannot
   * unseal. Default: the list skips them.
   */
  onUnreadable?: ((sessionIds: readonly string[]) => void) | undefined;
}
