import type { IncomingMessage, ServerResponse } from "node:http";
// By the door: without it in the program, TypeScript 7 lets no application declare `Register`.
import type { RequestSession, WebSessionsOptions } from "./index.js";
import { peerAddressOf, responseHeadOf, webRequestOf } from "./requests/node-request.js";
import { createWebSessions } from "./web-sessions.js";

declare global {
  namespace Express {
    interface Request {
      /** The session of this request, by the middleware `sessions` of `@sessiond/web/express`. */
      sessiond: RequestSession;
    }
  }
}

/** A middleware of Express, Connect, and whatever calls `(request, response, next)`. */
export type Middleware = (
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void;

/** An error handler of Express and Connect. */
export type ErrorMiddleware = (
  error: unknown,
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void;

type WithSession = IncomingMessage & { sessiond?: RequestSession };

/**
 * Puts the session of each request into `req.sessiond`, and refuses forged requests (CSRF):
 *
 * ```ts
 * app.use(sessions({ client, loginPath: "/login" }));
 * ```
 *
 * Reads nothing from sessiond before a handler asks for the session.
 *
 * @throws TypeError that names a wrong option
 */
export function sessions(options: WebSessionsOptions): Middleware {
  const web = createWebSessions(options);
  return (request: WithSession, response, next) => {
    const session = web.open(webRequestOf(request), {
      peerAddress: peerAddressOf(request),
      head: responseHeadOf(response),
    });
    request.sessiond = session;
    try {
      session.checkOrigin();
    } catch (error) {
      next(error);
      return;
    }
    next();
  };
}

/** Lets only users pass who are logged in. */
export function requireSession(): Middleware {
  return (request, _response, next) => pass(() => sessionOf(request).require(), next);
}

/** Lets only users pass who have one of these roles. */
export function requireRole(...roles: readonly string[]): Middleware {
  return (request, _response, next) => pass(() => sessionOf(request).requireRole(...roles), next);
}

/** Lets only users pass who proved their identity at most `maxAgeMs` ago. */
export function requireFresh(maxAgeMs: number): Middleware {
  return (request, _response, next) => pass(() => sessionOf(request).requireFresh(maxAgeMs), next);
}

/**
 * Answers errors about sessions, by a page or in JSON as the client accepts: mount it last. Those
 * of status 500 go to `onError`. Other errors go on to the next error handler.
 */
export function sessionErrors(): ErrorMiddleware {
  return (error, request: WithSession, response, next) => {
    const answer = response.headersSent ? undefined : request.sessiond?.answerTo(error);
    if (answer === undefined) {
      next(error);
      return;
    }
    const { status, headers, body } = answer;
    response.statusCode = status;
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    response.end(body);
  };
}

function sessionOf({ sessiond }: WithSession): RequestSession {
  if (sessiond === undefined) throw new TypeError("mount the middleware `sessions` first");
  return sessiond;
}

/** Two handlers of one promise, so that an error thrown by `next` does not call `next` again. */
function pass(check: () => Promise<unknown>, next: (error?: unknown) => void): void {
  check().then(
    () => next(),
    (error: unknown) => next(error),
  );
}
