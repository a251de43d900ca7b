import { httpStatusByReason, type SessiondErrorReason } from "@sessiond/client";

/**
 * The HTTP status of each reason why a request fails because of its session: the SDK's, and this
 * package's own. A fault between the application and sessiond is no fault of the browser, so a
 * missing permission of the application is 500 and never 403.
 */
export const statusByReason = {
  ...httpStatusByReason,
  /** Passes by itself like all that is 503: the browser keeps its cookie and tries again. */
  DEADLINE_EXCEEDED: 503,
  /** There is no session, or its token is not valid (any more). */
  LOGIN_REQUIRED: 401,
  /** The user proved their identity too long ago for this request. */
  LOGIN_TOO_OLD: 401,
  /** The user has none of the roles that this request needs. */
  ROLE_REQUIRED: 403,
  /** A page of another origin made the browser send this request. */
  CROSS_ORIGIN: 403,
  /** A rate limit refused this request. */
  TOO_MANY_ATTEMPTS: 429,
} satisfies Record<SessiondErrorReason | OwnReason, number>;

type OwnReason =
  | "LOGIN_REQUIRED"
  | "LOGIN_TOO_OLD"
  | "ROLE_REQUIRED"
  | "CROSS_ORIGIN"
  | "TOO_MANY_ATTEMPTS";

/** Why a request fails because of its session. The set is closed. */
export type WebErrorReason = keyof typeof statusByReason;

/** What a browser is told, by status. The cause stays on this side. */
const DETAILS: Readonly<Record<number, string>> = {
  400: "The request is not valid.",
  401: "Log in first.",
  403: "You may not do this.",
  409: "The session was changed meanwhile, or there are too many. Log out elsewhere, or try again.",
  429: "There were too many attempts.",
  500: "Something went wrong on our side.",
  503: "The service cannot answer at the moment. This logs nobody out.",
};

/** Instead of the status's, where a developer would otherwise look in the wrong place. */
const DETAILS_BY_REASON: Readonly<Partial<Record<WebErrorReason, string>>> = {
  CROSS_ORIGIN: "A page of another origin sent this request.",
};

/** https://www.rfc-editor.org/rfc/rfc9110#section-15 */
const TITLES: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  409: "Conflict",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

/** How a request is answered that failed. */
export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The field that says when to try again, in whole seconds. */
export function retryAfter(waitMs: number): { "Retry-After": string } {
  return { "Retry-After": String(Math.max(1, Math.ceil(waitMs / 1000))) };
}

/** People count long waits in minutes. */
function waitText(seconds: number): string {
  return seconds < 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} minutes`;
}

/** What an error has besides its reason. */
export interface WebErrorOptions extends ErrorOptions {
  /** Fields of the answer, such as `Retry-After`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Whether the client is a browser that shows a page. Default: a program that reads JSON. */
  readonly isPage?: boolean;
  /** What is said instead of the reason's text. It stands in a page as it is: no text of a request. */
  readonly detail?: string;
  /** Where a browser goes instead of being shown this error. */
  readonly location?: string | undefined;
}

/**
 * The error class of this package. `status`, `statusCode` and `headers` have the names that
 * Express, Fastify and Koa read, and `getResponse` has Hono's, so each of them answers correctly
 * even without this package's error handler. The message is public; the cause is not.
 */
export class WebError extends Error {
  override readonly name = "WebError";
  readonly reason: WebErrorReason;

  /** The HTTP status of the answer. */
  readonly status: number;
  /** The same as `status`, as Fastify calls it. */
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly #isPage: boolean;
  readonly #location: string | undefined;

  constructor(reason: WebErrorReason, options: WebErrorOptions = {}) {
    const status = statusByReason[reason];
    const { headers = {}, isPage = false, location } = options;
    const { detail = DETAILS_BY_REASON[reason] ?? DETAILS[status] } = options;
    const waitS = Number(headers["Retry-After"]);
    const again = waitS > 0 ? ` Try again in ${waitText(waitS)}.` : "";
    super(`${detail}${again}`, "cause" in options ? { cause: options.cause } : undefined);
    this.reason = reason;
    this.status = status;
    this.statusCode = status;
    this.headers = headers;
    this.#isPage = isPage;
    this.#location = location;
  }

  /** A page for browsers, otherwise a problem in JSON (RFC 9457). */
  answer(): ErrorAnswer {
    const { status, headers, message } = this;
    const title = TITLES[status] ?? "";
    if (this.#location !== undefined) {
      return {
        status: 303,
        headers: { ...headers, ...PRIVATE, Location: this.#location },
        body: "",
      };
    }
    if (this.#isPage) {
      const type = { "Content-Type": "text/html; charset=utf-8", ...STATIC_PAGE };
      return { status, headers: { ...headers, ...PRIVATE, ...type }, body: page(title, message) };
    }
    const type = { "Content-Type": "application/problem+json" };
    const problem = { type: "about:blank", title, status, detail: message, reason: this.reason };
    return { status, headers: { ...headers, ...PRIVATE, ...type }, body: JSON.stringify(problem) };
  }

  /** The answer as a Fetch API Response. Hono looks for this name. */
  getResponse(): Response {
    const { status, headers, body } = this.answer();
    return new Response(body, { status, headers });
  }
}

const PRIVATE = { "Cache-Control": "no-store" };
const STATIC_PAGE = { "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'" };

/** Both texts are constants of this package, so nothing needs to be escaped. */
function page(title: string, message: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 32rem; margin: 15vh auto; padding: 0 1rem }
</style>
<h1>${title}</h1>
<p>${message}</p>
</html>
`;
}
