import type { Author } from "../watch/author.js";
import type { EventLog } from "../watch/session-event.js";
import type { SessionFacts } from "./session.js";
import type { Partition } from "./session-id.js";

/** A session's partition and id. */
export interface SessionKey {
  readonly partition: Partition;
  readonly id: string;
}

/** The facts of a session at one moment. */
export interface StoredFacts extends SessionFacts {
  /** That moment, by the store's clock. */
  readonly readTimeMs: number;
  /**
   * When the store added the session, by its clock. With the id, it tells the session from a later
   * one: a caller may choose the id, and for a session that moves in the creation time, too.
   */
  readonly storeTimeMs: number;
}

/** A session as stores keep and return it. */
export interface StoredSession extends StoredFacts {
  /** The sealed content. Stores neither read nor change it. */
  readonly record: Uint8Array;
  /** SHA-256 of the token's secret, 32 bytes; empty once the session is revoked. */
  readonly tokenHash: Uint8Array;
  /** The tokens that rotations replaced, as `encodeReplacedTokens` writes them, or empty. */
  readonly replacedTokens: Uint8Array;
}

/** A session after a touch. */
export interface TouchedSession extends StoredFacts {
  /** The sealed content. Absent only if the caller named this version as known. */
  readonly record?: Uint8Array;
}

/** A session to create. The store adds the times. */
export interface NewSession {
  readonly key: SessionKey;
  readonly userId: string;
  readonly record: Uint8Array;
  readonly tokenHash: Uint8Array;
  readonly idleTimeoutMs: number;
  readonly lifetimeMs: number;
  /** The times of a session that moves in from another system, in ms since the Unix epoch. */
  readonly movedIn?: MovedInTimes;
}

/** The times of a session that moves in. Other times than `expireTimeMs` are at most now. */
export interface MovedInTimes {
  /** The lifetime counts from this time. Now by default. */
  readonly createTimeMs?: number | undefined;
  /** At least the creation time, which is the default. */
  readonly authenticateTimeMs?: number | undefined;
  /** The idle deadline: at most an idle timeout from now, which is the default. */
  readonly expireTimeMs?: number | undefined;
}

/** The lock that protects a write. The store refuses the write after a later holder's write. */
export interface Fence {
  /** The name of the lock. */
  readonly lock: string;
  /** The fencing token of the acquisition. */
  readonly token: number;
}

/** How many locks may fence one session, which stores one token for each. */
export const MAX_FENCES_PER_SESSION = 8;

/** At the limit, either the oldest sessions are revoked, or the new one is refused. */
export type LimitPolicy = "evict_oldest" | "reject";

/** How many active sessions a user may have. */
export interface SessionLimit {
  readonly maxSessionsPerUser: number;
  readonly policy: LimitPolicy;
}

/** The position after a session, in the order of creation. */
export interface ListCursor {
  readonly createTimeMs: number;
  readonly id: string;
}

/** A query for a page of sessions. */
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
  /** Where the next page starts. Absent on the last page. */
  readonly next?: ListCursor;
}

/** A request that takes effect at most once, however often it is sent. */
export interface OnceOnly {
  /** Unique across all users: at most 200 characters, no spaces. */
  readonly key: string;
  /** The sealed answer to a repetition. */
  readonly record: Uint8Array;
  /** How long repetitions are recognised. */
  readonly keptForMs: number;
}

/** The result of `create`. */
export interface Creation {
  /** The new session, without its content and token hash: the caller has these. */
  readonly session: StoredFacts;
  /** Oldest first. */
  readonly evictedIds: readonly string[];
}

/** The result of an earlier call with the same request. */
export interface RepeatedCreation {
  /** The record of the earlier call. */
  readonly repeated: Uint8Array;
  /** The session as it is now, in any state. Undefined once it is removed for good. */
  readonly session: StoredSession | undefined;
  readonly evictedIds: readonly string[];
}

/** The result of an earlier rotation with the same request. */
export interface RepeatedRotation {
  /** The record of the earlier call. */
  readonly repeated: Uint8Array;
  /** The session as it is now. */
  readonly session: StoredSession;
}

