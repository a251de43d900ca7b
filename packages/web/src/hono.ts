import type { Context, MiddlewareHandler } from "hono";
// By the door: without it in the program, TypeScript 7 lets no application declare `Register`.
import type { RequestSession, WebSessionsOptions } from "./index.js";
import { headOf } from "./requests/response-head.js";
import { createWebSessions } from "./web-sessions.js";

declare module "hono" {
  interface ContextVariableMap {
    /** The session of this request, by the middleware `sessions` of `@sessiond/web/hono`. */
    sessiond: RequestSession;
  }
}

/** Options of `sessions`. */
export interface HonoSessionsOptions extends WebSessionsOptions {
  /**
   * The address at the other end of the connection, such as
   * `(c) => getConnInfo(c).remote.address` with the `getConnInfo` of your runtime's adapter.
   * Default: that of `@hono/node-server`.
   */
  readonly peerAddress?: ((c: Context) => string | undefined) | undefined;
}

/**
 * Puts the session of each request into `c.var.sessiond`, and refuses forged requests (CSRF):
 *
 * ```ts
 * app.use(sessions({ client, loginPath: "/login" }));
 * ```
 *
 * Reads nothing from sessiond before a handler asks for the session. Hono's own error handler
 * answers errors about sessions, by a page or in JSON as the client accepts; one of your own should
 * return `error.getResponse()` for each `WebError`.
 *
 * @throws TypeError that names a wrong option
 */
export function sessions({
  peerAddress = nodePeerAddress,
  ...options
}: HonoSessionsOptions): MiddlewareHandler {
  const web = createWebSessions(options);
  return async (c, next) => {
    const fields = new Headers();
    const context = { peerAddress: peerAddress(c), head: headOf(fields) };
    const session = web.open(c.req.raw, context);
    c.set("sessiond", session);
    session.checkOrigin();
    await next();
    // Hono has answered already, and forgets the error.
    if (c.error !== undefined) session.answerTo(c.error);
    for (const [name, value] of fields) {
      if (name === "set-cookie") c.header(name, value, { append: true });
      else if (!c.res.headers.has(name)) c.header(name, value);
    }
  };
}

/** Lets only users pass who are logged in. */
export function requireSession(): MiddlewareHandler {
  return async (c, next) => {
    await c.var.sessiond.require();
    await next();
  };
}

/** Lets only users pass who have one of these roles. */
export function requireRole(...roles: readonly string[]): MiddlewareHandler {
  return async (c, next) => {
    await c.var.sessiond.requireRole(...roles);
    await next();
  };
}

/** Lets only users pass who proved their identity at most `maxAgeMs` ago. */
export function requireFresh(maxAgeMs: number): MiddlewareHandler {
  return async (c, next) => {
    await c.var.sessiond.requireFresh(maxAgeMs);
    await next();
  };
}

/** `@hono/node-server` puts the request of Node.js into the environment. */
function nodePeerAddress({ env }: Context): string | undefined {
  const { incoming } = (env ?? {}) as { incoming?: { socket?: { remoteAddress?: string } } };
  return incoming?.socket?.remoteAddress;
}
