import { Code, cors } from "@connectrpc/connect";
import type { Request, Response } from "./http-messages.js";
import { quoted, type Refusal, type Refuse } from "./refusal.js";

/** How long a browser remembers the answer to a preflight. Chrome takes no more. */
const MAX_AGE_S = 7_200;
const ALLOWED_METHODS = cors.allowedMethods.join(", ");
const ALLOWED_HEADERS = [
  ...cors.allowedHeaders,
  "authorization",
  // A page that records traces sends them with every call.
  "traceparent",
  "tracestate",
].join(", ");
const EXPOSED_HEADERS = [...cors.exposedHeaders, "www-authenticate"].join(", ");

/** Sets the headers of a response. Returns true if it has answered the request. */
export type Cors = (request: Request, response: Response) => boolean;

/**
 * Lets web pages of these origins call (https://fetch.spec.whatwg.org/#http-cors-protocol). Without
 * one, no response mentions CORS, and browsers let no page of another origin call. Callers have
 * access tokens and no cookies, so there is nothing that CORS would protect from other programs.
 */
export function createCors(origins: readonly string[], refuse: Refuse): Cors {
  const allowed = new Set(origins);
  if (allowed.size === 0) return () => false;
  return (request, response) => {
    // Also without an origin: a cache must not give the response to a page.
    response.setHeader("vary", "origin");
    const { origin } = request.headers;
    if (origin === undefined) return false;
    const isPreflight =
      request.method === "OPTIONS" &&
      request.headers["access-control-request-method"] !== undefined;
    if (!allowed.has(origin)) {
      if (isPreflight) refuse(response, wrongOrigin(origin));
      return isPreflight;
    }
    response.setHeader("access-control-allow-origin", origin);
    if (isPreflight) answerPreflight(response);
    else response.setHeader("access-control-expose-headers", EXPOSED_HEADERS);
    return isPreflight;
  };
}

function answerPreflight(response: Response): void {
  response.statusCode = 204;
  response.setHeader("access-control-allow-methods", ALLOWED_METHODS);
  response.setHeader("access-control-allow-headers", ALLOWED_HEADERS);
  response.setHeader("access-control-max-age", MAX_AGE_S);
  response.end();
}

function wrongOrigin(origin: string): Refusal {
  const message = `expected an origin that SESSIOND_CORS_ORIGINS lists, got ${quoted(origin)}`;
  return { status: 403, code: Code.PermissionDenied, message };
}
