import type {
  FastifyError,
  FastifyInstance,
  FastifyPluginAsync,
  FastifyReply,
  FastifyRequest,
} from "fastify";
// By the door: without it in the program, TypeScript 7 lets no application declare `Register`.
import type { RequestSession, WebSessionsOptions } from "./index.js";
import { peerAddressOf, webRequestOf } from "./requests/node-request.js";
import type { ResponseHead } from "./requests/response-head.js";
import { createWebSessions } from "./web-sessions.js";

declare module "fastify" {
  interface FastifyRequest {
    /** The session of this request, by the plugin `sessions` of `@sessiond/web/fastify`. */
    sessiond: RequestSession;
  }
}

/** A hook for the `preHandler` or `onRequest` of a route. */
export type Hook = (request: FastifyRequest) => Promise<void>;

/**
 * Puts the session of each request into `request.sessiond`, refuses forged requests (CSRF), and
 * answers errors about sessions, by a page or in JSON as the client accepts:
 *
 * ```ts
 * await app.register(sessions, { client, loginPath: "/login" });
 * ```
 *
 * Reads nothing from sessiond before a handler asks for the session. Other errors go to Fastify's
 * own error handler. An error handler that you set afterwards replaces this one: pass on to it
 * `error.answer()` of each `WebError`.
 *
 * @throws TypeError that names a wrong option, from `register`
 */
export const sessions: FastifyPluginAsync<WebSessionsOptions> = Object.assign(
  async (app: FastifyInstance, options: WebSessionsOptions) => {
    const web = createWebSessions(options);
    app.decorateRequest("sessiond");
    app.addHook("onRequest", async (request, reply) => {
      const context = { peerAddress: peerAddressOf(request.raw), head: headOfReply(reply) };
      request.sessiond = web.open(webRequestOf(request.raw), context);
      request.sessiond.checkOrigin();
    });
    app.setErrorHandler<FastifyError>((error, request, reply) => {
      const answer = request.sessiond?.answerTo(error);
      if (answer === undefined) throw error;
      const { status, headers, body } = answer;
      return reply.code(status).headers(headers).send(body);
    });
  },
  // As `fastify-plugin` marks a plugin that is for the whole application.
  { [Symbol.for("skip-override")]: true, [Symbol.for("fastify.display-name")]: "@sessiond/web" },
);

/** Lets only users pass who are logged in. */
export function requireSession(): Hook {
  return async ({ sessiond }) => void (await sessiond.require());
}

/** Lets only users pass who have one of these roles. */
export function requireRole(...roles: readonly string[]): Hook {
  return async ({ sessiond }) => void (await sessiond.requireRole(...roles));
}

/** Lets only users pass who proved their identity at most `maxAgeMs` ago. */
export function requireFresh(maxAgeMs: number): Hook {
  return async ({ sessiond }) => void (await sessiond.requireFresh(maxAgeMs));
}

function headOfReply(reply: FastifyReply): ResponseHead {
  return {
    get isSent() {
      return reply.sent;
    },
    get: (name) => reply.getHeader(name)?.toString(),
    set: (name, value) => void reply.header(name, value),
    append(name, value) {
      const before = reply.getHeader(name);
      reply.header(name, before === undefined ? value : `${before}, ${value}`);
    },
    cookies: () => [reply.getHeader("Set-Cookie") ?? []].flat().map(String),
    setCookies(lines) {
      // Fastify adds to this field, so it must go first.
      reply.removeHeader("Set-Cookie");
      reply.header("Set-Cookie", [...lines]);
    },
  };
}
