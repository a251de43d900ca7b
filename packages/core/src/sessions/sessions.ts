import { invalidArgument, SessiondError, sessionNotFound, settle } from "../errors.js";
import type { Places } from "../places.js";
import { checkBatchSize, checkText, LIMITS } from "../validation.js";
import { SessionWatches, type WatchMessage, type WatchSessions } from "../watch/session-watch.js";
import type { CreateSession } from "./create-request.js";
import { type CreatedSession, createSession } from "./create-session.js";
import { keptText } from "./descriptions.js";
import type { Keyring } from "./keyring.js";
import { type ListSessions, listSessions, type SessionPage } from "./list-sessions.js";
import { findReplacedToken, isProof } from "./replaced-tokens.js";
import { checkGrace, type RotatedToken, type RotateToken, replaceToken } from "./rotate-token.js";
import type { Session } from "./session.js";
import { checkFence, checkRequestId, checkSessionId, checkUserId } from "./session-checks.js";
import { isGeneratedId, partitionOfUser } from "./session-id.js";
import { DEFAULT_SESSION_POLICY, type SessionPolicy } from "./session-policy.js";
import { unsealSession } from "./session-record.js";
import type { SessionKey, SessionStore, StoredSession, TouchedSession } from "./session-store.js";
import type { SessionUpdate } from "./session-update.js";
import { authorOfEvents, NOBODY_CALLS, type SessionsAuthor } from "./sessions-author.js";
import { proofOf, type TokenProof } from "./token-proof.js";
import {
  findActive,
  SessionUpdates,
  type UpdateConditions,
  type UpdatedSession,
} from "./update-session.js";

/** A session, named by its id or proven by its token. */
export type SessionTarget = { readonly sessionId: string } | { readonly token: string };

/**
 * Verifying touches a session once this part of its idle timeout has passed since the last touch, or
 * would be gained. More is gained only if the session moved in near its end.
 */
const TOUCH_FRACTION = 0.1;

/** What the sessions of a namespace are made of. */
export interface SessionsOptions {
  readonly store: SessionStore;
  readonly keyring: Keyring;
  /** Absent fields are as in `DEFAULT_SESSION_POLICY`. */
  readonly policy?: Partial<SessionPolicy>;
  /** Whose sessions these are, as `isNamespace` has it. "" by default. */
  readonly namespace?: string;
  /** The places for watches that this server's namespaces share. */
  readonly watchPlaces?: Places;
  /** Called after activity that is not written, because the last one was so recently. */
  readonly onTouchSpared?: () => void;
}

/**
 * The sessions of all users of a namespace: validates, makes ids and tokens, seals and unseals. The store does
 * what must be atomic. Every method may throw STORE_UNAVAILABLE, and INVALID_ARGUMENT naming the
 * field.
 */
export class Sessions {
  readonly #store: SessionStore;
  readonly #keyring: Keyring;
  readonly #namespace: string;
  readonly #policy: SessionPolicy;
  readonly #updates: SessionUpdates;
  readonly #watches: SessionWatches;
  readonly #onTouchSpared: () => void;
  readonly #author: SessionsAuthor;
  #authored: SessionStore | undefined;

