import type { EventLog } from "../watch/session-event.js";
import type { SessionFacts } from "./session.js";
import type { Partition } from "./session-id.js";

/** Where a session is kept. */
export interface SessionKey {
  readonly partition: Partition;
  readonly id: string;
}

/** The facts of a session, as a store had them. */
export interface StoredFacts extends SessionFacts {
  /** When all this was so, by the store's clock. */
  readonly readTimeMs: number;
}

/** A session as stores keep and return it. */
export interface StoredSession extends StoredFacts {
  /** The sealed content. Stores neither read nor change it. */
  readonly record: Uint8Array;
  /** SHA-256 of the token's secret; empty once the session is revoked. */
  readonly tokenHash: Uint8Array;
}

/** A session that was touched. */
export interface TouchedSession extends StoredFacts {
  /** The sealed content; absent only where the caller knows it by the version. */
  readonly record?: Uint8Array;
}

/** What `create` needs; the store adds the times. */
export interface NewSession {
  readonly key: SessionKey;
  readonly userId: string;
  readonly record: Uint8Array;
  readonly tokenHash: Uint8Array;
  readonly idleTimeoutMs: number;
  readonly lifetimeMs: number;
}

/** Whose write it is: that of a holder of a lock, who may have been overtaken by a later one. */
export interface Fence {
  /** The name of the lock. */
  readonly lock: string;
  /** The fencing token that it was acquired with. */
  readonly token: number;
}

/** How many locks the changes of one session may be fenced by: it remembers a token of each. */
export const MAX_FENCES_PER_SESSION = 8;

/** What happens to a user's sessions beyond the limit: the oldest go, or the new one is refused. */
export type LimitPolicy = "evict_oldest" | "reject";

/** How many active sessions a user may have. */
export interface SessionLimit {
  readonly maxSessionsPerUser: number;
  readonly policy: LimitPolicy;
}

/** A position in the order of creation: after this session. */
export interface ListCursor {
  readonly createTimeMs: number;
  readonly id: string;
}

/** Which sessions to list, and how many. */
export interface ListQuery {
  /** All users when undefined. */
  readonly userId?: string;
  readonly showExpired: boolean;
  readonly showRevoked: boolean;
  /** Created at this time or later. */
  readonly createTimeFromMs?: number;
  /** Created before this time. */
  readonly createTimeToMs?: number;
  /** By creation time, then by id. */
  readonly order: "asc" | "desc";
  readonly after?: ListCursor;
  /** At most this many sessions; positive. */
  readonly limit: number;
}

/** A page of sessions. */
export interface ListPage {
  readonly sessions: readonly StoredSession[];
  /** Where the next page starts; undefined when there is nothing more. */
  readonly next?: ListCursor;
}

/** A request that must take effect at most once, however often it is sent. */
export interface OnceOnly {
  /** Names the request, across all users: at most 200 characters, no spaces. */
  readonly key: string;
  /** What to answer a repetition with, sealed. */
  readonly record: Uint8Array;
  /** How long repetitions are recognised. */
  readonly keptForMs: number;
}

/** What `create` did. */
export interface Creation {
  /** The new session, without the content and token hash that the call brought. */
  readonly session: StoredFacts;
  /** Oldest first. */
  readonly evictedIds: readonly string[];
}

/** What an earlier call with the same request did. */
export interface RepeatedCreation {
  /** The record that the earlier call brought. */
  readonly repeated: Uint8Array;
  /** As it is now, in whatever state; undefined once it is removed for good. */
  readonly session: StoredSession | undefined;
  readonly evictedIds: readonly string[];
}

/** What a sweep did. */
export interface SweepResult {
  /** How many ended sessions were removed for good. */
  readonly reclaimed: number;
  /** How many index entries that disagreed with the sessions were put right. */
  readonly healed: number;
  /** Whether the sweep stopped at its limit with more left to do. */
  readonly more: boolean;
}

/**
 * Keeps sessions. These comments are the contract; the suite in
 * `testing/describe-session-store.ts` holds every store to it.
 *
 * - Time is the store's: one clock for all servers that share it. A session is
 *   active while `now < expireTimeMs` and it has not been revoked; the store
 *   decides, by comparing deadlines with its clock. Reclaiming memory is a
 *   separate matter and never what ends a session.
 * - Every method that changes something is one atomic step, indexes included.
 *   A change on a session that is not active changes nothing.
 * - A revocation is final: no call, however late, brings the session back. Ended
 *   sessions stay for the store's retention time, listed when asked for, and
 *   keep their id taken; `sweep` then removes them.
 * - A store that cannot answer throws STORE_UNAVAILABLE, within its time limit;
 *   whether a change was made is then not known. No other failure is thrown
 *   than those named here, and "not found" is never a failure.
 */
