import {
  invalidArgument,
  lockNotHeld,
  SessiondError,
  sessionNotFound,
  storeUnavailable,
} from "../errors.js";
import {
  checkBatchSize,
  checkChosenId,
  checkClient,
  checkData,
  checkDuration,
  checkFence,
  checkIp,
  checkRequestId,
  checkRequired,
  checkRoles,
  checkSessionId,
  checkText,
  checkUserId,
  LIMITS,
} from "../validation.js";
import { SessionWatches, type WatchMessage, type WatchSessions } from "../watch/session-watch.js";
import {
  createRequestKey,
  fingerprintOf,
  REQUEST_KEPT_FOR_MS,
  sealCreateRequest,
  secretOfRepetition,
} from "./create-request.js";
import { KeyedQueue } from "./keyed-queue.js";
import { type Keyring, sealedKeyId } from "./keyring.js";
import { formatPageToken, parsePageToken } from "./page-token.js";
import {
  type JsonObject,
  type Session,
  type SessionClient,
  type SessionContent,
  sessionEtag,
} from "./session.js";
import { generateSessionId, isGeneratedId, partitionOfUser } from "./session-id.js";
import { resealRecord, sealContent, unsealSession } from "./session-record.js";
import type {
  Fence,
  ListPage,
  ListQuery,
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
import { applyUpdate, checkUpdate, type SessionUpdate } from "./session-update.js";

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

/** What `Sessions.create` takes. The limits stand at CreateSessionRequest in the contract. */
export interface CreateSession {
  readonly userId: string;
  readonly sessionId?: string;
  readonly displayName?: string;
  readonly roles?: readonly string[];
  readonly client?: Partial<SessionClient>;
  readonly data?: JsonObject;
  readonly idleTimeoutMs?: number;
  readonly lifetimeMs?: number;
  /** Makes a repetition within 10 minutes answer the same session and token. */
  readonly requestId?: string;
  /** Who asks. Two callers never share a request id. */
  readonly caller?: string;
}

/** What `Sessions.create` answers. */
export interface CreatedSession {
  readonly session: Session;
  readonly token: string;
  /** Oldest first. */
  readonly evictedSessionIds: readonly string[];
}

/** A session named by its id, or proven by its token. */
export type SessionTarget = { readonly sessionId: string } | { readonly token: string };

/** What `Sessions.list` takes. */
export interface ListSessions {
  readonly userId?: string;
  readonly showExpired?: boolean;
  readonly showRevoked?: boolean;
  readonly role?: string;
  readonly ip?: string;
  readonly createTimeFromMs?: number;
  readonly createTimeToMs?: number;
  readonly lastAccessTimeFromMs?: number;
  readonly lastAccessTimeToMs?: number;
  /** By creation time; newest first (`desc`) by default. */
  readonly order?: "asc" | "desc";
  /** 50 by default. */
  readonly pageSize?: number;
  readonly pageToken?: string;
}

/** A page of sessions; `nextPageToken` is absent on the last one. */
export interface SessionPage {
  readonly sessions: readonly Session[];
  readonly unreadableSessionIds: readonly string[];
  readonly nextPageToken?: string;
}

const DEFAULT_PAGE_SIZE = 50;
/** How often the store is asked for more before a page ends early. */
const MAX_READS_PER_PAGE = 10;
/** How many sessions a filtered list asks the store for at a time. */
const SCAN_BATCH_SIZE = 500;
/** Verifying counts as activity once this part of the idle timeout has passed since the last. */
const TOUCH_FRACTION = 0.1;
/**
 * How often an update is tried when other servers keep changing the session in
 * between. Each failed try is another server's success, so this is reached only
 * where dozens of servers update one session at the same moment.
 */
const MAX_UPDATE_ATTEMPTS = 50;
/**
 * How long after it was asked for an update may still be tried. While the store is
 * slow or gone, those that wait for their turn outlive their callers; made later, they would
 * overwrite what has come since, and keep the next ones waiting.
 */
const UPDATE_BUDGET_MS = 1_500;
/** How many sessions are sealed anew at a time. */
const RESEAL_PAGE_SIZE = 500;
/**
 * How often a page is read again because sessions on it have changed in between.
 * A change made under the active key settles its session, so this is reached only
 * where a server still seals under an old one.
 */
const MAX_RESEAL_ATTEMPTS = 10;

/** What became of the sessions of one page of `Sessions.reseal`. */
export interface ResealedPage {
  readonly resealed: number;
  /** How many were under the active key already. */
  readonly current: number;
  readonly unreadableSessionIds: readonly string[];
  /** Sessions that another server kept changing, under an old key. */
  readonly busySessionIds: readonly string[];
}

/**
 * The sessions of all users: validates, makes ids and tokens, seals and unseals,
 * and leaves to the store what must be atomic. Every method may throw
 * STORE_UNAVAILABLE; methods that take input, INVALID_ARGUMENT naming the field.
 */
export class Sessions {
  readonly #store: SessionStore;
  readonly #keyring: Keyring;
  readonly #policy: SessionPolicy;
  readonly #updates = new KeyedQueue();
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
    const content = newContent(input);

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
      // What was asked for, not what it comes to: the defaults may change between two tries.
      const {
        userId,
        sessionId = null,
        idleTimeoutMs: idle = null,
        lifetimeMs: life = null,
      } = input;
      const asked = [userId, sessionId, idle, life, contentJson(content)];
      return this.#createOnce(key, fingerprintOf(asked), newSession, secret);
    }
    const { session, evictedIds } = await this.#store.create(newSession, this.#policy);
    return this.#created(session, secret, evictedIds);
  }

  async #createOnce(
    key: string,
    fingerprint: string,
    newSession: NewSession,
    secret: Uint8Array,
  ): Promise<CreatedSession> {
    const record = sealCreateRequest(this.#keyring, key, { fingerprint, secret });
    const request = { key, record, keptForMs: REQUEST_KEPT_FOR_MS };
    const creation = await this.#store.createOnce(request, newSession, this.#policy);
    if (!("repeated" in creation)) {
      return this.#created(creation.session, secret, creation.evictedIds);
    }
    const { repeated, session, evictedIds } = creation;
    const firstSecret = secretOfRepetition(this.#keyring, key, repeated, fingerprint);
    if (session === undefined) throw sessionNotFound();
    return this.#created(session, firstSecret, evictedIds);
  }

  #created(
    stored: StoredSession,
    secret: Uint8Array,
    evictedSessionIds: readonly string[],
  ): CreatedSession {
    const partition = partitionOfUser(stored.userId);
    return {
      session: this.#unseal(stored),
      token: formatSessionToken({ partition, sessionId: stored.id, secret }),
      evictedSessionIds,
    };
  }

  /** The session a token proves. Counts as activity unless `touch` is false. Throws SESSION_NOT_FOUND. */
  async verify(token: string, { touch = true } = {}): Promise<Session> {
    const stored = await this.#authenticate(token);
    return this.#unseal(touch ? await this.#recordActivity(stored) : stored);
  }

  /** Verifies 1 to 1000 tokens. Each fails for itself; the errors stand in their places. */
  async verifyMany(
    tokens: readonly string[],
    { touch = true } = {},
  ): Promise<readonly (Session | SessiondError)[]> {
    checkBatchSize("tokens", tokens.length);
    const parsed = tokens.map(parseSessionToken);
    const found = await this.#getInOrder(parsed.map((token) => token && keyOf(token)));
    return Promise.all(
      found.map((stored, i) =>
        settle(async () => {
          checkRequired("token", tokens[i] ?? "");
          const secret = parsed[i]?.secret;
          if (stored === undefined || secret === undefined) throw sessionNotFound();
          if (!hashesEqual(stored.tokenHash, hashSecret(secret))) throw sessionNotFound();
          return this.#unseal(touch ? await this.#recordActivity(stored) : stored);
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
    return this.#unseal(await this.#find(key, userId));
  }

  /** Reads 1 to 1000 active sessions. Each fails for itself; the errors stand in their places. */
  async getMany(sessionIds: readonly string[]): Promise<readonly (Session | SessiondError)[]> {
    checkBatchSize("session_ids", sessionIds.length);
    const keys = await Promise.all(sessionIds.map((id) => settle(() => this.#locate(id))));
    const found = await this.#getInOrder(
      keys.map((key) => (key instanceof SessiondError ? undefined : key)),
    );
    return Promise.all(
      found.map((stored, i) =>
        settle(async () => {
          const key = keys[i];
          if (key instanceof SessiondError) throw key;
          if (stored === undefined) throw sessionNotFound();
          return this.#unseal(stored);
        }),
      ),
    );
  }

  /**
   * A page of sessions in the order of creation. With a filter on sealed fields
   * or on activity a page may end early; it is the last when it has no token.
   */
  async list(request: ListSessions): Promise<SessionPage> {
    checkListRequest(request);
    const { pageSize: requestedSize, pageToken, ...filters } = request;
    const pageSize = requestedSize || DEFAULT_PAGE_SIZE;
    const { showExpired = false, showRevoked = false, order = "desc" } = filters;
    const query = { ...filters, showExpired, showRevoked, order };
    const filtered = hasContentFilter(query);
    const storeQuery = toStoreQuery(query, filtered ? SCAN_BATCH_SIZE : pageSize);

    const sessions: Session[] = [];
    const unreadableSessionIds: string[] = [];
    let after = pageToken ? parsePageToken(query, pageToken) : undefined;
    let reads = 0;
    do {
      reads++;
      const page = await this.#store.list({ ...storeQuery, ...(after && { after }) });
      after = page.next;
      for (const stored of page.sessions) {
        const session = await settle(async () => this.#unseal(stored));
        if (session instanceof SessiondError) unreadableSessionIds.push(stored.id);
        else if (matches(session, query)) sessions.push(session);
        if (sessions.length + unreadableSessionIds.length === pageSize) {
          const isLast = stored === page.sessions.at(-1) && page.next === undefined;
          after = isLast ? undefined : { createTimeMs: stored.createTimeMs, id: stored.id };
          break;
        }
      }
    } while (
      after !== undefined &&
      sessions.length + unreadableSessionIds.length < pageSize &&
      reads < MAX_READS_PER_PAGE
    );
    return {
      sessions,
      unreadableSessionIds,
      ...(after && { nextPageToken: formatPageToken(query, after) }),
    };
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
   * where the store is so slow that it would come long after it was asked for.
   *
   * With a `fence`, throws LOCK_NOT_HELD and changes nothing where a later holder of
   * that lock has updated the session; a session can be fenced by 8 locks.
   */
  async update(
    sessionId: string,
    update: SessionUpdate,
    {
      userId,
      etag,
      fence,
    }: {
      readonly userId?: string | undefined;
      readonly etag?: string | undefined;
      readonly fence?: Fence | undefined;
    } = {},
  ): Promise<Session> {
    checkUpdate(update);
    if (fence !== undefined) checkFence("fence", fence);
    if (etag !== undefined) checkText("etag", etag, LIMITS.etagBytes);
    const latestMs = performance.now() + UPDATE_BUDGET_MS;
    const key = await this.#locate(sessionId, userId);
    // One server's updates of one session wait for each other here; only those
    // of other servers are left to meet at the store.
    return this.#updates.run(key.id, () => {
      return this.#compareAndSet(key, update, { userId, etag, fence, latestMs });
    });
  }

  async #compareAndSet(
    key: SessionKey,
    update: SessionUpdate,
    options: {
      readonly userId: string | undefined;
      readonly etag: string | undefined;
      readonly fence: Fence | undefined;
      /** On the monotonic clock. */
      readonly latestMs: number;
    },
  ): Promise<Session> {
    const { userId, etag, fence, latestMs } = options;
    for (let attempt = 0; attempt < MAX_UPDATE_ATTEMPTS; attempt++) {
      // At once where there is no time left, so that it does not keep the next one
      // waiting, and once more before the change is sent.
      checkTime(latestMs);
      const stored = await this.#find(key, userId);
      checkTime(latestMs);
      if (etag !== undefined && etag !== sessionEtag(stored)) {
        throw new SessiondError("ETAG_MISMATCH", "etag: the session has changed since it was read");
      }
      const content = applyUpdate(this.#unseal(stored), update);
      const record = sealContent(this.#keyring, stored, content);
      const replaced = await this.#store.replaceRecord(key, stored.version, record, fence);
      if (replaced === undefined) throw sessionNotFound();
      if (replaced === "fenced") throw lockNotHeld("a later holder has updated the session");
      if (replaced !== "version_mismatch") return this.#unseal(replaced);
    }
    throw new SessiondError("OVERLOADED", "too many concurrent updates of this session");
  }

  /** Moves the idle deadline to a full idle timeout from now. Throws SESSION_NOT_FOUND. */
  async refresh(target: SessionTarget): Promise<Session> {
    const { key, tokenHash } = await this.#resolve(target);
    const touched = await this.#store.touch(key, tokenHash);
    if (touched === undefined) throw sessionNotFound();
    return this.#unseal(touched);
  }

  /** Replaces a session's token; the old one is dead at once. Throws SESSION_NOT_FOUND. */
  async rotateToken(token: string): Promise<{ readonly session: Session; readonly token: string }> {
    const { key, tokenHash } = await this.#resolve({ token });
    const secret = generateSecret();
    const rotated = await this.#store.rotateToken(key, tokenHash, hashSecret(secret));
    if (rotated === undefined) throw sessionNotFound();
    return {
      session: this.#unseal(rotated),
      token: formatSessionToken({ partition: key.partition, sessionId: key.id, secret }),
    };
  }

  /** Ends a session for good. Answers whether this call did; what is not active is no error. */
  async revoke(target: SessionTarget, reason = ""): Promise<boolean> {
    checkText("reason", reason, LIMITS.reasonBytes);
    const resolved = await settle(() => this.#resolveUnseen(target));
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
   * Seals all sessions anew that are not under the active key, ended ones, too,
   * in the order of creation, so that what is created meanwhile comes last.
   * Answers after each page of some hundred, and may be abandoned there: what is
   * done is passed over quickly the next time.
   */
  async *reseal(): AsyncGenerator<ResealedPage, void, undefined> {
    const query = {
      showExpired: true,
      showRevoked: true,
      order: "asc",
      limit: RESEAL_PAGE_SIZE,
    } as const;
    let after: ListPage["next"];
    do {
      const { page, next } = await this.#resealPage({ ...query, ...(after && { after }) });
      yield page;
      after = next;
    } while (after !== undefined);
  }

  async #resealPage(
    query: ListQuery,
  ): Promise<{ readonly page: ResealedPage; readonly next: ListPage["next"] }> {
    const settled = new Map<string, ResealOutcome>();
    for (let attempt = 1; ; attempt++) {
      const { sessions, next } = await this.#store.list(query);
      const open = sessions.filter(({ id }) => !settled.has(id));
      const busySessionIds: string[] = [];
      const outcomes = await Promise.all(open.map((stored) => this.#resealOne(stored)));
      for (const [i, { id }] of open.entries()) {
        const outcome = outcomes[i];
        if (outcome === undefined) busySessionIds.push(id);
        else settled.set(id, outcome);
      }
      if (busySessionIds.length === 0 || attempt === MAX_RESEAL_ATTEMPTS) {
        return { page: toResealedPage(settled, busySessionIds), next };
      }
    }
  }

  /** Undefined where the session has changed since it was read. */
  async #resealOne(stored: StoredSession): Promise<ResealOutcome | undefined> {
    if (sealedKeyId(stored.record) === this.#keyring.activeKeyId) return "current";
    const resealed = await settle(async () => resealRecord(this.#keyring, stored));
    if (resealed instanceof SessiondError) return "unreadable";
    const key = { id: stored.id, partition: partitionOfUser(stored.userId) };
    return (await this.#store.reseal(key, stored.record, resealed)) ? "resealed" : undefined;
  }

  /**
   * Tells of changes as they happen; see `SessionWatches.watch`. What is wrong with
   * the request is thrown with the first message asked for.
   */
  async *watch(request: WatchSessions): AsyncGenerator<WatchMessage, never, undefined> {
    if (request.userId !== undefined) checkUserId("user_id", request.userId);
    return yield* this.#watches.watch(request);
  }

  /** The active session a token proves. */
  async #authenticate(token: string): Promise<StoredSession> {
    checkRequired("token", token);
    const parsed = parseSessionToken(token);
    if (parsed === undefined) throw sessionNotFound();
    // Hashed before it is known whether there is such a session, so that the time
    // taken does not tell.
    const tokenHash = hashSecret(parsed.secret);
    const stored = await this.#store.get(keyOf(parsed));
    if (stored === undefined || !hashesEqual(stored.tokenHash, tokenHash)) throw sessionNotFound();
    return stored;
  }

  /** Where a target's session is and, if it was named by a token, the hash it must still have. */
  #resolve(target: { readonly token: string }): Promise<{ key: SessionKey; tokenHash: Uint8Array }>;
  #resolve(target: SessionTarget): Promise<{ key: SessionKey; tokenHash?: Uint8Array }>;
  async #resolve(target: SessionTarget): Promise<{ key: SessionKey; tokenHash?: Uint8Array }> {
    if ("sessionId" in target) return { key: await this.#locate(target.sessionId) };
    const { id, userId, tokenHash } = await this.#authenticate(target.token);
    return { key: { id, partition: partitionOfUser(userId) }, tokenHash };
  }

  /**
   * As `#resolve`, without a look whether there is such a session. Only the store
   * can say that one is revoked for good: it may have to wait for a replica first.
   */
  async #resolveUnseen(
    target: SessionTarget,
  ): Promise<{ key: SessionKey; tokenHash?: Uint8Array }> {
    if ("sessionId" in target) return { key: await this.#locate(target.sessionId) };
    checkRequired("token", target.token);
    const parsed = parseSessionToken(target.token);
    if (parsed === undefined) throw sessionNotFound();
    return { key: keyOf(parsed), tokenHash: hashSecret(parsed.secret) };
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

  async #find(key: SessionKey, userId: string | undefined): Promise<StoredSession> {
    const stored = await this.#store.get(key);
    if (stored === undefined) throw sessionNotFound();
    if (userId !== undefined && stored.userId !== userId) throw sessionNotFound();
    return stored;
  }

  /** Reads the sessions at the keys there are, and leaves the places of the others empty. */
  async #getInOrder(
    keys: readonly (SessionKey | undefined)[],
  ): Promise<readonly (StoredSession | undefined)[]> {
    const present = keys.filter((key) => key !== undefined);
    const found = present.length > 0 ? await this.#store.getMany(present) : [];
    let next = 0;
    return keys.map((key) => (key === undefined ? undefined : found[next++]));
  }

  /** Touches a session whose last touch is a while ago, so that a hot one costs few writes. */
  async #recordActivity(stored: StoredSession): Promise<StoredSession> {
    const quietMs = stored.readTimeMs - stored.lastAccessTimeMs;
    if (quietMs < stored.idleTimeoutMs * TOUCH_FRACTION) return stored;
    const key = { id: stored.id, partition: partitionOfUser(stored.userId) };
    const touched = await this.#store.touch(key, stored.tokenHash);
    if (touched === undefined) throw sessionNotFound();
    return touched;
  }

  #unseal(stored: StoredSession): Session {
    return unsealSession(this.#keyring, stored);
  }
}

type ResealOutcome = "resealed" | "current" | "unreadable";

function toResealedPage(
  settled: ReadonlyMap<string, ResealOutcome>,
  busySessionIds: readonly string[],
): ResealedPage {
  const idsOf = (wanted: ResealOutcome) =>
    [...settled].filter(([, outcome]) => outcome === wanted).map(([id]) => id);
  return {
    resealed: idsOf("resealed").length,
    current: idsOf("current").length,
    unreadableSessionIds: idsOf("unreadable"),
    busySessionIds,
  };
}

/** The result of `task`, or the error it failed with if that is one of ours. */
async function settle<T>(task: () => Promise<T>): Promise<T | SessiondError> {
  try {
    return await task();
  } catch (error) {
    if (error instanceof SessiondError && error.reason !== "STORE_UNAVAILABLE") return error;
    throw error;
  }
}

function keyOf(token: { readonly partition: string; readonly sessionId: string }): SessionKey {
  return { partition: token.partition, id: token.sessionId };
}

function newContent(input: CreateSession): SessionContent {
  const { displayName = "", roles = [], client = {}, data = {} } = input;
  checkText("display_name", displayName, LIMITS.displayNameBytes);
  checkRoles("roles", roles);
  checkClient("client", client);
  checkData("data", data);
  return { displayName, roles, client: { ip: "", userAgent: "", device: "", ...client }, data };
}

/** Throws once it is later than `latestMs` on the monotonic clock. */
function checkTime(latestMs: number): void {
  if (performance.now() > latestMs) throw storeUnavailable("the update took too long");
}

/** The content as the fingerprint of a request has it: complete, so that absent is as empty. */
function contentJson({ displayName, roles, client, data }: SessionContent): JsonObject {
  const { ip, userAgent, device } = client;
  return { displayName, roles: [...roles], client: { ip, userAgent, device }, data };
}

function checkListRequest(request: ListSessions): void {
  const { userId, role, ip, pageSize = 0, pageToken } = request;
  if (userId !== undefined) checkUserId("user_id", userId);
  if (role !== undefined) checkText("filter.role", role, LIMITS.roleBytes);
  if (ip !== undefined) checkIp("filter.ip", ip);
  if (!Number.isInteger(pageSize) || pageSize < 0 || pageSize > LIMITS.pageSize) {
    throw invalidArgument("page_size", `expected 0 to ${LIMITS.pageSize}, got ${pageSize}`);
  }
  if (pageToken !== undefined) checkText("page_token", pageToken, LIMITS.pageTokenBytes);
}

function toStoreQuery(
  query: ListSessions & Pick<ListQuery, "showExpired" | "showRevoked" | "order">,
  limit: number,
): Omit<ListQuery, "after"> {
  return {
    showExpired: query.showExpired,
    showRevoked: query.showRevoked,
    order: query.order,
    limit,
    ...(query.userId !== undefined && { userId: query.userId }),
    ...(query.createTimeFromMs !== undefined && { createTimeFromMs: query.createTimeFromMs }),
    ...(query.createTimeToMs !== undefined && { createTimeToMs: query.createTimeToMs }),
  };
}

/** Whether the filter says something that only the unsealed session can answer. */
function hasContentFilter(query: ListSessions): boolean {
  return (
    query.role !== undefined ||
    query.ip !== undefined ||
    query.lastAccessTimeFromMs !== undefined ||
    query.lastAccessTimeToMs !== undefined
  );
}

function matches(session: Session, query: ListSessions): boolean {
  const { role, ip, lastAccessTimeFromMs = -Infinity, lastAccessTimeToMs = Infinity } = query;
  return (
    (role === undefined || session.roles.includes(role)) &&
    (ip === undefined || session.client.ip === ip) &&
    session.lastAccessTimeMs >= lastAccessTimeFromMs &&
    session.lastAccessTimeMs < lastAccessTimeToMs
  );
}
