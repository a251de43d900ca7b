import { SessiondError, sessionNotFound, settle } from "../errors.js";
import { checkBatchSize, checkDuration, checkRequired, checkText, LIMITS } from "../validation.js";
import { SessionWatches, type WatchMessage, type WatchSessions } from "../watch/session-watch.js";
import {
  type CreateSession,
  contentOf,
  createRequestKey,
  fingerprintOfRequest,
  REQUEST_KEPT_FOR_MS,
  sealCreateRequest,
  secretOfRepetition,
} from "./create-request.js";
import type { Keyring } from "./keyring.js";
import { type ListSessions, listSessions, type SessionPage } from "./list-sessions.js";
import type { Session, SessionContent } from "./session.js";
import {
  checkChosenId,
  checkFence,
  checkRequestId,
  checkSessionId,
  checkUserId,
} from "./session-checks.js";
import { generateSessionId, isGeneratedId, partitionOfUser } from "./session-id.js";
import { sealContent, toSession, unsealSession } from "./session-record.js";
import type {
  NewSession,
  SessionKey,
  SessionLimit,
  SessionStore,
  StoredSession,
} from "./session-store.js";
import {
  formatSessionToken,
  generateSecret,
  hashesEqual,
  hashSecret,
  parseSessionToken,
} from "./session-token.js";
import { checkUpdate, type SessionUpdate } from "./session-update.js";
import { findActive, SessionUpdates, type UpdateConditions } from "./update-session.js";

/** How sessions behave, unless a call says otherwise within the maxima. */
export interface SessionPolicy extends SessionLimit {
  readonly idleTimeoutMs: number;
  readonly lifetimeMs: number;
  /** The most that a call may ask for, of either timeout. */
  readonly maxLifetimeMs: number;
}

/** 30 minutes idle, 24 hours in all, a year at most; 10 sessions per user, the oldest make room. */
export const DEFAULT_SESSION_POLICY: SessionPolicy = {
  idleTimeoutMs: 30 * 60_000,
  lifetimeMs: 24 * 3_600_000,
  maxLifetimeMs: 365 * 24 * 3_600_000,
  maxSessionsPerUser: 10,
  policy: "evict_oldest",
};

/** What `Sessions.create` answers. */
export interface CreatedSession {
  readonly session: Session;
  readonly token: string;
  /** Oldest first. */
  readonly evictedSessionIds: readonly string[];
}

/** A session named by its id, or proven by its token. */
export type SessionTarget = { readonly sessionId: string } | { readonly token: string };

/** Verifying counts as activity once this part of the idle timeout has passed since the last. */
const TOUCH_FRACTION = 0.1;
/**
 * The sessions of all users: validates, makes ids and tokens, seals and unseals,
 * and leaves to the store what must be atomic. Every method may throw
 * STORE_UNAVAILABLE; methods that take input, INVALID_ARGUMENT naming the field.
 */
export class Sessions {
  readonly #store: SessionStore;
  readonly #keyring: Keyring;
  readonly #policy: SessionPolicy;
  readonly #updates: SessionUpdates;
  readonly #watches: SessionWatches;

  constructor(options: {
    readonly store: SessionStore;
    readonly keyring: Keyring;
    /** What is absent is as in `DEFAULT_SESSION_POLICY`. */
    readonly policy?: Partial<SessionPolicy>;
  }) {
    this.#store = options.store;
    this.#watches = new SessionWatches(options.store.events);
    this.#keyring = options.keyring;
    this.#updates = new SessionUpdates(options.store, options.keyring);
    this.#policy = { ...DEFAULT_SESSION_POLICY, ...options.policy };
  }