  constructor(options: SessionsOptions | Sessions, author: SessionsAuthor = NOBODY_CALLS) {
    this.#author = author;
    if (options instanceof Sessions) {
      this.#store = options.#store;
      this.#keyring = options.#keyring;
      this.#namespace = options.#namespace;
      this.#policy = options.#policy;
      this.#updates = options.#updates;
      this.#watches = options.#watches;
      this.#onTouchSpared = options.#onTouchSpared;
      return;
    }
    const { namespace = "", watchPlaces: places } = options;
    this.#namespace = namespace;
    this.#store = options.store.namespace(namespace);
    this.#keyring = options.keyring.forNamespace(namespace);
    this.#watches = new SessionWatches(this.#store.events, {
      namespace,
      ...(places && { places }),
    });
    this.#updates = new SessionUpdates(this.#keyring);
    this.#policy = { ...DEFAULT_SESSION_POLICY, ...options.policy };
    this.#onTouchSpared = options.onTouchSpared ?? (() => {});
  }

  /** The same sessions for an author's calls. Costs so little that each call may have its own. */
  by(author: SessionsAuthor): Sessions {
    return new Sessions(this, author);
  }

  /** The number of open watches. */
  get watches(): number {
    return this.#watches.size;
  }

  /** How far behind the open watches may be, in ms; 0 without any. */
  get watchLagMs(): number {
    return this.#watches.lagMs;
  }

  /**
   * Starts a session. Throws SESSION_ALREADY_EXISTS if a chosen id is taken and, under the policy
   * `reject`, SESSION_LIMIT_REACHED.
   *
   * With a request id, a repetition answers the session as it is now, ended or not. Throws
   * REQUEST_ID_REUSED if the first request asked for something else, SESSION_NOT_FOUND if the
   * session is gone for good, and SESSION_UNREADABLE if the first request's record does not open.
   *
   * With a `tokenHash`, a session of another system moves in: its credential is then its token.
   */
  async create(input: CreateSession): Promise<CreatedSession> {
    try {
      return await createSession(this.#changes, this.#keyring, this.#policy, input);
    } catch (error) {
      if (error instanceof SessiondError && error.reason === "SESSION_LIMIT_REACHED") {
        this.#author.limitReached(input.userId, this.#policy.maxSessionsPerUser);
      }
      throw error;
    }
  }

  /** The session of a token. Counts as activity if `touch` is true. Throws SESSION_NOT_FOUND. */
  async verify(token: string, { touch = true } = {}): Promise<Session> {
    const proven = proofOf(this.#store, token);
    const proof = proven instanceof Promise ? await proven : proven;
    return this.#verified(proof, await this.#store.get(proof.key), touch);
  }

  /** Verifies 1 to 1000 tokens. Answers a session or an error for each, in their order. */
  async verifyMany(
    tokens: readonly string[],
    { touch = true } = {},
  ): Promise<readonly (Session | SessiondError)[]> {
    checkBatchSize("tokens", tokens.length);
    const proofs = await Promise.all(
      tokens.map((token) => settle(() => proofOf(this.#store, token))),
    );
    const found = await this.#getInOrder(proofs, ({ key }) => key);
    return Promise.all(
      proofs.map((proof, i) =>
        settle(() => {
          if (proof instanceof SessiondError) throw proof;
          return this.#verified(proof, found[i], touch);
        }),
      ),
    );
  }

  /** An active session. Throws SESSION_NOT_FOUND, also if it is not `userId`'s. */
  async get(
    sessionId: string,
    { userId }: { readonly userId?: string | undefined } = {},
  ): Promise<Session> {
    const key = await this.#locate(sessionId, userId);
    return unsealSession(this.#keyring, await findActive(this.#store, key, userId));
  }

  /** Reads 1 to 1000 active sessions. Answers a session or an error for each, in their order. */
  async getMany(sessionIds: readonly string[]): Promise<readonly (Session | SessiondError)[]> {
    checkBatchSize("session_ids", sessionIds.length);
    const keys = await Promise.all(sessionIds.map((id) => settle(() => this.#locate(id))));
    const found = await this.#getInOrder(keys, (key) => key);
    return Promise.all(
      keys.map((key, i) =>
        settle(() => {
          if (key instanceof SessiondError) throw key;
          const stored = found[i];
          if (stored === undefined) throw sessionNotFound();
          return unsealSession(this.#keyring, stored);
        }),
      ),
    );
  }

  /** A page of sessions, as `listSessions` reads it. */
  list(request: ListSessions): Promise<SessionPage> {
    return listSessions(this.#store, this.#keyring, this.#namespace, request);
  }

  /** How many sessions are active, of one user or of all. */
  async count(userId?: string): Promise<number> {
    if (userId !== undefined) checkUserId("user_id", userId);
    return this.#store.count(userId);
  }

  /**
   * Changes some fields of an active session. Throws SESSION_NOT_FOUND, ETAG_MISMATCH if a given
   * `etag` is not the session's, OVERLOADED if too many servers update the session at once, and
   * STORE_UNAVAILABLE also if the store is so slow that the change would come too late.
   *
   * With a `fence`, throws LOCK_NOT_HELD and changes nothing if a later holder of the lock has
   * updated the session. At most 8 locks can fence a session.
   */
  async update(
    sessionId: string,
    update: SessionUpdate,
    conditions: UpdateConditions = {},
  ): Promise<UpdatedSession> {
    const { userId, etag, fence } = conditions;
    if (fence !== undefined) checkFence("fence", fence);
    if (etag !== undefined) checkText("etag", etag, LIMITS.etagBytes);
    return this.#updates.update(
      this.#changes,
      () => this.#locate(sessionId, userId),
      update,
      conditions,
    );
  }

  /** Moves the idle deadline to a full idle timeout from now. Throws SESSION_NOT_FOUND. */
  async refresh(target: SessionTarget): Promise<Session> {
    const { key, tokenHash } = await this.#resolve(target);
    const touched = await this.#store.touch(key, tokenHash);
    if (touched === undefined) {
      await this.#reportRefusal(key, tokenHash);
      throw sessionNotFound();
    }
    const { record } = touched;
    if (record === undefined) throw new Error("a touch left out a record that nobody had read");
    return unsealSession(this.#keyring, { ...touched, record });
  }

  /**
   * Replaces a session's token. The old one stops working at once, or after a grace. Throws
   * SESSION_NOT_FOUND. With a request id, a repetition answers the same token, and throws
   * REQUEST_ID_REUSED if the first request asked for something else.
   */
  async rotateToken(token: string, options: RotateToken = {}): Promise<RotatedToken> {
    if (options.graceMs !== undefined) checkGrace("grace", options.graceMs);
    if (options.requestId !== undefined) checkRequestId("request_id", options.requestId);
    const proof = await proofOf(this.#store, token);
    const rotated = await replaceToken(this.#changes, this.#keyring, proof, options);
    if (rotated !== undefined) return rotated;
    await this.#reportRefusal(proof.key, proof.tokenHash);
    throw sessionNotFound();
  }

  /**
   * Ends a session for good. Answers whether this call did. An inactive session is no error, and a
   * session that is not a given `userId`'s is none either. Only an id may come with a user.
   */
  async revoke(target: SessionTarget, reason = "", userId?: string): Promise<boolean> {
    if (userId !== undefined && "token" in target) {
      throw invalidArgument("user_id", "expected only with a session_id");
    }
    const resolved = await settle(() => this.#resolve(target, userId));
    if (resolved instanceof SessiondError) {
      if (resolved.reason === "SESSION_NOT_FOUND") return false;
      throw resolved;
    }
    const { key, tokenHash } = resolved;
    const keptReason = keptText("reason", reason, LIMITS.reasonBytes);
    const isRevoked = await this.#changes.revoke(key, keptReason, tokenHash, userId);
    if (!isRevoked) await this.#reportRefusal(key, tokenHash);
    return isRevoked;
  }

  /**
   * Ends all sessions of a user except `exceptSessionId`. Answers how many this call ended. Throws
   * SESSION_NOT_FOUND, and ends none, if the one to keep is not an active session of the user.
   */
  async revokeUser(
    userId: string,
    options: { readonly exceptSessionId?: string | undefined; readonly reason?: string } = {},
  ): Promise<number> {
    const { exceptSessionId, reason = "" } = options;
    checkUserId("user_id", userId);
    if (exceptSessionId !== undefined) checkSessionId("except_session_id", exceptSessionId);
    const keptReason = keptText("reason", reason, LIMITS.reasonBytes);
    const revoked = await this.#changes.revokeUser(userId, keptReason, exceptSessionId);
    if (revoked === undefined) throw sessionNotFound();
    return revoked;
  }

  /**
   * Reports changes as they happen, as `SessionWatches.watch` says. Asking for the first message
   * throws the errors of the request.
   */
  async *watch(request: WatchSessions): AsyncGenerator<WatchMessage, never, undefined> {
    if (request.userId !== undefined) checkUserId("user_id", request.userId);
    return yield* this.#watches.watch(request);
  }

  /** The author's view of the store, made once there is something to change: few calls need it. */
  get #changes(): SessionStore {
    if (this.#author === NOBODY_CALLS) return this.#store;
    this.#authored ??= this.#store.namespace(this.#namespace, authorOfEvents(this.#author));
    return this.#authored;
  }

  /** The session of a token. `stored` is the active session at the token's key, if there is one. */
  #verified(
    { key, tokenHash }: TokenProof,
    stored: StoredSession | undefined,
    touch: boolean,
  ): Session | Promise<Session> {
    if (stored === undefined) throw sessionNotFound();
    if (!isProof(stored, tokenHash, stored.readTimeMs)) return this.#refuse(key, tokenHash, stored);
    if (touch && isTouchDue(stored)) return this.#touched(key, tokenHash, stored);
    if (touch) this.#onTouchSpared();
    return unsealSession(this.#keyring, stored);
  }

  async #refuse(key: SessionKey, tokenHash: Uint8Array, stored: StoredSession): Promise<never> {
    // A report takes time, and that tells something. So only a token that the session had is reported.
    if (findReplacedToken(stored.replacedTokens, tokenHash) !== undefined) {
      await this.#reportRefusal(key, tokenHash);
    }
    throw sessionNotFound();
  }

  /**
   * A token that was refused may have been replaced and then stolen. Throws STORE_UNAVAILABLE only if
   * the session may have to end: the event alone is not worth a failure.
   */
  async #reportRefusal(key: SessionKey, tokenHash: Uint8Array | undefined): Promise<void> {
    if (tokenHash === undefined) return;
    const revokes = this.#policy.onTokenReuse === "revoke";
    try {
      await this.#changes.reportReuse(key, tokenHash, revokes);
    } catch (error) {
      const isUnavailable = error instanceof SessiondError && error.reason === "STORE_UNAVAILABLE";
      if (revokes || !isUnavailable) throw error;
    }
  }

  async #touched(key: SessionKey, tokenHash: Uint8Array, stored: StoredSession): Promise<Session> {
    const touched = await this.#touch(key, tokenHash, stored);
    if (touched === undefined) throw sessionNotFound();
    return unsealSession(this.#keyring, { ...stored, ...touched });
  }

  /** A full store may have no room to record activity. Its sessions verify nevertheless. */
  async #touch(
    key: SessionKey,
    tokenHash: Uint8Array,
    stored: StoredSession,
  ): Promise<TouchedSession | undefined> {
    try {
      return await this.#store.touch(key, tokenHash, stored.version);
    } catch (error) {
      if (error instanceof SessiondError && error.reason === "OVERLOADED") return stored;
      throw error;
    }
  }

  /**
   * The key of a target's session and, for a token, the hash that the session must still have. The
   * store compares the hash: it may have to wait for a replica before it can call a session
   * revoked.
   */
  async #resolve(
    target: SessionTarget,
    userId?: string,
  ): Promise<{ readonly key: SessionKey; readonly tokenHash?: Uint8Array }> {
    return "token" in target
      ? proofOf(this.#store, target.token)
      : { key: await this.#locate(target.sessionId, userId) };
  }

  async #locate(id: string, userId?: string): Promise<SessionKey> {
    checkSessionId("session_id", id);
    if (userId !== undefined) checkUserId("user_id", userId);
    if (isGeneratedId(id)) return { id, partition: id.slice(0, 2) };
    if (userId !== undefined) return { id, partition: partitionOfUser(userId) };
    const partition = await this.#store.partitionOf(id);
    if (partition === undefined) throw sessionNotFound();
    return { id, partition };
  }

  /** Reads the sessions of the keys that were found. An error's position stays undefined. */
  async #getInOrder<T>(
    found: readonly (T | SessiondError)[],
    keyOf: (found: T) => SessionKey,
  ): Promise<readonly (StoredSession | undefined)[]> {
    const keys = found.flatMap((one) => (one instanceof SessiondError ? [] : [keyOf(one)]));
    const stored = keys.length > 0 ? await this.#store.getMany(keys) : [];
    let next = 0;
    return found.map((one) => (one instanceof SessiondError ? undefined : stored[next++]));
  }
}

/** Whether a session's activity is to be recorded. A hot session must cost few writes. */
function isTouchDue(session: StoredSession): boolean {
  const { readTimeMs, lastAccessTimeMs, idleTimeoutMs, expireTimeMs } = session;
  const quietMs = readTimeMs - lastAccessTimeMs;
  const deadlineMs = Math.min(readTimeMs + idleTimeoutMs, session.absoluteExpireTimeMs);
  return Math.max(quietMs, deadlineMs - expireTimeMs) >= idleTimeoutMs * TOUCH_FRACTION;
}
