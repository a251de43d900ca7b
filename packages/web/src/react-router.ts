import { randomUUID } from "node:crypto";
import type { Session as LoginSession, SessionClient } from "@sessiond/client";
import { createSession, type Session, type SessionStorage } from "react-router";
import { type CookieOptions, SessionCookie } from "./cookie/session-cookie.js";
import type { SessionData } from "./register.js";
import type { Login } from "./request-session.js";
import type { WebRequest } from "./requests/web-request.js";
import { webErrorFrom } from "./web-error-from.js";

/** Options of `createSessionStorage`. */
export interface ReactRouterSessionsOptions<Data> {
  readonly client: SessionClient<SessionData>;

  /**
   * Who is logged in by this data, such as `({ userId }) => userId && { userId }`. A guest has a
   * user of their own.
   */
  readonly user: (data: Partial<Data>) => Omit<Login, "data"> | undefined | "";

  /** As in `createWebSessions`. Unless `NODE_ENV` is `production`, it needs no TLS. */
  readonly cookie?: CookieOptions | undefined;

  /** Receives what an operator should know, once. Default: `console.warn`. */
  readonly warn?: ((message: string) => void) | undefined;
}

/**
 * The sessions of React Router, kept in sessiond. React Router's own `createSessionStorage` cannot
 * give a session another id when the user logs in, so this one is made for it:
 *
 * ```ts
 * export const { getSession, commitSession, destroySession } = createSessionStorage<Data>({
 *   client,
 *   user: ({ userId }) => userId && { userId },
 * });
 * ```
 *
 * When `user` names another user than before, `commitSession` starts a new session with a new token
 * and ends the old one. A session that has ended meanwhile does not come back by a commit: the
 * cookie goes. Every method rejects with a `WebError`; throw its `getResponse()` from a loader.
 *
 * @throws TypeError that names a wrong option
 */
export function createSessionStorage<Data extends object, FlashData = Data>(
  options: ReactRouterSessionsOptions<Data>,
): SessionStorage<Data, FlashData> {
  type RouterSession = Session<Data, FlashData>;
  const { client, user, warn = console.warn } = options;
  const cookie = new SessionCookie(options.cookie ?? {}, warn);
  /** The user of each session as it was read. */
  const users = new WeakMap<RouterSession, string>();

  const start = async (session: RouterSession, login: Omit<Login, "data"> | undefined) => {
    const { data } = session;
    const owner = login ?? { userId: `guest:${randomUUID()}` };
    const created = await client.createSession({ ...owner, data: data as SessionData });
    await client.revokeSession({ token: session.id }, { reason: "replaced by a login" });
    return cookie.line(requestWith(undefined), created.token, created.session);
  };

  return {
    getSession: (header) =>
      withWebErrors(async () => {
        const token = cookie.read(requestWith(header)) ?? "";
        const found = await client.verifySession(token);
        const data = (found?.data ?? {}) as Data;
        const session = createSession<Data, FlashData>(data, found === undefined ? "" : token);
        if (found !== undefined) users.set(session, found.userId);
        return session;
      }),

    commitSession: (session) =>
      withWebErrors(async () => {
        const login = user(session.data as Partial<Data>) || undefined;
        const before = users.get(session);
        const isNewUser = login !== undefined && login.userId !== before;
        if (session.id === "" || isNewUser) return start(session, login);
        const current = await client.verifySession(session.id);
        if (current === undefined) return cookie.clearingLine(requestWith(undefined));
        if (login === undefined && !isGuest(current)) return start(session, undefined);
        const update = { data: session.data as SessionData };
        const updated = await client.updateSession(current.id, update, { userId: current.userId });
        return cookie.line(requestWith(undefined), session.id, updated.session);
      }),

    destroySession: ({ id }) =>
      withWebErrors(async () => {
        await client.revokeSession({ token: id }, { reason: "logged out" });
        return cookie.clearingLine(requestWith(undefined));
      }),
  };
}

function isGuest({ userId }: LoginSession<object>): boolean {
  return userId.startsWith("guest:");
}

/** React Router gives the cookies of a request and nothing else. */
function requestWith(cookie: string | null | undefined): WebRequest {
  const headers = new Headers(cookie ? { cookie } : {});
  return { method: "GET", url: "http://localhost/", headers };
}

async function withWebErrors<T>(operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    throw webErrorFrom(error) ?? error;
  }
}