export interface SessionStore {
  /**
   * The changes of sessions. Each change but a touch and `reseal` appends its
   * events in the same atomic step, one for every session it changed.
   */
  readonly events: EventLog;

  /**
   * Adds a session, unless the key's id is taken, in any partition:
   * SESSION_ALREADY_EXISTS, whatever the limit says. At the limit it first revokes the user's oldest
   * sessions (by creation time, then id), or throws SESSION_LIMIT_REACHED,
   * as the policy says. Throws OVERLOADED where the store is full.
   *
   * `createTimeMs`, `authenticateTimeMs` and `lastAccessTimeMs` are now, the
   * version is 1, and the deadlines follow from the timeouts.
   */
  create(session: NewSession, limit: SessionLimit): Promise<Creation>;

  /**
   * As `create`, at most once for a request: a repetition changes nothing and
   * answers what is known of the first. Which of two calls with different
   * contents is a repetition the store does not judge, but one for a user of
   * another partition throws REQUEST_ID_REUSED. A call that failed, other than with
   * STORE_UNAVAILABLE, is as if it had not been made.
   */
  createOnce(
    request: OnceOnly,
    session: NewSession,
    limit: SessionLimit,
  ): Promise<Creation | RepeatedCreation>;

  /** The partition that an id chosen by a caller lives in, if any session with it exists. */
  partitionOf(chosenId: string): Promise<Partition | undefined>;

  /** The active session at `key`. */
  get(key: SessionKey): Promise<StoredSession | undefined>;

  /** The active sessions at `keys`, in their order. */
  getMany(keys: readonly SessionKey[]): Promise<readonly (StoredSession | undefined)[]>;

  /**
   * Records activity: the last access is now and the idle deadline a full idle
   * timeout away, though never past the absolute one and never earlier than it
   * was. Undefined where the session is not active or, when `tokenHash` is
   * given, has another one. The answer may leave out the sealed content where the session
   * is at `knownVersion`, which the caller has read already.
   */
  touch(
    key: SessionKey,
    tokenHash?: Uint8Array,
    knownVersion?: number,
  ): Promise<TouchedSession | undefined>;

  /**
   * Replaces the sealed content of an active session at exactly this version.
   * Answers the session's facts with its new version, `version_mismatch`, or undefined
   * where it is not active.
   *
   * With a fence, the token is remembered with the session in the same step, for as
   * long as the session is; `fenced` where a higher one of that lock is already,
   * whatever the version. Throws INVALID_ARGUMENT where the session has tokens of
   * `MAX_FENCES_PER_SESSION` other locks.
   */
  replaceRecord(
    key: SessionKey,
    version: number,
    record: Uint8Array,
    fence?: Fence,
  ): Promise<StoredFacts | "version_mismatch" | "fenced" | undefined>;

  /**
   * Replaces a sealed record, of a session in any state, if it is still exactly
   * `record`. Not a change of the session: its version stays, and there is no
   * event. Answers whether it did.
   */
  reseal(key: SessionKey, record: Uint8Array, resealed: Uint8Array): Promise<boolean>;

  /**
   * Replaces the token hash of an active session that has exactly
   * `tokenHash`; also a touch, and a new `authenticateTimeMs`. Undefined where
   * the session is not active or has another token hash.
   */
  rotateToken(
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
  ): Promise<StoredSession | undefined>;

  /**
   * Revokes an active session that has `tokenHash`, when given. Answers whether
   * it did.
   */
  revoke(key: SessionKey, reason: string, tokenHash?: Uint8Array): Promise<boolean>;

  /** Revokes all active sessions of a user but `exceptId`. Answers how many. */
  revokeUser(userId: string, reason: string, exceptId?: string): Promise<number>;

  /**
   * A page of sessions in the order of creation. A session that exists
   * throughout is on exactly one page, whatever else changes meanwhile. A page
   * may be short, even empty, where much that has ended lies in between; only
   * the one without `next` is the last.
   */
  list(query: ListQuery): Promise<ListPage>;

  /** How many sessions are active, of one user or of all. Exact. */
  count(userId?: string): Promise<number>;

  /**
   * Removes ended sessions whose retention is over, at most about `limit` of
   * them, and events older than that; checks a part of the indexes, another one
   * every time, and puts right what disagrees with the sessions. There may be
   * more to do though nothing was removed.
   */
  sweep(limit: number): Promise<SweepResult>;

  /** Returns when the store can serve; throws STORE_UNAVAILABLE otherwise. */
  check(): Promise<void>;

  /**
   * Lets go of what the store opened; twice is fine. Calls still under way, and
   * later ones, fail with STORE_UNAVAILABLE.
   */
  close(): Promise<void>;
}

/** The reason recorded with a session that had to go for a newer one. */
export const EVICTION_REASON = "session limit reached";
