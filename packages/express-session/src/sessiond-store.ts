import {
  hashCredential,
  type NewSession,
  type Session,
  type SessionClient,
  SessiondError,
} from "@sessiond/client";
import { type SessionData, Store } from "express-session";
import { type Callback, deliver } from "./deliver.js";
import {
  fromStoredData,
  idleTimeoutOf,
  isOfExpressSession,
  type StoredData,
  timeLeftMs,
  toStoredData,
} from "./session-data.js";
import { guestOf, successorOf } from "./session-ids.js";

/** The user of a session, as your application knows it. */
export interface SessionUser extends Pick<NewSession, "displayName" | "roles" | "client"> {
  /** 1 to 256 bytes. */
  id: string;
}

/** Options of `SessiondStore`. */
export interface SessiondStoreOptions {
  /** The client of sessiond, which `createSessionClient` makes. The store does not close it. */
  client: SessionClient;

  /**
   * The user who is logged in with a session: an id, or more about the user, or undefined for a
   * guest. Called whenever a session is saved. Default: everybody is a guest.
   */
  user?: ((session: SessionData) => SessionUser | string | undefined | null) | undefined;

  /**
   * How long a session lives without a request, in milliseconds, if its cookie has no `maxAge`.
   * Default: the server's (30 minutes).
   */
  idleTimeoutMs?: number | undefined;

  /** How long a session lives at most, in milliseconds. Default: the server's (24 hours). */
  lifetimeMs?: number | undefined;
}

/** A session in sessiond, and the credential that it has. */
interface Kept {
  readonly credential: string;
  readonly id: string;
  readonly userId: string;
}

/** What `set` writes, taken at the call: the application may go on and change its object. */
interface Written {
  readonly data: StoredData;
  /** Undefined for a guest. */
  readonly user: SessionUser | undefined;
  readonly idleTimeoutMs: number | undefined;
}

/** Why a session ended. `set` tells by it whether a login or `destroy` was first. */
const REPLACED = "replaced at login";
const DESTROYED = "destroyed";

/**
 * A store for express-session and @fastify/session that keeps the sessions in sessiond. It needs the
 * permissions `sessions:create`, `sessions:read`, `sessions:update` and `sessions:delete`.
 *
 * Each method takes a callback, or returns a promise without one. Every failure is an error, mostly
 * a `SessiondError`: no session is the answer only if sessiond says that there is none.
 */
export class SessiondStore extends Store {
  readonly #client: SessionClient;
  readonly #user: SessiondStoreOptions["user"];
  readonly #timeouts: Pick<SessiondStoreOptions, "idleTimeoutMs" | "lifetimeMs">;

  /** Where an object of a session comes from. What came from sessiond is never created again. */
  readonly #kept = new WeakMap<object, Kept>();

  constructor({ client, user, idleTimeoutMs, lifetimeMs }: SessiondStoreOptions) {
    super();
    this.#client = client;
    this.#user = user;
    this.#timeouts = { idleTimeoutMs, lifetimeMs };
  }

