import { checkOptions, type WebSessionsOptions } from "./options.js";
import { type RequestContext, RequestSession } from "./request-session.js";
import { headOf } from "./requests/response-head.js";
import type { WebRequest } from "./requests/web-request.js";

/** Sessions of sessiond in a web application, without a framework. */
export interface WebSessions {
  /** The session of a request. `context.head` is where the fields of the response go. */
  open(request: WebRequest, context: RequestContext): RequestSession;

  /**
   * Answers a request of the Fetch API: refuses it if it is forged, calls `handler`, turns what it
   * throws about sessions into a response, and adds the cookie. Other errors pass through.
   */
  handle(
    request: Request,
    peerAddress: string | undefined,
    handler: (session: RequestSession) => Response | Promise<Response>,
  ): Promise<Response>;
}

/**
 * Makes the sessions of a web application. Frameworks have their own door: `@sessiond/web/express`,
 * `/fastify`, `/hono` and `/react-router`. This one is for whatever speaks the Fetch API.
 *
 * @throws TypeError that names a wrong option
 */
export function createWebSessions(options: WebSessionsOptions): WebSessions {
  const setup = checkOptions(options);
  return {
    open: (request, context) => new RequestSession(setup, request, context),
    async handle(request, peerAddress, handler) {
      const headers = new Headers();
      const session = new RequestSession(setup, request, { peerAddress, head: headOf(headers) });
      return withFields(await respond(session, handler), headers);
    },
  };
}

async function respond(
  session: RequestSession,
  handler: (session: RequestSession) => Response | Promise<Response>,
): Promise<Response> {
  try {
    session.checkOrigin();
    return await handler(session);
  } catch (error) {
    const answer = session.answerTo(error);
    if (answer === undefined) throw error;
    return new Response(answer.body, answer);
  }
}

/** The response with these fields, as far as it does not set them itself. */
function withFields(response: Response, fields: Headers): Response {
  // The headers of a redirect or of a fetched response cannot change, those of a copy can.
  const answer = new Response(response.body, response);
  for (const [name, value] of fields) {
    if (name === "set-cookie") answer.headers.append(name, value);
    else if (!answer.headers.has(name)) answer.headers.set(name, value);
  }
  return answer;
}
