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

/** The defaults of a session, and the limits of what a call may ask for. */
export interface SessionPolicy extends SessionLimit {
  readonly idleTimeoutMs: number;
  readonly lifetimeMs: number;
  /** The maximum of both timeouts. */
  readonly maxLifetimeMs: number;
}

/** 30 minutes idle, 24 hours in all, at most a year. 10 sessions per user, evicting the oldest. */
export const DEFAULT_SESSION_POLICY: SessionPolicy = {
  idleTimeoutMs: 30 * 60_000,
  lifetimeMs: 24 * 3_600_000,
  maxLifetimeMs: 365 * 24 * 3_600_000,
  maxSessionsPerUser: 10,
  policy: "evict_oldest",
};

/** The result of `Sessions.create`. */
export interface CreatedSession {
  readonly session: Session;
  readonly token: string;
  /** Oldest first. */
  readonly evictedSessionIds: readonly string[];
}

/** A session, named by its id or proven by its token. */
export type SessionTarget = { readonly sessionId: string } | { readonly token: string };

/** Verifying touches a session once this part of its idle timeout has passed since the last touch. */
const TOUCH_FRACTION = 0.1;

/**
 * The sessions of all users: validates, makes ids and tokens, seals and unseals. The store does
 * what must be atomic. Every method may throw STORE_UNAVAILABLE, and INVALID_ARGUMENT naming the
 * field.
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
    /** Absent fields are as in `DEFAULT_SESSION_POLICY`. */
    readonly policy?: Partial<SessionPolicy>;
  }) {
    this.#store = options.store;
    this.#watches = new SessionWatches(options.store.events);
    this.#keyring = options.keyring;
    this.#updates = new SessionUpdates(options.store, options.keyring);
    this.#policy = { ...DEFAULT_SESSION_POLICY, ...options.policy };
  }

  /**
   * Starts a session. Throws SESSION_ALREADY_EXISTS if a chosen id is taken and, under the policy
   * `reject`, SESSION_LIMIT_REACHED.
   *
   * With a request id, a repetition answers the session as it is now, ended or not. Throws
   * REQUEST_ID_REUSED if the first request asked for something else, SESSION_NOT_FOUND if the
   * session is gone for good, and SESSION_UNREADABLE if the first request's record does not open.
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
      const fingerprint = fingerprintOfRequest(input, content);
      return this.#createOnce(key, fingerprint, newSession, content, secret);
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
    // The fingerprint is equal, so the session is the same user's and in the same partition.
    const firstKey = { partition: newSession.key.partition, id: creation.session.id };
    const session = unsealSession(this.#keyring, creation.session);
    return createdSession(firstKey, session, firstSecret, evictedIds);
  }

  /** The session of a token. Counts as activity if `touch` is true. Throws SESSION_NOT_FOUND. */
  async verify(token: string, { touch = true } = {}): Promise<Session> {
    const { key, tokenHash } = provenBy(token);
    return this.#verified(key, tokenHash, await this.#store.get(key), touch);
  }

  /** Verifies 1 to 1000 tokens. Answers a session or an error for each, in their order. */
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
    return listSessions(this.#store, this.#keyring, request);
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

  /** Replaces a session's token. The old token stops working at once. Throws SESSION_NOT_FOUND. */
  async rotateToken(token: string): Promise<{ readonly session: Session; readonly token: string }> {
    const { key, tokenHash } = provenBy(token);
    const secret = generateSecret();
    const rotated = await this.#store.rotateToken(key, tokenHash, hashSecret(secret));
    if (rotated === undefined) throw sessionNotFound();
    return { session: unsealSession(this.#keyring, rotated), token: tokenOf(key, secret) };
  }

  /** Ends a session for good. Answers whether this call did. An inactive session is no error. */
  async revoke(target: SessionTarget, reason = ""): Promise<boolean> {
    checkText("reason", reason, LIMITS.reasonBytes);
    const resolved = await settle(() => this.#resolve(target));
    if (resolved instanceof SessiondError) {
      if (resolved.reason === "SESSION_NOT_FOUND") return false;
      throw resolved;
    }
    return this.#store.revoke(resolved.key, reason, resolved.tokenHash);
  }

  /** Ends all sessions of a user except `exceptSessionId`. Answers how many this call ended. */
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
   * Reports changes as they happen, as `SessionWatches.watch` says. Asking for the first message
   * throws the errors of the request.
   */
  async *watch(request: WatchSessions): AsyncGenerator<WatchMessage, never, undefined> {
    if (request.userId !== undefined) checkUserId("user_id", request.userId);
    return yield* this.#watches.watch(request);
  }

  /** The session of a token. `stored` is the active session at the token's key, if there is one. */
  #verified(
    key: SessionKey,
    tokenHash: Uint8Array,
    stored: StoredSession | undefined,
    touch: boolean,
  ): Session | Promise<Session> {
    if (stored === undefined || !hashesEqual(stored.tokenHash, tokenHash)) throw sessionNotFound();
    // A hot session must cost few writes.
    const quietMs = stored.readTimeMs - stored.lastAccessTimeMs;
    return touch && quietMs >= stored.idleTimeoutMs * TOUCH_FRACTION
      ? this.#touched(key, stored)
      : unsealSession(this.#keyring, stored);
  }

  async #touched(key: SessionKey, stored: StoredSession): Promise<Session> {
    const touched = await this.#store.touch(key, stored.tokenHash, stored.version);
    if (touched === undefined) throw sessionNotFound();
    return unsealSession(this.#keyring, { ...stored, ...touched });
  }

  /**
   * The key of a target's session and, for a token, the hash that the session must still have. The
   * store compares the hash: it may have to wait for a replica before it can call a session
   * revoked.
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

/**
 * The key of a token's session, and the hash that it must have. It hashes before anybody knows
 * whether the session exists, so the time taken reveals nothing. Throws SESSION_NOT_FOUND for a
 * malformed token.
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
