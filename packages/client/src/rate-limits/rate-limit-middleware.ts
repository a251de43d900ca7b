import type { IncomingMessage, ServerResponse } from "node:http";
import { invalidArgument, SessiondError, type SessiondErrorReason } from "../error.js";
import { known, type NamesOf } from "../known-names.js";
import { type RateLimitAnswer, rateLimitFields, toSeconds } from "./rate-limit-fields.js";

/** Counts attempts: the `rateLimits` of a `SessionClient`, or an object like it. */
export interface RateLimitChecker {
  check(policy: string, key: string, options?: { cost?: number }): Promise<RateLimitAnswer>;
}

/** Options of `createRateLimitMiddleware`. */
export interface RateLimitMiddlewareOptions<Request extends IncomingMessage = IncomingMessage> {
  readonly rateLimits: RateLimitChecker;

  /** The name of a policy in the configuration of the server. */
  readonly policy: string;

  /**
   * Requests with the same key are counted together. Example: `(req) => req.ip`, which behind a
   * proxy is the proxy's address unless the framework trusts the proxy. A request without a key is
   * an error.
   */
  readonly key: (request: Request) => string | undefined | Promise<string | undefined>;

  /** How much a request counts. Default: 1. */
  readonly cost?: (request: Request) => number;

  /**
   * What happens to a request that cannot be counted. Default: `refuse`, because an attacker who
   * can overload the server could otherwise try without limit. This does not affect a policy that
   * allows attempts while the server's store is down: such a server answers as if there were room.
   */
  readonly whenUnavailable?: "refuse" | "allow";

  /** Receives the error of each failed check, for the log. */
  readonly onUnavailable?: (error: unknown, request: Request) => void;

  /** The clock. Default: `Date.now`. */
  readonly now?: () => number;
}

/** A middleware for Connect, Express and similar frameworks. */
export type RateLimitMiddleware<Request extends IncomingMessage = IncomingMessage> = (
  request: Request,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void;

const OPTIONS = {
  rateLimits: true,
  policy: true,
  key: true,
  cost: true,
  whenUnavailable: true,
  onUnavailable: true,
  now: true,
} satisfies NamesOf<RateLimitMiddlewareOptions>;

const POLICY_NAME = /^[a-z][a-z0-9_-]{0,63}$/;
/** `Retry-After` if the server named no time. A server that restarts is back by then. */
const DEFAULT_RETRY_AFTER_MS = 1_000;
/** Waiting does not help against these reasons: somebody must correct a mistake. */
const FAULTS: ReadonlySet<SessiondErrorReason> = new Set<SessiondErrorReason>([
  "INVALID_ARGUMENT",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
]);

/** https://www.rfc-editor.org/rfc/rfc9457 */
interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly "violated-policies"?: readonly string[];
}

/**
 * Makes a middleware that lets a request pass only if a rate limit allows it:
 *
 * ```ts
 * const limitLogins = createRateLimitMiddleware({
 *   rateLimits: client.rateLimits,
 *   policy: "login",
 *   key: (req) => req.ip,
 * });
 * app.post("/login", limitLogins, login);
 * ```
 *
 * Every counted request gets the response headers `RateLimit-Policy` and `RateLimit` of
 * draft-ietf-httpapi-ratelimit-headers-11. A refused request gets 429, and a request that cannot be
 * counted gets 503, both with `Retry-After` and a problem (RFC 9457) as the body. A fault of the
 * request's key, the policy or the access token goes to `next` as an error.
 */
export function createRateLimitMiddleware<Request extends IncomingMessage = IncomingMessage>(
  options: RateLimitMiddlewareOptions<Request>,
): RateLimitMiddleware<Request> {
  const { policy } = known<RateLimitMiddlewareOptions<Request>>(options, OPTIONS);
  if (!POLICY_NAME.test(policy)) {
    throw invalidArgument("policy", "expected the name of a policy, such as login");
  }
  return (request, response, next) => {
    // Two handlers of one promise, so that an error thrown by `next` does not call `next` again.
    decide(options, request, response).then(
      (isAllowed) => {
        if (isAllowed) next();
      },
      (error: unknown) => next(error),
    );
  };
}

/** Whether the request may pass; if not, answers it. Rejects with the caller's mistakes. */
async function decide<Request extends IncomingMessage>(
  options: RateLimitMiddlewareOptions<Request>,
  request: Request,
  response: ServerResponse,
): Promise<boolean> {
  const { rateLimits, policy, whenUnavailable = "refuse", now = Date.now } = options;
  const key = (await options.key(request)) ?? "";
  const cost = options.cost?.(request);
  let answer: RateLimitAnswer;
  try {
    answer = await rateLimits.check(policy, key, cost === undefined ? {} : { cost });
  } catch (error) {
    if (error instanceof SessiondError && FAULTS.has(error.reason)) throw error;
    options.onUnavailable?.(error, request);
    if (whenUnavailable === "allow") return true;
    refuseUncounted(response, error);
    return false;
  }
  // Another middleware, such as a timeout, has answered meanwhile.
  if (response.headersSent) return false;
  tell(response, policy, answer, now());
  if (!answer.allowed) refuse(response, policy, answer);
  return answer.allowed;
}

/** Appends, because several middlewares may limit one request, each with its own policy. */
function tell(
  response: ServerResponse,
  policy: string,
  answer: RateLimitAnswer,
  nowMs: number,
): void {
  for (const [name, value] of Object.entries(rateLimitFields(policy, answer, nowMs))) {
    response.appendHeader(name, value);
  }
}

function refuse(response: ServerResponse, policy: string, { retryAfterMs }: RateLimitAnswer): void {
  sendProblem(response, retryAfterMs, {
    type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
    title: "Request cannot be satisfied as assigned quota has been exceeded",
    status: 429,
    detail: `There were too many attempts. Try again in ${toSeconds(retryAfterMs)} s.`,
    "violated-policies": [policy],
  });
}

function refuseUncounted(response: ServerResponse, error: unknown): void {
  if (response.headersSent) return;
  const wanted = error instanceof SessiondError ? error.retryAfterMs : undefined;
  const retryAfterMs = wanted ?? DEFAULT_RETRY_AFTER_MS;
  // The cause stays private: the response is public.
  sendProblem(response, retryAfterMs, {
    type: "about:blank",
    title: "Service Unavailable",
    status: 503,
    detail: `Attempts cannot be counted at the moment. Try again in ${toSeconds(retryAfterMs)} s.`,
  });
}

function sendProblem(response: ServerResponse, retryAfterMs: number, problem: Problem): void {
  const body = JSON.stringify(problem);
  response.statusCode = problem.status;
  response.setHeader("Retry-After", toSeconds(retryAfterMs));
  response.setHeader("Content-Type", "application/problem+json");
  response.setHeader("Content-Length", Buffer.byteLength(body));
  response.end(body);
}
