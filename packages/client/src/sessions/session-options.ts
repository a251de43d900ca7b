import type { CallOptions } from "../options.js";
import type { SessionField } from "./session.js";

/** Options of `verifySession` and `batchVerifySessions`. */
export interface VerifySessionOptions extends CallOptions {
  /** Verify without counting as activity, so that the idle deadline does not move. */
  noTouch?: boolean | undefined;
}

/** Options of `getSession`. */
export interface GetSessionOptions extends CallOptions {
  /**
   * The session's user, where known. Saves the server a lookup for ids that the
   * caller chose; a session of another user is not found.
   */
  userId?: string;
}

/** Asks for some fields of a session alone, which saves reading and sending the others. */
export interface FieldSelection<F extends SessionField> {
  fields: readonly F[];
}

/** Options of `updateSession`. */
export interface UpdateSessionOptions extends CallOptions {
  /** As in `getSession`. */
  userId?: string;

  /**
   * The etag the session must still have; if it has another one nothing is
   * changed, and the call fails with ETAG_MISMATCH. Unconditional when left out.
   */
  etag?: string;

  /**
   * A lock that the caller has, and the fencing token it got with it; if a later
   * holder has updated the session with its own, nothing is changed, and the call
   * fails with LOCK_NOT_HELD. Unconditional when left out.
   */
  fence?: Fence;
}

/** Keeps out a holder of a lock whose lease has ended without its noticing. */
export interface Fence {
  /** The lock's name. */
  readonly lock: string;

  /** The fencing token that it was acquired with. */
  readonly token: number;
}

/** Options of `revokeSession`. */
export interface RevokeSessionOptions extends CallOptions {
  /** Kept with the revoked session; at most 256 bytes. */
  reason?: string | undefined;
}

/** Options of `revokeUserSessions`. */
export interface RevokeUserSessionsOptions extends RevokeSessionOptions {
  /** A session to spare, such as the one the user is looking at. */
  exceptSessionId?: string;
}

/** Options of `listAllSessions`. `timeoutMs` is that of each page. */
export interface ListAllSessionsOptions extends CallOptions {
  /**
   * Called with the ids of sessions that belong in the list but whose records
   * cannot be unsealed. Without it they are passed over.
   */
  onUnreadable?: ((sessionIds: readonly string[]) => void) | undefined;
}
