import { hash } from "node:crypto";
import type {
  ClientInfo,
  CreatedSession,
  NewSession,
  RotatedSession,
  RotateSessionTokenOptions,
  Session,
  SessionUpdate,
} from "@sessiond/client";
import { HeldToken } from "./cookie/held-token.js";
import { type Device, devicesOf } from "./login/devices.js";
import { countAttempt, type LoginKeys, loginKeys } from "./login/login-limit.js";
import { replaceSession } from "./login/replace-session.js";
import type { Setup } from "./options.js";
import type { SessionData } from "./register.js";
import { clientAddress, clientInfo, isProxyUnknown } from "./requests/client-info.js";
import { isForged } from "./requests/cross-origin.js";
import type { ResponseHead } from "./requests/response-head.js";
import { isSafe, pathOf, type WebRequest, wantsPage } from "./requests/web-request.js";
import {
  type ErrorAnswer,
  WebError,
  type WebErrorOptions,
  type WebErrorReason,
} from "./web-error.js";
import { isReason, webErrorFrom } from "./web-error-from.js";

/** Enough for what a page has under way with the old token. */
const DEFAULT_GRACE_MS = 30_000;

/** A user who has proved their identity. */
export type Login = Omit<NewSession<SessionData>, "sessionId" | "requestId" | "tokenHash">;

/** What a framework gives for each request, besides the request. */
export interface RequestContext {
  /** The address of the connection: the client's, or the last proxy's. */
  readonly peerAddress: string | undefined;
  readonly head: ResponseHead;
}

/**
 * The session of one request. It is read from sessiond when somebody asks for it, and once.
 *
 * Every method rejects with a `WebError` if it cannot do what it says: with LOGIN_REQUIRED if it
 * needs a session and there is none, and with a reason of status 503 if sessiond cannot answer. A
 * failure never changes the cookie.
 */
export class RequestSession {
  readonly #setup: Setup;
  readonly #request: WebRequest;
  readonly #context: RequestContext;
  readonly #token: HeldToken;
  #loaded: Promise<Session<SessionData> | undefined> | undefined;

  /** @internal */
  constructor(setup: Setup, request: WebRequest, context: RequestContext) {
    this.#setup = setup;
    this.#request = request;
    this.#context = context;
    this.#token = new HeldToken(setup, request, context.head);
  }

  /** The session, or undefined if nobody is logged in. */
  get(): Promise<Session<SessionData> | undefined> {
    this.#loaded ??= this.#do(() => this.#load());
    return this.#loaded;
  }

  /** The session. Rejects with LOGIN_REQUIRED if nobody is logged in. */
  async require(): Promise<Session<SessionData>> {
    const session = await this.get();
    if (session === undefined) throw this.#loginRequired("LOGIN_REQUIRED");
    return session;
  }

  /** The session of a user with one of these roles. Otherwise rejects with ROLE_REQUIRED. */
  async requireRole(...roles: readonly string[]): Promise<Session<SessionData>> {
    const session = await this.require();
    if (!roles.some((role) => session.roles.includes(role))) throw this.#error("ROLE_REQUIRED");
    return session;
  }

