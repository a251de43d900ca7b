import { createHmac } from "node:crypto";
import { hashCredential, type SessionClient, SessiondError } from "@sessiond/client";
import { type Login, type SessionData, WebError } from "@sessiond/web";
import type { Request, RequestHandler, Response } from "express";
import type { SessionData as OldSession, Store } from "express-session";
import { COOKIE, SECRET, TIMES } from "./settings.ts";

/** The name of express-session's cookie: its option `name`. One with a `domain` is cleared with it. */
const OLD_COOKIE = "connect.sid";
/** A user who waits longer for the old store is told to try again. */
const STORE_TIMEOUT_MS = 1000;
const HOUR_MS = 3_600_000;

/** The sessions of express-session. */
export interface OldSessions {
  readonly store: Store;
  /** The user of a session, and what becomes of its data. Undefined for a guest. */
  user(session: OldSession): Login | undefined;
}

/**
 * Moves the session of an old cookie to sessiond, and gives the browser our cookie. It stands behind
 * cookie-parser and `sessions`, and another `sessions` behind it reads the request as it is then.
 *
 * The new token follows from the old session id. So requests with the same old cookie get the same
 * session, in every process, and none depends on the answer to another.
 */
export function moveSessions(
  client: SessionClient<SessionData>,
  { store, user }: OldSessions,
): RequestHandler {
  return async (req, res, next) => {
    const sid = req.signedCookies[OLD_COOKIE];
    if (typeof sid !== "string") return next();
    if (COOKIE.name in req.cookies) {
      // The browser has taken our cookie, so nothing needs the old one.
      res.clearCookie(OLD_COOKIE);
      return next();
    }

    const old = await ask<OldSession | null>(req, (done) => store.get(sid, done));
    const login = old ? user(old) : undefined;
    const token = tokenFor(sid);
    if (login !== undefined) {
      await createOnce(client, token, { client: req.sessiond.clientInfo(), ...login });
      await ask(req, (done) => store.destroy(sid, done));
    }
    const session = await client.verifySession(token);
    if (session !== undefined) useCookie(req, res, token, session.absoluteExpireTime);
    else if (!old) res.clearCookie(OLD_COOKIE);
    return next();
  };
}

/** The secret is in it, so that old session ids that leak, as in a backup of Redis, are worth nothing. */
function tokenFor(sid: string): string {
  return `moved_${createHmac("sha256", SECRET).update(`sessiond ${sid}`).digest("base64url")}`;
}

/** Creates the session, unless another request has done so. */
async function createOnce(
  client: SessionClient<SessionData>,
  token: string,
  login: Login,
): Promise<void> {
  // Nobody knows when the user typed the password: too long ago for `requireFresh`.
  const createTime = new Date(Date.now() - HOUR_MS);
  const tokenHash = hashCredential(token);
  try {
    await client.createSession({ ...TIMES, createTime, ...login, tokenHash });
  } catch (error) {
    const hasMoved = error instanceof SessiondError && error.reason === "SESSION_ALREADY_EXISTS";
    if (!hasMoved) throw error;
  }
}

/** Sets the cookie as `@sessiond/web` does, and has this request bring it already. */
function useCookie(req: Request, res: Response, token: string, expires: Date): void {
  res.set("Cache-Control", "no-store");
  const { name } = COOKIE;
  res.cookie(name, token, { expires, path: "/", httpOnly: true, secure: true, sameSite: "lax" });
  req.headers.cookie += `; ${name}=${token}`;
}

/** Asks the old store. While it cannot answer, the browser keeps its cookie. */
async function ask<T>(
  req: Request,
  call: (done: (error: unknown, answer?: T) => void) => void,
): Promise<T | undefined> {
  try {
    return await new Promise((resolve, reject) => {
      setTimeout(reject, STORE_TIMEOUT_MS, new Error("the old store does not answer")).unref();
      call((error, answer) => (error ? reject(error) : resolve(answer)));
    });
  } catch (cause) {
    const isPage = req.accepts(["json", "html"]) === "html";
    throw new WebError("STORE_UNAVAILABLE", { cause, isPage, headers: { "Retry-After": "2" } });
  }
}
