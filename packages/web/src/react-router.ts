import { randomUUID } from "node:crypto";
import type { Session as LoginSession, SessionClient } from "@sessiond/client";
import { createSession, type Session, type SessionStorage } from "react-router";
import { checkNames } from "./check-names.js";
import { type CookieOptions, SessionCookie } from "./cookie/session-cookie.js";
import { replaceSession } from "./login/replace-session.js";
import { OperatorWarnings } from "./operator-warnings.js";
import { checkClient } from "./options.js";
import type { SessionData } from "./register.js";
import type { Login } from "./request-session.js";
import type { WebRequest } from "./requests/web-request.js";
import type { WebError } from "./web-error.js";
import { isReason, webErrorFrom } from "./web-error-from.js";

/** Options of `createSessionStorage`. */
export interface ReactRouterSessionsOptions<Data> {
  readonly client: SessionClient<SessionData>;

  /**
   * Who is logged in by this data, such as `({ userId }) => userId && { userId }`. A guest has a
   * user of their own.
   */
  readonly user: (data: Partial<Data>) => Omit<Login, "data"> | undefined | "";

  /**
   * As in `createWebSessions`, but `allowPlainLocalhost` is the default only if `NODE_ENV` is
   * `development`, as `react-router dev` sets it: React Router does not say whether a request came
   * over TLS.
   */
  readonly cookie?: CookieOptions | undefined;

  /** As in `createWebSessions`: receives each error of status 500. Default: `console.error`. */
  readonly onError?: ((error: WebError) => void) | undefined;

  /** As in `createWebSessions`. Default: `console.warn`. */
  readonly warn?: ((message: string) => void) | undefined;
}

const NAMES = {
  client: true,
  user: true,
  cookie: true,
  onError: true,
  warn: true,
} satisfies Record<keyof ReactRouterSessionsOptions<object>, true>;

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
  checkNames(options, NAMES);
  const { client, user, warn = console.warn, onError = console.error } = options;
  checkClient(client);
  if (typeof user !== "function") throw new TypeError("user: expected a function of the data");
  const warnings = new OperatorWarnings(warn, Date.now);
  const { allowPlainLocalhost = process.env["NODE_ENV"] === "development" } = options.cookie ?? {};
  const cookie = new SessionCookie({ ...options.cookie, allowPlainLocalhost }, warnings);
  /** The user of each session as it was read. */
  const users = new WeakMap<RouterSession, string>();

  const tell = (error: WebError) => {
    if (error.status === 500) onError(error);
    if (error.status === 503) warnings.tellOutage(error);
  };

  const start = async (session: RouterSession, login: Omit<Login, "data"> | undefined) => {
    const owner = login ?? { userId: `guest:${randomUUID()}` };
    const data = session.data as SessionData;
    const created = await replaceSession(client, session.id, { ...owner, data });
    return cookie.line(requestWith(undefined), created.token, created.session);
  };

  return {
    getSession: (header) =>
      withWebErrors(tell, async () => {
        const token = cookie.read(requestWith(header)) ?? "";
        const found = await client.verifySession(token);
        const data = (found?.data ?? {}) as Data;
        const session = createSession<Data, FlashData>(data, found === undefined ? "" : token);
        if (found !== undefined) users.set(session, found.userId);
        return session;
      }),

    commitSession: (session) =>
      withWebErrors(tell, async () => {
        const login = user(session.data as Partial<Data>) || undefined;
        const before = users.get(session);
        const isNewUser = login !== undefined && login.userId !== before;
        if (session.id === "" || isNewUser) return start(session, login);
        const current = await client.verifySession(session.id);
        if (current === undefined) return cookie.clearingLine(requestWith(undefined));
        if (login === undefined && !isGuest(current)) return start(session, undefined);
        const update = { data: session.data as SessionData };
        const { id, userId } = current;
        try {
          const updated = await client.updateSession(id, update, { userId });
          return cookie.line(requestWith(undefined), session.id, updated.session);
        } catch (error) {
          if (!isReason(error, "SESSION_NOT_FOUND")) throw error;
          return cookie.clearingLine(requestWith(undefined));
        }
      }),

    destroySession: ({ id }) =>
      withWebErrors(tell, async () => {
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

/** Runs an operation, whose errors become `WebError`s. Whoever answers them drops their cause. */
async function withWebErrors<T>(
  tell: (error: WebError) => void,
  operation: () => Promise<T>,
): Promise<T> {
  try {
    return await operation();
  } catch (error) {
    const webError = webErrorFrom(error);
    if (webError !== undefined) tell(webError);
    throw webError ?? error;
  }
}
