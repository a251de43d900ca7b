import type { JsonObject } from "@bufbuild/protobuf";
import { malformedAnswer } from "./error.js";
import { known } from "./known-names.js";
import { LockClient } from "./locks/lock-client.js";
import type { NearCacheLimits, NearCacheStats } from "./near-cache/near-cache.js";
import { SessionVerifier } from "./near-cache/session-verifier.js";
import {
  CALL_OPTIONS,
  type CallOptions,
  checkOptions,
  type SessionClientOptions,
} from "./options.js";
import { RateLimitClient } from "./rate-limits/rate-limit-client.js";
import { duration, narrowing, text, texts } from "./rpc/fields.js";
import { RpcCaller } from "./rpc/rpc-caller.js";
import { openConnection } from "./rpc/transport.js";
import {
  type CreatedSession,
  createdFrom,
  type RotatedSession,
  readMask,
  resultsFrom,
  type Session,
  type SessionField,
  type SessionPage,
  type SessionResult,
  sessionFrom,
  type UpdatedSession,
  updatedFrom,
} from "./sessions/session.js";
import {
  type FieldSelection,
  type GetSessionOptions,
  type ListAllSessionsOptions,
  OPTIONS,
  type RevokeSessionOptions,
  type RevokeUserSessionsOptions,
  type RotateSessionTokenOptions,
  type UpdateSessionOptions,
  type VerifySessionOptions,
} from "./sessions/session-options.js";
import {
  listRequest,
  QUERY,
  type SessionPageQuery,
  type SessionQuery,
} from "./sessions/session-query.js";
import {
  createRequest,
  type NewSession,
  requestIdFrom,
  revokeRequest,
  type SessionTarget,
  type SessionUpdate,
  targetFrom,
  updateRequest,
} from "./sessions/session-request.js";
import {
  foundOrUndefined,
  type PresentedToken,
  sendableToken,
  sendableTokens,
  sessionNotFound,
} from "./sessions/session-token.js";
import { type WatchMessage, type WatchSessionsOptions, watchSessions } from "./sessions/watch.js";

/** Sessions per page of `listAllSessions`: few calls, and answers of moderate size. */
const LIST_ALL_PAGE_SIZE = 500;

/**
 * Makes a client of a sessiond server. `Data` is the type of the sessions' data; see `Session`.
 *
 * The first call opens the connection; a call after a loss opens it again. One client serves a
 * whole process, and many calls may use it at the same time.
 *
 * @throws SessiondError INVALID_ARGUMENT that names each wrong option
 */
export function createSessionClient<Data extends object = JsonObject>(
  options: SessionClientOptions,
): SessionClient<Data> {
  const checked = checkOptions(options);
  const { server } = checked;
  // A transport that the caller opened is for the caller to close.
  const connection = "unary" in server ? { transport: server, close() {} } : openConnection(server);
  return new SessionClient<Data>(new RpcCaller(connection, checked), checked.nearCache);
}

/**
 * The sessions of a sessiond server. Made by `createSessionClient`.
 *
 * Every method rejects with a `SessiondError` and nothing else. Besides the reasons named at each
 * method, every call can fail with UNAUTHENTICATED, PERMISSION_DENIED, INVALID_ARGUMENT,
 * TOKEN_UNAVAILABLE, ISSUER_UNAVAILABLE, STORE_UNAVAILABLE, OVERLOADED, UNAVAILABLE, DEADLINE_EXCEEDED, CANCELED and
 * INTERNAL.
 *
 * An option that narrows a call (`userId`, `etag`, `fence`, `exceptSessionId`, the fields of a
 * filter) is refused if it is present but empty or undefined: to ignore it would widen the call.
 * An option that no method knows is refused, too. A session token that is empty, undefined or null
 * is no session, and needs no call.
 */
export class SessionClient<Data extends object = JsonObject> implements Disposable {
  readonly #rpc: RpcCaller;
  readonly #verifier: SessionVerifier;