/** The result of a sweep. */
export interface SweepResult {
  /** How many sessions it found expired that no sweep had found before. */
  readonly expired: number;
  /** How many ended sessions were removed for good. */
  readonly reclaimed: number;
  /** How many index entries were corrected because they disagreed with the sessions. */
  readonly healed: number;
  /** Whether the sweep stopped at its limit with work left. */
  readonly more: boolean;
}

/**
 * Keeps sessions. These comments are the contract; the suite in `testing/describe-session-store.ts`
 * holds every store to it.
 *
 * - The store has one clock for all servers that share it. By this clock it decides what is active:
 *   a session while `now < expireTimeMs` that is not revoked. Reclaiming memory ends no session.
 * - Every method that changes something is one atomic step, indexes included. It changes nothing on
 *   a session that is not active.
 * - A revocation is final: no late call brings the session back. An ended session stays for the
 *   store's retention time: lists can show it, and its id stays taken. Then `sweep` removes it.
 * - A store that cannot answer throws STORE_UNAVAILABLE within its time limit. The caller then does
 *   not know whether the change was made. Methods throw only the errors named here, and "not found"
 *   is never an error.
 */
export interface SessionStore {
  /**
   * The sessions of a namespace. Namespaces share nothing: no id, user, limit, request, lock's
   * fence, list, count or event. A store is opened as its own view of "".
   *
   * Views share the connection and the clock, hold nothing to close, and cost so little that one
   * may be made for every call. The events of a view's changes name its author, by default nobody,
   * who is told of them. `namespaces`, `sweep`, `check` and `close` concern the whole store,
   * whichever view they are called on. Throws an Error for a name that `isNamespace` refuses.
   */
  namespace(name: string, author?: Author): SessionStore;

  /** The namespaces that may have sessions, "" always among them. Throws STORE_UNAVAILABLE. */
  namespaces(): Promise<readonly string[]>;

  /**
   * The changes of sessions. Every change except a touch and `reseal` appends one event for each
   * changed session, in the same atomic step.
   */
  readonly events: EventLog;

  /**
   * Adds a session. Throws SESSION_ALREADY_EXISTS if the id is taken in any partition, also at the
   * limit, and also for a session that moves in late. Throws INVALID_ARGUMENT if a session that
   * moves in would have ended already. At the limit the policy decides: it revokes the user's oldest sessions (by creation
   * time, then id) or throws SESSION_LIMIT_REACHED. Throws OVERLOADED if the store is full.
   *
   * The times are now, unless the session moves in with others, the version is 1, and the deadlines
   * follow from the timeouts.
   */
  create(session: NewSession, limit: SessionLimit): Promise<Creation>;

  /**
   * As `create`, at most once for a request: a repetition changes nothing and answers the result of
   * the first call. The store does not compare the contents of the two calls, but a repetition for
   * a user of another partition throws REQUEST_ID_REUSED. A call that throws anything but
   * STORE_UNAVAILABLE leaves no trace.
   */
  createOnce(
    request: OnceOnly,
    session: NewSession,
    limit: SessionLimit,
  ): Promise<Creation | RepeatedCreation>;

  /** The partition of a chosen id, if a session with this id exists. */
  partitionOf(chosenId: string): Promise<Partition | undefined>;

  /** The active session at `key`. */
  get(key: SessionKey): Promise<StoredSession | undefined>;

  /** The active sessions at `keys`, in their order. */
  getMany(keys: readonly SessionKey[]): Promise<readonly (StoredSession | undefined)[]>;

  /**
   * Records activity: the last access is now, and the idle deadline is a full idle timeout away.
   * The deadline never passes the absolute one and never moves back. Undefined if the session is
   * not active or `tokenHash` is given and proves nothing: it is neither the hash of the session's
   * token nor that of a replaced token in its grace. At `knownVersion` the answer may leave out the
   * sealed content, because the caller has it. May throw OVERLOADED if the store is full.
   */
  touch(
    key: SessionKey,
    tokenHash?: Uint8Array,
    knownVersion?: number,
  ): Promise<TouchedSession | undefined>;

