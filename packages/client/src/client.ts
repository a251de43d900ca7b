import { malformedAnswer, SessiondError } from "./error.js";
import { LockClient } from "./locks/lock-client.js";
import { type CallOptions, checkOptions, type SessionClientOptions } from "./options.js";
import { RateLimitClient } from "./rate-limits/rate-limit-client.js";
import { narrowing, text, texts } from "./rpc/fields.js";
import { RpcCaller } from "./rpc/rpc-caller.js";
import { type Connection, openConnection } from "./rpc/transport.js";
import {
  type CreatedSession,
  type RotatedSession,
  readMask,
  resultsFrom,
  type Session,
  type SessionField,
  type SessionPage,
  type SessionResult,
  sessionFrom,
} from "./sessions/session.js";
import type {
  FieldSelection,
  GetSessionOptions,
  ListAllSessionsOptions,
  RevokeSessionOptions,
  RevokeUserSessionsOptions,
  UpdateSessionOptions,
  VerifySessionOptions,
} from "./sessions/session-options.js";
import {
  createRequest,
  fenceFrom,
  listRequest,
  type NewSession,
  type SessionQuery,
  type SessionTarget,
  type SessionUpdate,
  targetFrom,
  updateRequest,
} from "./sessions/session-request.js";
import { type WatchMessage, type WatchSessionsOptions, watchSessions } from "./sessions/watch.js";

/** Sessions per page of `listAllSessions`: few calls, and answers of moderate size. */
const LIST_ALL_PAGE_SIZE = 500;

/**
 * Connects to a sessiond server.
 *
 * The connection is made by the first call and again whenever it is lost. One
 * client serves a whole process; it is safe to use from many places at once.
 *
 * @throws SessiondError INVALID_ARGUMENT, naming each option that is wrong
 */
export function createSessionClient(options: SessionClientOptions): SessionClient {
  const checked = checkOptions(options);
  const { server } = checked;
  // Whoever opens a thing closes it: a transport of the caller's own stays open.
  const connection = "unary" in server ? { transport: server, close() {} } : openConnection(server);
  return new SessionClient(new RpcCaller(connection.transport, checked), connection);
}

/**
 * The sessions of a sessiond server. Made by `createSessionClient`.
 *
 * Every method rejects with a `SessiondError` and nothing else. Besides the
 * reasons named at each method, every call can fail with UNAUTHENTICATED,
 * PERMISSION_DENIED, INVALID_ARGUMENT, ISSUER_UNAVAILABLE, STORE_UNAVAILABLE,
 * OVERLOADED, UNAVAILABLE, DEADLINE_EXCEEDED, CANCELED and INTERNAL.
 *
 * An option that narrows a call (`userId`, `etag`, `exceptSessionId`, the fields
 * of a filter) is refused when it is there but empty or undefined, since to
 * ignore it would widen the call in silence.
 */
export class SessionClient implements Disposable {
  readonly #rpc: RpcCaller;
  readonly #connection: Connection;

  /** The server's locks, over the same connection. */
  readonly locks: LockClient;

  /** The server's rate limits, over the same connection. */
  readonly rateLimits: RateLimitClient;

  /** @internal */
  constructor(rpc: RpcCaller, connection: Connection) {
    this.#rpc = rpc;
    this.#connection = connection;
    this.locks = new LockClient(rpc);
    this.rateLimits = new RateLimitClient(rpc);
  }

  /**
   * Starts a session and returns its token, the only time it is shown.
   *
   * Fails with SESSION_ALREADY_EXISTS if the chosen `sessionId` is taken, and
   * with SESSION_LIMIT_REACHED if the user has too many sessions and the server
   * is configured to refuse rather than to evict.
   *
   * Made again when it is not known whether it took effect, like a read: every
   * creation has a request id, by which the server knows the second attempt and
   * answers the session and the token of the first. With a `requestId` of the
   * caller's own, fails with REQUEST_ID_REUSED if that was used for something
   * else, and with SESSION_NOT_FOUND if its session is gone for good.
   */
  async createSession(session: NewSession, options?: CallOptions): Promise<CreatedSession> {
    const answer = await this.#rpc.call("createSession", createRequest(session), options);
    return {
      session: sessionFrom(answer.session),
      token: answer.token,
      evictedSessionIds: answer.evictedSessionIds,
    };
  }

  /**
   * The session of a token, or undefined if the token is not valid: unknown,
   * expired, revoked or malformed. Counts as activity unless told otherwise.
   *
   * "Not valid" is an answer and not an error, so that it cannot be mistaken for
   * a server that could not answer, which always rejects: the first means that
   * the user must log in again, the second that the request must fail.
   *
   * Fails with SESSION_UNREADABLE if the session is there but cannot be unsealed.
   */
  async verifySession(
    token: string,
    options: VerifySessionOptions = {},
  ): Promise<Session | undefined> {
    return foundOrUndefined(async () => {
      const request = { token: text(token, "token"), noTouch: options.noTouch ?? false };
      const answer = await this.#rpc.call("verifySession", request, options);
      return sessionFrom(answer.session);
    });
  }