  /**
   * Starts a session. Throws SESSION_ALREADY_EXISTS for a chosen id that is
   * taken and, under the policy `reject`, SESSION_LIMIT_REACHED.
   *
   * With a request id, a repetition answers the session as it is now, ended or
   * not. Throws REQUEST_ID_REUSED where the first asked for something else,
   * SESSION_NOT_FOUND where the session is gone for good, and SESSION_UNREADABLE
   * where what is remembered of the first cannot be unsealed.
   */
  async create(input: CreateSession): Promise<CreatedSession> {
    const idleTimeoutMs = input.idleTimeoutMs ?? this.#policy.idleTimeoutMs;
    const lifetimeMs = input.lifetimeMs ?? this.#policy.lifetimeMs;
    checkUserId("user_id", input.userId);
    checkDuration("idle_timeout", idleTimeoutMs, this.#policy.maxLifetimeMs);
    checkDuration("lifetime", lifetimeMs, this.#policy.maxLifetimeMs);
    if (input.sessionId !== undefined) checkChosenId("session_id", input.sessionId);
    if (input.requestId !== undefined) checkRequestId("request_id", input.requestId);
    const content = contentOf(input);

    const partition = partitionOfUser(input.userId);
    const id = input.sessionId ?? generateSessionId(partition);
    const secret = generateSecret();
    const newSession = {
      key: { partition, id },
      userId: input.userId,
      record: sealContent(this.#keyring, { id, userId: input.userId }, content),
      tokenHash: hashSecret(secret),
      idleTimeoutMs,
      lifetimeMs,
    };
    if (input.requestId !== undefined) {
      const key = createRequestKey(input.caller ?? "", input.requestId);
      return this.#createOnce(
        key,
        fingerprintOfRequest(input, content),
        newSession,
        content,
        secret,
      );
    }
    const { session, evictedIds } = await this.#store.create(newSession, this.#policy);
    return createdSession(newSession.key, toSession(session, content), secret, evictedIds);
  }

  async #createOnce(
    key: string,
    fingerprint: string,
    newSession: NewSession,
    content: SessionContent,
    secret: Uint8Array,
  ): Promise<CreatedSession> {
    const record = sealCreateRequest(this.#keyring, key, { fingerprint, secret });
    const request = { key, record, keptForMs: REQUEST_KEPT_FOR_MS };
    const creation = await this.#store.createOnce(request, newSession, this.#policy);
    const { evictedIds } = creation;
    if (!("repeated" in creation)) {
      const session = toSession(creation.session, content);
      return createdSession(newSession.key, session, secret, evictedIds);
    }
    const firstSecret = secretOfRepetition(this.#keyring, key, creation.repeated, fingerprint);
    if (creation.session === undefined) throw sessionNotFound();
    // Of the same user, or the fingerprint would be another.
    const firstKey = { partition: newSession.key.partition, id: creation.session.id };
    const session = unsealSession(this.#keyring, creation.session);
    return createdSession(firstKey, session, firstSecret, evictedIds);
  }

  /** The session a token proves. Counts as activity unless `touch` is false. Throws SESSION_NOT_FOUND. */
  async verify(token: string, { touch = true } = {}): Promise<Session> {
    const { key, tokenHash } = provenBy(token);
    return this.#verified(key, tokenHash, await this.#store.get(key), touch);
  }

  /** Verifies 1 to 1000 tokens. Each fails for itself; the errors stand in their places. */
  async verifyMany(
    tokens: readonly string[],
    { touch = true } = {},
  ): Promise<readonly (Session | SessiondError)[]> {
    checkBatchSize("tokens", tokens.length);
    const proofs = await Promise.all(tokens.map((token) => settle(() => provenBy(token))));
    const found = await this.#getInOrder(proofs, ({ key }) => key);
    return Promise.all(
      proofs.map((proof, i) =>
        settle(() => {
          if (proof instanceof SessiondError) throw proof;
          return this.#verified(proof.key, proof.tokenHash, found[i], touch);
        }),
      ),
    );
  }

  /** An active session. Throws SESSION_NOT_FOUND, also where it is not `userId`'s. */
  async get(
    sessionId: string,
    { userId }: { readonly userId?: string | undefined } = {},
  ): Promise<Session> {
    const key = await this.#locate(sessionId, userId);
    return unsealSession(this.#keyring, await findActive(this.#store, key, userId));
  }

  /** Reads 1 to 1000 active sessions. Each fails for itself; the errors stand in their places. */
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
    return listSessions(this.#store, this.#keyring, request);
  }

  /** How many sessions are active, of one user or of all. */
  async count(userId?: string): Promise<number> {
    if (userId !== undefined) checkUserId("user_id", userId);
    return this.#store.count(userId);
  }

  /**
   * Changes some fields of an active session. Throws SESSION_NOT_FOUND;
   * ETAG_MISMATCH where `etag` is given and is not the session's; OVERLOADED
   * where too many servers update the session at once; STORE_UNAVAILABLE also
   * where the store is so slow that the change would come long after it was asked for.
   *
   * With a `fence`, throws LOCK_NOT_HELD and changes nothing where a later holder of
   * that lock has updated the session; a session can be fenced by 8 locks.
   */
  async update(
    sessionId: string,
    update: SessionUpdate,
    conditions: UpdateConditions = {},
  ): Promise<Session> {
    const { userId, etag, fence } = conditions;
    checkUpdate(update);
    if (fence !== undefined) checkFence("fence", fence);
    if (etag !== undefined) checkText("etag", etag, LIMITS.etagBytes);
    return this.#updates.update(() => this.#locate(sessionId, userId), update, conditions);
  }

  /** Moves the idle deadline to a full idle timeout from now. Throws SESSION_NOT_FOUND. */
  async refresh(target: SessionTarget): Promise<Session> {
    const { key, tokenHash } = await this.#resolve(target);
    const touched = await this.#store.touch(key, tokenHash);
    if (touched === undefined) throw sessionNotFound();
    const { record } = touched;
    if (record === undefined) throw new Error("a touch left out a record that nobody had read");
    return unsealSession(this.#keyring, { ...touched, record });
  }

  /** Replaces a session's token; the old one is dead at once. Throws SESSION_NOT_FOUND. */
  async rotateToken(token: string): Promise<{ readonly session: Session; readonly token: string }> {
    const { key, tokenHash } = provenBy(token);
    const secret = generateSecret();
    const rotated = await this.#store.rotateToken(key, tokenHash, hashSecret(secret));
    if (rotated === undefined) throw sessionNotFound();
    return { session: unsealSession(this.#keyring, rotated), token: tokenOf(key, secret) };
  }

  /** Ends a session for good. Answers whether this call did; what is not active is no error. */
  async revoke(target: SessionTarget, reason = ""): Promise<boolean> {
    checkText("reason", reason, LIMITS.reasonBytes);
    const resolved = await settle(() => this.#resolve(target));
    if (resolved instanceof SessiondError) {
      if (resolved.reason === "SESSION_NOT_FOUND") return false;
      throw resolved;
    }
    return this.#store.revoke(resolved.key, reason, resolved.tokenHash);
  }

  /** Ends all sessions of a user, but `exceptSessionId`. Answers how many this call ended. */
  async revokeUser(
    userId: string,
    options: { readonly exceptSessionId?: string | undefined; readonly reason?: string } = {},
  ): Promise<number> {
    const { exceptSessionId, reason = "" } = options;
    checkUserId("user_id", userId);
    if (exceptSessionId !== undefined) checkSessionId("except_session_id", exceptSessionId);
    checkText("reason", reason, LIMITS.reasonBytes);
    return this.#store.revokeUser(userId, reason, exceptSessionId);
  }

  /**
   * Tells of changes as they happen; see `SessionWatches.watch`. What is wrong with
   * the request is thrown with the first message asked for.
   */
  async *watch(request: WatchSessions): AsyncGenerator<WatchMessage, never, undefined> {
    if (request.userId !== undefined) checkUserId("user_id", request.userId);
    return yield* this.#watches.watch(request);
  }

  /** The session that a token proves, as the store has it: undefined where none is active at its key. */
  async #verified(
    key: SessionKey,
    tokenHash: Uint8Array,
    stored: StoredSession | undefined,
    touch: boolean,
  ): Promise<Session> {
    if (stored === undefined || !hashesEqual(stored.tokenHash, tokenHash)) throw sessionNotFound();
    return unsealSession(this.#keyring, touch ? await this.#recordActivity(key, stored) : stored);
  }

  /**
   * Where a target's session is and, if a token names it, the hash that it must still have. The
   * store judges the token: only it can say that a session is revoked for good, and may have to
   * wait for a replica first.
   */
  async #resolve(
    target: SessionTarget,
  ): Promise<{ readonly key: SessionKey; readonly tokenHash?: Uint8Array }> {
    return "token" in target
      ? provenBy(target.token)
      : { key: await this.#locate(target.sessionId) };
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

  /** Reads the sessions at the keys that were found; the positions of the others stay empty. */
  async #getInOrder<T>(
    found: readonly (T | SessiondError)[],
    keyOf: (found: T) => SessionKey,
  ): Promise<readonly (StoredSession | undefined)[]> {
    const keys = found.flatMap((one) => (one instanceof SessiondError ? [] : [keyOf(one)]));
    const stored = keys.length > 0 ? await this.#store.getMany(keys) : [];
    let next = 0;
    return found.map((one) => (one instanceof SessiondError ? undefined : stored[next++]));
  }

  /** Touches a session whose last touch is a while ago, so that a hot one costs few writes. */
  async #recordActivity(key: SessionKey, stored: StoredSession): Promise<StoredSession> {
    const quietMs = stored.readTimeMs - stored.lastAccessTimeMs;
    if (quietMs < stored.idleTimeoutMs * TOUCH_FRACTION) return stored;
    const touched = await this.#store.touch(key, stored.tokenHash, stored.version);
    if (touched === undefined) throw sessionNotFound();
    return { ...stored, ...touched };
  }
}

/**
 * Where the session is that a token would prove, and the hash that it must have. Hashed before
 * it is known whether there is such a session, so that the time taken does not tell. Throws
 * SESSION_NOT_FOUND for what is no token.
 */
function provenBy(token: string): { readonly key: SessionKey; readonly tokenHash: Uint8Array } {
  checkRequired("token", token);
  const parsed = parseSessionToken(token);
  if (parsed === undefined) throw sessionNotFound();
  const key = { partition: parsed.partition, id: parsed.sessionId };
  return { key, tokenHash: hashSecret(parsed.secret) };
}

function tokenOf({ partition, id }: SessionKey, secret: Uint8Array): string {
  return formatSessionToken({ partition, sessionId: id, secret });
}

function createdSession(
  key: SessionKey,
  session: Session,
  secret: Uint8Array,
  evictedSessionIds: readonly string[],
): CreatedSession {
  return { session, token: tokenOf(key, secret), evictedSessionIds };
}
