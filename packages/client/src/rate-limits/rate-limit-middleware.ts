import type { IncomingMessage, ServerResponse } from "node:http";
import { invalidArgument, SessiondError, type SessiondErrorReason } from "../error.js";

/** Where a key stands, as far as a response tells of it: a `RateLimit` has all of this. */
export interface RateLimitAnswer {
  readonly allowed: boolean;
  readonly limit: number;
  readonly remaining: number;
  readonly retryAfterMs: number;
  readonly resetTime: Date;
  readonly windowMs?: number;
}

/** What counts attempts: the `rateLimits` of a `SessionClient`, or something like it. */
export interface RateLimitChecker {
  check(policy: string, key: string, options?: { cost?: number }): Promise<RateLimitAnswer>;
}

/** Options of `createRateLimitMiddleware`. */
export interface RateLimitMiddlewareOptions<Request extends IncomingMessage = IncomingMessage> {
  readonly rateLimits: RateLimitChecker;

  /** The name of a policy in the configuration of the server. */
  readonly policy: string;

  /**
   * Whose requests are counted together, such as `(req) => req.ip`. Behind a proxy that
   * is the proxy, unless the framework is told to trust it. A request without a key
   * is an error.
   */
  readonly key: (request: Request) => string | undefined | Promise<string | undefined>;

  /** How much a request counts; 1 by default. */
  readonly cost?: (request: Request) => number;

  /**
   * What happens to a request that cannot be counted. By default it is refused, since
   * whoever can overload the server could otherwise try as often as they like. A policy of
   * the server that lets pass while its store is down answers as if there were
   * room, which this does not change.
   */
  readonly whenUnavailable?: "refuse" | "allow";

  /** Hears of each check that failed, whatever became of the request. For the log. */
  readonly onUnavailable?: (error: unknown, request: Request) => void;

  /** The clock, `Date.now` by default. */
  readonly now?: () => number;
}

/** A middleware of Connect, Express and all that are like them. */
export type RateLimitMiddleware<Request extends IncomingMessage = IncomingMessage> = (
  request: Request,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void;

const POLICY_NAME = /^[a-z][a-z0-9_-]{0,63}$/;
/** When to come again where nothing says so: a server that restarts is back by then. */
const DEFAULT_RETRY_AFTER_MS = 1_000;
/** Reasons that waiting does not help against: somebody has to put something right. */
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
 * Makes a middleware that lets requests pass as a rate limit allows:
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
 * Every response that it lets pass or refuses tells where the caller stands, in the
 * fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.
 * Refused requests are answered with 429, and those that cannot be counted with 503, both
 * with `Retry-After` and a problem (RFC 9457) as their body. What is wrong with the
 * request's key, the policy or the access token goes to `next` as an error.
 */
export function createRateLimitMiddleware<Request extends IncomingMessage = IncomingMessage>(
  options: RateLimitMiddlewareOptions<Request>,
): RateLimitMiddleware<Request> {
  const { policy } = options;
  if (!POLICY_NAME.test(policy)) {
    throw invalidArgument("policy", "expected the name of a policy, such as login");
  }
  return (request, response, next) => {
    // Two handlers of one promise: an error of what comes next is not handed to it again.
    decide(options, request, response).then(
      (isAllowed) => {
        if (isAllowed) next();
      },
      (error: unknown) => next(error),
    );
  };
}

/** Answers the request where it may not go on. Rejects with what the caller put wrong. */
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
  // Somebody else has answered meanwhile, as a timeout might.
  if (response.headersSent) return false;
  tell(response, policy, answer, now());
  if (!answer.allowed) refuse(response, policy, answer);
  return answer.allowed;
}

/** Several middlewares may limit one request, each by a policy of its own. */
function tell(
  response: ServerResponse,
  policy: string,
  { allowed, limit, remaining, retryAfterMs, resetTime, windowMs }: RateLimitAnswer,
  nowMs: number,
): void {
  const window = windowMs === undefined ? "" : `;w=${toSeconds(windowMs)}`;
  response.appendHeader("RateLimit-Policy", `"${policy}";q=${limit}${window}`);
  // The clocks of this process and the server's store may differ, but nothing takes
  // longer than the window.
  const untilResetMs = Math.min(Math.max(0, resetTime.getTime() - nowMs), windowMs ?? Infinity);
  // Where refused, no earlier than Retry-After and no later.
  const effectiveSeconds = allowed ? Math.ceil(untilResetMs / 1_000) : toSeconds(retryAfterMs);
  response.appendHeader("RateLimit", `"${policy}";r=${remaining};t=${effectiveSeconds}`);
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
  // What failed is nothing for the public.
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

/** Whole seconds, rounded up and never zero, so that whoever waits them has waited long enough. */
function toSeconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1_000));
}