  /** The session of an id, or null. Counts as activity: it moves the idle deadline. */
  override get(sid: string, callback?: Callback<SessionData | null>) {
    return deliver(this.#get(sid), callback);
  }

  /**
   * Saves a session. Changes nothing if the session has been destroyed or revoked, whoever did that:
   * a request that was under way does not bring it back. Ends the session if its cookie has expired,
   * or if it was a user's and `user` names none any more.
   *
   * Fails with INVALID_ARGUMENT, and with the size, if the data has more than 16 KiB as JSON. Fails
   * with it, too, if `user` names another user than before: call `regenerate` first.
   */
  override set(sid: string, session: SessionData, callback?: Callback<void>) {
    return deliver(this.#save(sid, session), callback);
  }

  /**
   * Counts as activity, and writes no data. What `get` read in this request has counted already,
   * and sessiond moves a deadline once per tenth of the idle timeout.
   */
  override touch(sid: string, session: SessionData, callback?: Callback<void>) {
    return deliver(this.#touch(sid, session), callback);
  }

  /** Ends a session for good. */
  override destroy(sid: string, callback?: Callback<void>) {
    return deliver(this.#destroy(sid), callback);
  }

  /** All active sessions, without their ids: those are credentials, and sessiond has only hashes. */
  override all(callback?: Callback<SessionData[]>) {
    return deliver(this.#all(), callback);
  }

  /** How many sessions are active. Reads all of them. */
  override length(callback?: Callback<number>) {
    return deliver(
      this.#all().then((sessions) => sessions.length),
      callback,
    );
  }

  /** Ends all sessions, one after the other. */
  override clear(callback?: Callback<void>) {
    return deliver(this.#clear(), callback);
  }

  /** Makes the session of a request out of what `get` answered, as express-session does it. */
  override createSession(...args: Parameters<Store["createSession"]>) {
    const kept = this.#kept.get(args[1]);
    const session = super.createSession(...args);
    if (kept !== undefined) this.#kept.set(session, kept);
    return session;
  }

  async #get(sid: string): Promise<SessionData | null> {
    const found = await this.#find(sid);
    if (found === undefined) return null;
    const data = fromStoredData(found.session);
    this.#kept.set(data, found.kept);
    return data;
  }

  async #save(sid: string, session: SessionData): Promise<void> {
    if ((timeLeftMs(session) ?? 1) <= 0) return this.#destroy(sid);
    const written = this.#written(session);
    const known = this.#known(sid, session) ?? (await this.#find(sid, true))?.kept;
    const kept = await this.#write(sid, written, known);
    if (kept !== undefined) this.#kept.set(session, kept);
  }

  #written(session: SessionData): Written {
    const named = this.#user?.(session) ?? undefined;
    return {
      data: toStoredData(session),
      user: typeof named === "string" ? { id: named } : named,
      idleTimeoutMs: idleTimeoutOf(session) ?? this.#timeouts.idleTimeoutMs,
    };
  }

  /** Answers where the data is now, or undefined if the session has ended. */
  async #write(sid: string, written: Written, kept: Kept | undefined): Promise<Kept | undefined> {
    if (kept === undefined) return this.#create(sid, written);
    const userId = written.user?.id ?? (this.#user === undefined ? kept.userId : guestOf(sid));
    if (userId === kept.userId) return this.#update(kept, written);
    if (written.user !== undefined) return this.#replace(sid, kept, written);
    // Logged out without `destroy`.
    await this.#client.revokeSession({ token: kept.credential }, { reason: DESTROYED });
    return undefined;
  }

  async #create(sid: string, written: Written): Promise<Kept | undefined> {
    const created = await this.#createWith(sid, sid, written);
    if (created !== undefined) return created;
    // Somebody created it just now, or it has ended: then it stays so.
    const found = await this.#find(sid, true);
    return found && this.#write(sid, written, found.kept);
  }

  /** Undefined if the credential is or was in use. */
  async #createWith(sid: string, credential: string, written: Written): Promise<Kept | undefined> {
    const { data, idleTimeoutMs, user: { id: userId = guestOf(sid), ...described } = {} } = written;
    const { lifetimeMs } = this.#timeouts;
    const tokenHash = hashCredential(credential);
    const timeouts = { idleTimeoutMs, lifetimeMs };
    try {
      const created = { userId, ...described, data, tokenHash, ...timeouts };
      const { session } = await this.#client.createSession(created);
      return { credential, id: session.id, userId };
    } catch (error) {
      if (isReason(error, "SESSION_ALREADY_EXISTS")) return undefined;
      throw error;
    }
  }

  async #update(kept: Kept, { data, user }: Written): Promise<Kept | undefined> {
    const { id: _, ...described } = user ?? {};
    try {
      const { id, userId } = kept;
      await this.#client.updateSession(id, { ...described, data }, { userId });
      return kept;
    } catch (error) {
      if (isReason(error, "SESSION_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  /**
   * Gives the session id to another user: creates the user's session, then ends the guest's. A
   * `destroy` before or meanwhile ends the new session, or we notice that it ended the guest's.
   */
  async #replace(sid: string, old: Kept, written: Written): Promise<Kept | undefined> {
    // Whoever knew the id as its first user would know the second user's (session fixation).
    if (old.userId !== guestOf(sid)) {
      const message = "user: a session has one user; call regenerate() before another one logs in";
      throw new SessiondError("INVALID_ARGUMENT", message);
    }
    const credential = successorOf(sid);
    const replacement =
      (await this.#createWith(sid, credential, written)) ??
      (await this.#updateReplacement(credential, written));
    if (replacement === undefined) return undefined;
    const target = { token: old.credential };
    if (await this.#client.revokeSession(target, { reason: REPLACED })) return replacement;
    if ((await this.#reasonOfEnd(old)) === REPLACED) return replacement;
    await this.#client.revokeSession({ token: credential }, { reason: DESTROYED });
    return undefined;
  }

  /** The same user's login at the same time was faster, or this one was cut off before. */
  async #updateReplacement(credential: string, written: Written): Promise<Kept | undefined> {
    const session = await this.#client.verifySession(credential, { noTouch: true });
    if (session === undefined || session.userId !== written.user?.id) return undefined;
    return this.#update({ credential, id: session.id, userId: session.userId }, written);
  }

  async #reasonOfEnd({ id, userId }: Kept): Promise<string | undefined> {
    for await (const session of this.#client.listAllSessions({ userId, showRevoked: true })) {
      if (session.id === id) return session.revokeReason;
    }
    return undefined;
  }

  async #touch(sid: string, session: SessionData): Promise<void> {
    if ((timeLeftMs(session) ?? 1) <= 0) return this.#destroy(sid);
    if (this.#known(sid, session) === undefined) await this.#find(sid);
  }

  /** Where an object comes from, unless it is saved under another id, as a copy is. */
  #known(sid: string, session: SessionData): Kept | undefined {
    const kept = this.#kept.get(session);
    const isOfId = kept?.credential === sid || kept?.credential === successorOf(sid);
    return isOfId ? kept : undefined;
  }

  /**
   * Ends the first session, and its successor only if the first was over. A login at the same time
   * then notices the destroy, or we notice the login.
   */
  async #destroy(sid: string): Promise<void> {
    for (const token of [sid, successorOf(sid)]) {
      if (await this.#client.revokeSession({ token }, { reason: DESTROYED })) return;
    }
  }

  async #find(sid: string, noTouch = false) {
    for (const credential of [sid, successorOf(sid)]) {
      const session = await this.#client.verifySession(credential, { noTouch });
      if (session === undefined) continue;
      return { session, kept: { credential, id: session.id, userId: session.userId } };
    }
    return undefined;
  }

  async #all(): Promise<SessionData[]> {
    const all: SessionData[] = [];
    for await (const session of this.#sessions()) all.push(fromStoredData(session));
    return all;
  }

  async *#sessions(): AsyncGenerator<Session> {
    for await (const session of this.#client.listAllSessions()) {
      if (isOfExpressSession(session)) yield session;
    }
  }

  async #clear(): Promise<void> {
    for await (const { id: sessionId, userId } of this.#sessions()) {
      await this.#client.revokeSession({ sessionId }, { userId, reason: DESTROYED });
    }
  }
}

function isReason(error: unknown, reason: SessiondError["reason"]): boolean {
  return error instanceof SessiondError && error.reason === reason;
}