  /**
   * Verifies up to 1000 tokens with one call. The results stand in the order of
   * the tokens; one that is not valid has the error SESSION_NOT_FOUND.
   */
  async batchVerifySessions(
    tokens: readonly string[],
    options: VerifySessionOptions = {},
  ): Promise<SessionResult[]> {
    const request = { tokens: texts(tokens, "tokens"), noTouch: options.noTouch ?? false };
    if (tokens.length === 0) {
      return [];
    }
    const answer = await this.#rpc.call("batchVerifySessions", request, options);
    return resultsFrom(answer.results, tokens.length);
  }

  /**
   * An active session by its id, or undefined if there is none: unknown, expired
   * or revoked. Does not count as activity.
   *
   * Fails with SESSION_UNREADABLE if the session is there but cannot be unsealed.
   */
  async getSession(sessionId: string, options?: GetSessionOptions): Promise<Session | undefined>;
  async getSession<F extends SessionField>(
    sessionId: string,
    options: GetSessionOptions & FieldSelection<F>,
  ): Promise<Pick<Session, F> | undefined>;
  async getSession<F extends SessionField>(
    sessionId: string,
    options: GetSessionOptions & Partial<FieldSelection<F>> = {},
  ): Promise<Pick<Session, F> | undefined> {
    const { fields } = options;
    return foundOrUndefined(async () => {
      const request = {
        sessionId: text(sessionId, "session_id"),
        userId: narrowing(options, "userId", "user_id"),
        ...(fields && { readMask: readMask(fields) }),
      };
      const answer = await this.#rpc.call("getSession", request, options);
      return sessionFrom(answer.session, fields);
    });
  }

  /**
   * Up to 1000 active sessions by their ids with one call. The results stand in
   * the order of the ids; one that is not there has the error SESSION_NOT_FOUND.
   */
  async batchGetSessions(
    sessionIds: readonly string[],
    options?: CallOptions,
  ): Promise<SessionResult[]>;
  async batchGetSessions<F extends SessionField>(
    sessionIds: readonly string[],
    options: CallOptions & FieldSelection<F>,
  ): Promise<SessionResult<Pick<Session, F>>[]>;
  async batchGetSessions<F extends SessionField>(
    sessionIds: readonly string[],
    options: CallOptions & Partial<FieldSelection<F>> = {},
  ): Promise<SessionResult<Pick<Session, F>>[]> {
    const { fields } = options;
    const request = {
      sessionIds: texts(sessionIds, "session_ids"),
      ...(fields && { readMask: readMask(fields) }),
    };
    if (sessionIds.length === 0) {
      return [];
    }
    const answer = await this.#rpc.call("batchGetSessions", request, options);
    return resultsFrom(answer.results, sessionIds.length, fields);
  }

  /**
   * One page of a list; `pageToken` is the `nextPageToken` of the page before,
   * which must have been asked for with the same query. A page may hold fewer
   * sessions than asked for, even none, without being the last.
   */
  async listSessions(
    query: SessionQuery & { pageToken?: string | undefined } = {},
    options?: CallOptions,
  ): Promise<SessionPage> {
    const request = listRequest(query, query.pageToken ?? "");
    const answer = await this.#rpc.call("listSessions", request, options);
    return {
      sessions: answer.sessions.map((session) => sessionFrom(session)),
      unreadableSessionIds: answer.unreadableSessionIds,
      nextPageToken: answer.nextPageToken === "" ? undefined : answer.nextPageToken,
    };
  }