  /**
   * The session of a user who proved their identity at most `maxAgeMs` ago. Otherwise rejects with
   * LOGIN_TOO_OLD: let the user log in again, or call `reauthenticated` after you have asked for
   * the password.
   */
  async requireFresh(maxAgeMs: number): Promise<Session<SessionData>> {
    if (!(maxAgeMs >= 0)) throw new TypeError("maxAgeMs: expected milliseconds");
    const session = await this.require();
    const { authenticateTime, lastAccessTime } = session;
    // The store's clock may be ahead of ours: its last access is in its own past.
    const nowMs = Math.max(this.#setup.now(), lastAccessTime.getTime());
    if (nowMs - authenticateTime.getTime() > maxAgeMs) throw this.#loginRequired("LOGIN_TOO_OLD");
    return session;
  }

  /**
   * Logs a user in: a new session with a new token, so that nobody who planted or knew the old one
   * profits (session fixation). Ends the session that the client brought. The answer has the token
   * for a client that keeps it itself; a browser gets the cookie.
   *
   * `client` is filled in from the request. Default `data` and times: the server's.
   */
  login(user: Login): Promise<CreatedSession<SessionData>> {
    return this.#do(async () => {
      const { client } = this.#setup;
      const login = { client: this.clientInfo(), ...user };
      const brought = this.#token.value;
      const created = await this.#token.ending(() => replaceSession(client, brought, login));
      this.#use(created);
      return created;
    });
  }

  /**
   * Logs in the user that `check` returns, unless there were too many attempts. Counts the address,
   * and the address with the user name. Undefined if `check` returns undefined.
   *
   * Rejects with TOO_MANY_ATTEMPTS before `check` is called. If attempts cannot be counted, it
   * rejects, too: who can overload the counter could otherwise guess without limit.
   */
  async attemptLogin(
    userName: string,
    check: () => Login | undefined | Promise<Login | undefined>,
  ): Promise<CreatedSession<SessionData> | undefined> {
    const { addressPolicy, userPolicy, client } = this.#setup;
    const keys = this.#loginKeys(userName);
    this.#token.willBeReplaced();
    await this.limit(addressPolicy, keys.address);
    await this.limit(userPolicy, keys.addressAndUser);
    const user = await check();
    if (user === undefined) return undefined;
    const created = await this.login(user);
    // A count that stays is no reason to refuse this login. The address's count stays on purpose:
    // with one account of their own, an attacker could otherwise reset it between guesses.
    await client.rateLimits.reset(userPolicy, keys.addressAndUser).catch(() => {});
    return created;
  }

  /**
   * Counts this request under a policy of the server. Rejects with TOO_MANY_ATTEMPTS if it is one
   * too many. The response tells of the limit in `RateLimit` and `RateLimit-Policy`.
   */
  limit(policy: string, key: string): Promise<void> {
    return this.#do(async () => {
      const { client, now } = this.#setup;
      const attempt = { policy, key, nowMs: now() };
      const refusal = await countAttempt(client, attempt, this.#context.head).catch((cause) => {
        // The application chose the policy and the key, and not the browser.
        throw isReason(cause, "INVALID_ARGUMENT") ? this.#error("INTERNAL", { cause }) : cause;
      });
      if (refusal !== undefined) throw this.#error("TOO_MANY_ATTEMPTS", { headers: refusal });
    });
  }

  /** Logs out: ends the session for good, and has the browser forget its cookie. */
  logout(): Promise<void> {
    return this.#do(async () => {
      const token = this.#token.value;
      if (token === undefined) return;
      const reason = "logged out";
      await this.#token.ending(() => this.#setup.client.revokeSession({ token }, { reason }));
      this.#token.forget();
      this.#loaded = Promise.resolve(undefined);
    });
  }

  /**
   * Replaces the token, as may be done from time to time. Requests that are under way with the old
   * one succeed for `graceMs` more, 30 s by default. Requests that replace the same token get the
   * same new one, also if the answer to the first was lost. If it was replaced in another way,
   * resolves with undefined, and the browser keeps what it has got there.
   */
  rotate({ graceMs = DEFAULT_GRACE_MS } = {}): Promise<RotatedSession<SessionData> | undefined> {
    return this.#do(async () => {
      // A token whose grace is over must not get the new one by the request id.
      await this.require();
      const requestId = `rotate-${hash("sha256", this.#token.value ?? "")}`;
      return this.#replace({ graceMs, requestId });
    });
  }

  /**
   * Replaces the token after the user has proved their identity again: the old one is invalid at
   * once, and the session is fresh for `requireFresh`.
   */
  reauthenticated(): Promise<RotatedSession<SessionData>> {
    return this.#do(async () => {
      await this.require();
      const rotated = await this.#replace({});
      if (rotated === undefined) throw this.#loginRequired("LOGIN_REQUIRED");
      return rotated;
    });
  }

  /** Changes the session, such as its data: `update({ setData: { theme: "dark" } })`. */
  update(update: SessionUpdate<SessionData>): Promise<Session<SessionData>> {
    return this.#do(async () => {
      const { id, userId } = await this.require();
      const { session } = await this.#setup.client.updateSession(id, update, { userId });
      this.#loaded = Promise.resolve(session);
      return session;
    });
  }

  /** The user's active sessions, the newest first. */
  devices(): Promise<Device[]> {
    return this.#do(async () => devicesOf(this.#setup.client, await this.require()));
  }

  /**
   * Ends another session of the user, or this one. False if the user has no active session with
   * this id: those of other users cannot be ended.
   */
  revokeDevice(sessionId: string): Promise<boolean> {
    return this.#do(async () => {
      const { id, userId } = await this.require();
      if (sessionId === id) {
        await this.logout();
        return true;
      }
      const reason = "signed out by the user";
      return this.#setup.client.revokeSession({ sessionId }, { userId, reason });
    });
  }

  /** Ends all other sessions of the user. Returns how many. */
  logoutEverywhereElse(): Promise<number> {
    return this.#do(async () => {
      const { id, userId } = await this.require();
      const options = { exceptSessionId: id, reason: "signed out by the user" };
      return this.#setup.client.revokeUserSessions(userId, options);
    });
  }

  /** Who sent this request: the address behind trusted proxies, the browser and its name. */
  clientInfo(): ClientInfo {
    return clientInfo(this.#request, this.#address());
  }

  /**
   * The session token that the client holds, for a call to another service, which verifies it
   * itself. Undefined if the client has none. Nobody has verified it here, unless you call `get`.
   */
  token(): string | undefined {
    return this.#token.value;
  }

  /**
   * Throws CROSS_ORIGIN if a page of another origin made the browser send this request. Every
   * framework's middleware calls it. A client with a bearer token cannot be abused like that.
   */
  checkOrigin(): void {
    const { trustedOrigins, warnings } = this.#setup;
    if (!this.#token.isBearer && isForged(this.#request, trustedOrigins)) {
      warnings.tell("crossOrigin");
      throw this.#error("CROSS_ORIGIN");
    }
  }

  /** The `WebError` for an error of the SDK. Other errors are not about sessions: undefined. */
  errorFrom(error: unknown): WebError | undefined {
    if (error instanceof WebError) return error;
    // The session has ended since it was read.
    if (isReason(error, "SESSION_NOT_FOUND")) return this.#loginRequired("LOGIN_REQUIRED");
    return webErrorFrom(error, { isPage: wantsPage(this.#request) });
  }

  /**
   * How to answer an error about sessions. Undefined for other errors. An answer of status 500 or
   * 503 tells the browser nothing, so `onError` gets the error, and `warn` the cause.
   */
  answerTo(error: unknown): ErrorAnswer | undefined {
    const webError = this.errorFrom(error);
    if (webError?.status === 500) this.#setup.onError(webError);
    if (webError?.status === 503) this.#setup.warnings.tellOutage(webError);
    return webError?.answer();
  }

  async #load(): Promise<Session<SessionData> | undefined> {
    const token = this.#token.value;
    this.#token.keepPrivate();
    if (token === undefined) return undefined;
    const session = await this.#setup.client.verifySession(token);
    if (session === undefined) this.#token.forgetInvalid(token);
    return session;
  }

  async #replace(
    options: RotateSessionTokenOptions,
  ): Promise<RotatedSession<SessionData> | undefined> {
    this.#token.willBeReplaced();
    try {
      const rotated = await this.#setup.client.rotateSessionToken(this.#token.value, options);
      if (this.#token.isEndedElsewhere()) return undefined;
      this.#use(rotated);
      return rotated;
    } catch (error) {
      if (isReason(error, "SESSION_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  #use({ token, session }: RotatedSession<SessionData>): void {
    this.#token.replace(token, session);
    this.#loaded = Promise.resolve(session);
  }

  #address(): string | undefined {
    const { peerAddress } = this.#context;
    return clientAddress(this.#request, peerAddress, this.#setup.trustedProxies);
  }

  #loginKeys(userName: string): LoginKeys {
    const address = this.#address();
    if (address === undefined) throw new TypeError("peerAddress: needed to limit attempts");
    if (typeof userName !== "string") {
      const detail = "The request is not valid: expected a user name.";
      throw this.#error("INVALID_ARGUMENT", { detail });
    }
    const { trustedProxies, warnings } = this.#setup;
    if (isProxyUnknown(this.#request, this.#context.peerAddress, trustedProxies)) {
      warnings.tell("unknownProxy");
    }
    return loginKeys(address, userName);
  }

  /** Runs an operation, whose errors become `WebError`s. */
  async #do<T>(operation: () => Promise<T>): Promise<T> {
    try {
      return await operation();
    } catch (error) {
      throw this.errorFrom(error) ?? error;
    }
  }

  #loginRequired(reason: "LOGIN_REQUIRED" | "LOGIN_TOO_OLD"): WebError {
    const { loginPath } = this.#setup;
    const path = pathOf(this.#request);
    const isElsewhere = loginPath !== undefined && path.split("?", 1)[0] !== loginPath;
    const returnTo = isSafe(this.#request) ? `?return_to=${encodeURIComponent(path)}` : "";
    return this.#error(reason, {
      headers: { "WWW-Authenticate": CHALLENGES[reason] },
      ...(isElsewhere && wantsPage(this.#request) && { location: loginPath + returnTo }),
    });
  }

  #error(reason: WebErrorReason, options: WebErrorOptions = {}): WebError {
    return new WebError(reason, { ...options, isPage: wantsPage(this.#request) });
  }
}

/** https://www.rfc-editor.org/rfc/rfc6750#section-3 and https://www.rfc-editor.org/rfc/rfc9470 */
const CHALLENGES = {
  LOGIN_REQUIRED: "Bearer",
  LOGIN_TOO_OLD: 'Bearer error="insufficient_user_authentication"',
};