  /**
   * Replaces the sealed content of an active session at exactly this version. Answers the facts
   * with the new version, `version_mismatch`, or undefined if the session is not active.
   *
   * With a fence, the same step stores the token with the session. Answers `fenced`, at any
   * version, if the session has a higher token of this lock. Throws INVALID_ARGUMENT if it has
   * tokens of `MAX_FENCES_PER_SESSION` other locks.
   *
   * With `endsGrace`, the same step ends the grace of all replaced tokens. Throws OVERLOADED if the
   * store is full.
   */
  replaceRecord(
    key: SessionKey,
    version: number,
    record: Uint8Array,
    fence?: Fence,
    endsGrace?: boolean,
  ): Promise<StoredFacts | "version_mismatch" | "fenced" | undefined>;

  /**
   * Replaces the sealed record of a session in any state, if it is still exactly `record`. The
   * version stays, and there is no event. Answers whether it replaced the record. Throws OVERLOADED
   * if the store is full.
   */
  reseal(key: SessionKey, record: Uint8Array, resealed: Uint8Array): Promise<boolean>;

  /**
   * Replaces the token hash of an active session, touches it and sets `tokenCreateTimeMs`.
   * Undefined if the session is not active or its hash is not `tokenHash`: a replaced token gets no
   * new one, not even in its grace.
   *
   * The session remembers its `MAX_REPLACED_TOKENS` newest replaced tokens. Without a grace, the
   * same step sets `authenticateTimeMs` and ends the grace of all replaced tokens: from then on they
   * prove nothing, even by a clock that is late.
   */
  rotateToken(
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs?: number,
  ): Promise<StoredSession | undefined>;

  /**
   * As `rotateToken`, and the session keeps the request of its newest rotation, if that had one. A
   * call with the same key changes nothing. It answers the record and the session if its
   * `tokenHash` is the one that the rotation replaced, or the session's own, and undefined otherwise:
   * nobody else learns of the request. The store does not compare the rest of the two calls. The
   * next rotation and the end of the session remove the request.
   */
  rotateTokenOnce(
    request: OnceOnly,
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs?: number,
  ): Promise<StoredSession | RepeatedRotation | undefined>;

  /**
   * Reports that a token was presented and refused. If the session is active and remembers it as
   * replaced, and its grace is over, this appends a `token_reused` event and adds a version, unless
   * the last such event is less than `REUSE_EVENT_INTERVAL_MS` old.
   *
   * With `revokes`, the same step also revokes the session for `REUSE_REASON`, if the token was
   * replaced, or its grace was over, more than `REUSE_TOLERANCE_MS` ago. Answers whether it revoked
   * the session.
   */
  reportReuse(key: SessionKey, tokenHash: Uint8Array, revokes: boolean): Promise<boolean>;

  /**
   * Revokes an active session, unless a given `tokenHash` proves nothing or it is not a given user's.
   * Answers whether it did.
   */
  revoke(
    key: SessionKey,
    reason: string,
    tokenHash?: Uint8Array,
    userId?: string,
  ): Promise<boolean>;

  /**
   * Revokes all active sessions of a user except `exceptId`. Answers how many, or undefined, and
   * revokes none, if `exceptId` is not an active session of the user.
   */
  revokeUser(userId: string, reason: string, exceptId?: string): Promise<number | undefined>;

  /**
   * A page of sessions in the order of creation. A session that exists throughout is on exactly one
   * page, whatever else changes meanwhile. A page may be short or empty if many ended sessions lie
   * in between. Only the page without `next` is the last.
   */
  list(query: ListQuery): Promise<ListPage>;

  /** How many sessions are active, of one user or of all. Exact. */
  count(userId?: string): Promise<number>;

  /**
   * Removes about `limit` sessions whose retention is over, and equally old events. Checks the next
   * part of the indexes and corrects entries that disagree with the sessions. Work may be left even
   * if nothing was removed.
   *
   * Expiry is no event, so sweeps count it: each expired session once, whoever sweeps and however
   * late. A session that was counted stays ended for every change, even if the clock is set back.
   */
  sweep(limit: number): Promise<SweepResult>;

  /**
   * Throws STORE_UNAVAILABLE if the store cannot serve. Answers a warning for the operator if it
   * serves only in part.
   */
  check(): Promise<string | undefined>;

  /**
   * Closes what the store opened. May be called twice. Pending and later calls fail with
   * STORE_UNAVAILABLE.
   */
  close(): Promise<void>;
}

/** The recorded reason of an eviction. */
export const EVICTION_REASON = "session limit reached";