  /** What the near cache does, if there is one. */
  readonly nearCache: { stats(): NearCacheStats };

  /** The server's locks, over the same connection. */
  readonly locks: LockClient;

  /** The server's rate limits, over the same connection. */
  readonly rateLimits: RateLimitClient;

  /** @internal */
  constructor(rpc: RpcCaller, nearCache: NearCacheLimits | undefined) {
    this.#rpc = rpc;
    this.#verifier = new SessionVerifier(rpc, nearCache);
    this.nearCache = { stats: () => this.#verifier.stats() };
    this.locks = new LockClient(rpc);
    this.rateLimits = new RateLimitClient(rpc);
  }

  /**
   * Starts a session and returns its token, which no later call shows again.
   *
   * Fails with SESSION_ALREADY_EXISTS if the chosen `sessionId` is taken, and with
   * SESSION_LIMIT_REACHED if the user has too many sessions and the server does not evict.
   *
   * Retried even if the first attempt may have taken effect: every creation has a request id, so
   * the server recognizes the second attempt and answers the session and token of the first. With
   * a `requestId` of the caller's own, fails with REQUEST_ID_REUSED if another creation had it,
   * and with SESSION_NOT_FOUND if the session of that creation has ended.
   */
  async createSession(
    session: NewSession<Data>,
    options: CallOptions = {},
  ): Promise<CreatedSession<Data>> {
    known(options, CALL_OPTIONS);
    const answer = await this.#rpc.call("createSession", createRequest(session), options);
    return createdFrom<Data>(answer);
  }

  /**
   * The session of a token, or undefined if the token is unknown, expired, revoked, malformed or
   * missing. Counts as activity unless `noTouch` is set.
   *
   * Undefined means that the user must log in again. A server that could not answer always
   * rejects, and means that the request must fail. The two cannot be mistaken for each other.
   *
   * Fails with SESSION_UNREADABLE if the session exists but the server cannot unseal it.
   */
  verifySession(
    token: PresentedToken,
    options?: VerifySessionOptions,
  ): Promise<Session<Data> | undefined> {
    const found = this.#verifier.remembered(token, options) ?? this.#verifier.ask(token, options);
    return found as Promise<Session<Data> | undefined>;
  }

  /**
   * Verifies up to 1000 tokens with one call. The results are in the order of the tokens. The
   * result of an invalid token is the error SESSION_NOT_FOUND.
   */
  async batchVerifySessions(
    tokens: readonly PresentedToken[],
    options: VerifySessionOptions = {},
  ): Promise<SessionResult<Session<Data>>[]> {
    const { noTouch = false } = known(options, OPTIONS.verifySession);
    const sendable = sendableTokens(tokens, "tokens");
    const sent = sendable.filter((token) => token !== undefined);
    const { results } =
      sent.length === 0
        ? { results: [] }
        : await this.#rpc.call("batchVerifySessions", { tokens: sent, noTouch }, options);
    const answered = resultsFrom<SessionField, Data>(results, sent.length);
    return sendable.map(
      (token) =>
        (token === undefined ? undefined : answered.shift()) ?? { error: sessionNotFound() },
    );
  }

  /**
   * An active session by its id, or undefined if it is unknown, expired or revoked. Does not
   * count as activity.
   *
   * Fails with SESSION_UNREADABLE if the session exists but the server cannot unseal it.
   */
  async getSession<F extends SessionField = SessionField>(
    sessionId: string,
    options: GetSessionOptions & Partial<FieldSelection<F>> = {},
  ): Promise<Pick<Session<Data>, F> | undefined> {
    const { fields } = known(options, OPTIONS.getSession);
    const request = {
      sessionId: text(sessionId, "session_id"),
      userId: narrowing(options, "userId", "user_id"),
      ...(fields && { readMask: readMask(fields) }),
    };
    const answer = this.#rpc.call("getSession", request, options);
    return foundOrUndefined(answer.then(({ session }) => sessionFrom<F, Data>(session, fields)));
  }

  /**
   * Up to 1000 active sessions by their ids with one call. The results are in the order of the
   * ids. The result of a missing session is the error SESSION_NOT_FOUND.
   */
  async batchGetSessions<F extends SessionField = SessionField>(
    sessionIds: readonly string[],
    options: CallOptions & Partial<FieldSelection<F>> = {},
  ): Promise<SessionResult<Pick<Session<Data>, F>>[]> {
    const { fields } = known(options, OPTIONS.batchGetSessions);
    const request = {
      sessionIds: texts(sessionIds, "session_ids"),
      ...(fields && { readMask: readMask(fields) }),
    };
    if (sessionIds.length === 0) return [];
    const answer = await this.#rpc.call("batchGetSessions", request, options);
    return resultsFrom<F, Data>(answer.results, sessionIds.length, fields);
  }

  /**
   * One page of a list. `pageToken` is the `nextPageToken` of the page before, from the same
   * query. A page may have fewer sessions than `pageSize`, even none, without being the last.
   */
  async listSessions(
    query: SessionPageQuery = {},
    options: CallOptions = {},
  ): Promise<SessionPage<Data>> {
    known(options, CALL_OPTIONS);
    const answer = await this.#rpc.call("listSessions", listRequest(query), options);
    return {
      sessions: answer.sessions.map((session) => sessionFrom<Data>(session)),
      unreadableSessionIds: answer.unreadableSessionIds,
      nextPageToken: answer.nextPageToken === "" ? undefined : answer.nextPageToken,
    };
  }

  /**
   * All sessions of a list. Reads a page when the loop reaches it:
   *
   * ```ts
   * for await (const session of client.listAllSessions({ userId: "user-1" })) …
   * ```
   *
   * Lists each session that exists all the while exactly once. Default `pageSize`: 500.
   */
  async *listAllSessions(
    query: SessionQuery = {},
    options: ListAllSessionsOptions = {},
  ): AsyncGenerator<Session<Data>, void, undefined> {
    const { pageSize = LIST_ALL_PAGE_SIZE } = known(query, QUERY, { argument: "query" });
    const { onUnreadable, ...call } = known(options, OPTIONS.listAllSessions);
    let pageToken: string | undefined;
    do {
      const pageQuery: SessionPageQuery = { ...query, pageSize, pageToken };
      const page: SessionPage<Data> = await this.listSessions(pageQuery, call);
      yield* page.sessions;
      if (page.unreadableSessionIds.length > 0) onUnreadable?.(page.unreadableSessionIds);
      if (page.nextPageToken === pageToken && pageToken !== undefined) {
        throw malformedAnswer("a page names itself as the next");
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== undefined);
  }

  /** The exact number of active sessions of one user, or of all users without `userId`. */
  async countSessions(query: { userId?: string } = {}, options: CallOptions = {}): Promise<number> {
    known(query, { userId: true }, { argument: "query" });
    known(options, CALL_OPTIONS);
    const userId = narrowing(query, "userId", "user_id");
    return (await this.#rpc.call("countSessions", { userId }, options)).count;
  }

  /**
   * Changes what the update names and nothing else, also under concurrent updates. Does not count
   * as activity.
   *
   * ```ts
   * await client.updateSession(id, { displayName: "Ada", setData: { theme: "dark" } });
   * ```
   *
   * Fails with SESSION_NOT_FOUND, with ETAG_MISMATCH if an etag is given, and with LOCK_NOT_HELD
   * if a fence is given. Not retried if the first attempt may have taken effect.
   */
  async updateSession(
    sessionId: string,
    update: SessionUpdate<Data>,
    options: UpdateSessionOptions = {},
  ): Promise<UpdatedSession<Data>> {
    known(options, OPTIONS.updateSession);
    const request = updateRequest(sessionId, update, options);
    const answer = await this.#rpc.call("updateSession", request, options);
    return updatedFrom<Data>(answer);
  }

  /**
   * Moves the idle deadline to a full idle timeout from now, never past the absolute deadline.
   * Fails with SESSION_NOT_FOUND.
   */
  async refreshSession(target: SessionTarget, options: CallOptions = {}): Promise<Session<Data>> {
    known(options, CALL_OPTIONS);
    const named = targetFrom(target);
    if (named === undefined) throw sessionNotFound();
    const answer = await this.#rpc.call("refreshSession", { target: named }, options);
    return sessionFrom<Data>(answer.session);
  }

  /**
   * Replaces a session's token: after a re-authentication or a change of privilege, or with
   * `graceMs` from time to time. Without a grace, the old token becomes invalid immediately.
   *
   * Fails with SESSION_NOT_FOUND, also for the second of two concurrent calls with one token.
   *
   * Retried even if the first attempt may have taken effect: every rotation has a request id, so
   * the server answers the second attempt with the new token of the first.
   */
  async rotateSessionToken(
    token: PresentedToken,
    options: RotateSessionTokenOptions = {},
  ): Promise<RotatedSession<Data>> {
    const { graceMs = 0 } = known(options, OPTIONS.rotateSessionToken);
    const requestId = requestIdFrom(options);
    const grace = duration(graceMs, "grace");
    const sendable = sendableToken(token, "token");
    if (sendable === undefined) throw sessionNotFound();
    const request = { token: sendable, requestId, grace };
    const answer = await this.#rpc.call("rotateSessionToken", request, options);
    return { session: sessionFrom<Data>(answer.session), token: answer.token };
  }

  /**
   * Ends a session for good. True if this call ended it, false if it was not active. To revoke
   * twice is no error. If the answer to a first attempt was lost, the second attempt answers false
   * although the first one ended the session.
   */
  async revokeSession(target: SessionTarget, options: RevokeSessionOptions = {}): Promise<boolean> {
    known(options, OPTIONS.revokeSession);
    const request = revokeRequest(target, options);
    if (request === undefined) return false;
    return (await this.#rpc.call("revokeSession", request, options)).revoked;
  }

  /**
   * Ends all active sessions of a user in one step, optionally all but one, and returns how many
   * this call ended. A retry after a lost answer does not count those that the first attempt ended.
   */
  async revokeUserSessions(
    userId: string,
    options: RevokeUserSessionsOptions = {},
  ): Promise<number> {
    known(options, OPTIONS.revokeUserSessions);
    const request = {
      userId: text(userId, "user_id"),
      exceptSessionId: narrowing(options, "exceptSessionId", "except_session_id"),
      reason: text(options.reason ?? "", "reason"),
    };
    return (await this.#rpc.call("revokeUserSessions", request, options)).revokedCount;
  }

  /**
   * The changes of sessions, of one user or of all, as they happen:
   *
   * ```ts
   * for await (const message of client.watchSessions()) {
   *   if (message.type === "events") …
   * }
   * ```
   *
   * Each event comes once, and the events of one session in order. A checkpoint comes at least
   * every second. If the connection breaks, is silent for 5 s, or the server is down or
   * overloaded, the watch continues after the last message by itself, with unlimited retries. No
   * checkpoints come meanwhile, and a `reset` tells if events are missing afterwards.
   *
   * The watch does not end by itself: leave the loop, or abort `signal`. Fails with
   * INVALID_ARGUMENT, UNAUTHENTICATED or PERMISSION_DENIED, and with CANCELED when `signal` aborts
   * or the client closes.
   */
  watchSessions(
    options: WatchSessionsOptions = {},
  ): AsyncGenerator<WatchMessage, never, undefined> {
    return watchSessions(this.#rpc, options);
  }

  /**
   * Closes the connection. Current and later calls reject with CANCELED.
   *
   * An idle connection does not keep a process alive, so a process can exit without this call.
   * Close a client that you replace, and so that the server knows immediately.
   */
  close(): void {
    this.#verifier.close();
    this.#rpc.close();
  }

  /** Same as `close`, for `using client = createSessionClient(…)`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