  /**
   * All sessions of a list, read page by page as they are consumed:
   *
   * ```ts
   * for await (const session of client.listAllSessions({ userId: "user-1" })) …
   * ```
   *
   * A session that exists throughout is listed exactly once. `pageSize` is 500
   * unless given.
   */
  async *listAllSessions(
    query: SessionQuery = {},
    options: ListAllSessionsOptions = {},
  ): AsyncGenerator<Session, void, undefined> {
    const { pageSize = LIST_ALL_PAGE_SIZE } = query;
    let pageToken: string | undefined;
    do {
      const page: SessionPage = await this.listSessions({ ...query, pageSize, pageToken }, options);
      yield* page.sessions;
      if (page.unreadableSessionIds.length > 0) {
        options.onUnreadable?.(page.unreadableSessionIds);
      }
      if (page.nextPageToken === pageToken && pageToken !== undefined) {
        throw malformedAnswer("a page names itself as the next");
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== undefined);
  }

  /** The exact number of active sessions: of one user, or of all when `userId` is left out. */
  async countSessions(query: { userId?: string } = {}, options?: CallOptions): Promise<number> {
    const request = { userId: narrowing(query, "userId", "user_id") };
    const answer = await this.#rpc.call("countSessions", request, options);
    return answer.count;
  }

  /**
   * Changes what the update names and leaves all else alone, also under
   * concurrent updates. Does not count as activity.
   *
   * ```ts
   * await client.updateSession(id, { displayName: "Ada", setData: { theme: "dark" } });
   * ```
   *
   * Fails with SESSION_NOT_FOUND, given an etag with ETAG_MISMATCH, and given a
   * fence with LOCK_NOT_HELD. Not made again when it is not known whether it took effect.
   */
  async updateSession(
    sessionId: string,
    update: SessionUpdate,
    options: UpdateSessionOptions = {},
  ): Promise<Session> {
    const request = {
      sessionId: text(sessionId, "session_id"),
      userId: narrowing(options, "userId", "user_id"),
      etag: narrowing(options, "etag", "etag"),
      ...fenceFrom(options),
      ...updateRequest(update),
    };
    const answer = await this.#rpc.call("updateSession", request, options);
    return sessionFrom(answer.session);
  }

  /**
   * Moves the idle deadline to a full idle timeout from now, never past the
   * absolute one. Fails with SESSION_NOT_FOUND.
   */
  async refreshSession(target: SessionTarget, options?: CallOptions): Promise<Session> {
    const request = { target: targetFrom(target) };
    const answer = await this.#rpc.call("refreshSession", request, options);
    return sessionFrom(answer.session);
  }

  /**
   * Replaces a session's token after a re-authentication or a change of
   * privilege; the old one is dead at once.
   *
   * Fails with SESSION_NOT_FOUND, also for the loser of two concurrent calls with
   * the same token. Not made again when it is not known whether it took effect:
   * the new token may be lost then, and the user has to log in again.
   */
  async rotateSessionToken(token: string, options?: CallOptions): Promise<RotatedSession> {
    const request = { token: text(token, "token") };
    const answer = await this.#rpc.call("rotateSessionToken", request, options);
    return { session: sessionFrom(answer.session), token: answer.token };
  }

  /**
   * Ends a session, finally. True if this call ended it, false if it was not
   * active: to revoke twice is no error. When the answer to a first attempt was
   * lost, the second answers false although the first ended the session.
   */
  async revokeSession(target: SessionTarget, options: RevokeSessionOptions = {}): Promise<boolean> {
    const request = { target: targetFrom(target), reason: text(options.reason ?? "", "reason") };
    const answer = await this.#rpc.call("revokeSession", request, options);
    return answer.revoked;
  }

  /**
   * Ends all active sessions of a user in one step, optionally all but one, and
   * returns how many this call ended. What was said of a lost answer at
   * `revokeSession` goes for the number, too.
   */
  async revokeUserSessions(
    userId: string,
    options: RevokeUserSessionsOptions = {},
  ): Promise<number> {
    const request = {
      userId: text(userId, "user_id"),
      exceptSessionId: narrowing(options, "exceptSessionId", "except_session_id"),
      reason: text(options.reason ?? "", "reason"),
    };
    const answer = await this.#rpc.call("revokeUserSessions", request, options);
    return answer.revokedCount;
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
   * Each event comes once, and those of one session in order. Goes on by itself
   * from the last message, without a limit, when the connection breaks, falls
   * silent for 5 s, or the server is down or overloaded. While that takes there
   * are no checkpoints, which else come at least every second. Where events are
   * missing after that, it says so with a `reset`.
   *
   * Does not end by itself: leave the loop, or abort `signal`. Fails with
   * INVALID_ARGUMENT, UNAUTHENTICATED or PERMISSION_DENIED, and with CANCELED on
   * abort and when the client closes.
   */
  watchSessions(
    options: WatchSessionsOptions = {},
  ): AsyncGenerator<WatchMessage, never, undefined> {
    return watchSessions(this.#rpc, options);
  }

  /**
   * Closes the connection. Calls under way and later ones reject with CANCELED.
   *
   * A process can exit after it. It could without, too, since an idle connection
   * does not keep a process alive; closing is for a client that is replaced, and
   * lets the server know at once.
   */
  close(): void {
    this.#rpc.close();
    this.#connection.close();
  }

  /** As `close`, for `using client = createSessionClient(…)`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Turns SESSION_NOT_FOUND, and nothing else, into undefined. */
async function foundOrUndefined<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof SessiondError && error.reason === "SESSION_NOT_FOUND") {
      return undefined;
    }
    throw error;
  }
}
