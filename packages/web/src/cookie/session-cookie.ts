import type { Session } from "@sessiond/client";
import { parseCookie, stringifySetCookie } from "cookie";
import { checkNames } from "../check-names.js";
import type { OperatorWarnings } from "../operator-warnings.js";
import { isPlainElsewhere, isPlainLocalhost, type WebRequest } from "../requests/web-request.js";

/** Options of the cookie. */
export interface CookieOptions {
  /**
   * Default: `__Host-session`. With the prefix `__Host-`, a browser takes the cookie only over TLS,
   * for this host alone, so no subdomain can plant one. With a `domain`: `__Secure-session`.
   */
  readonly name?: string | undefined;

  /** Shares the sessions with all subdomains. Each of them can then read and plant cookies. */
  readonly domain?: string | undefined;

  /**
   * `strict` also keeps the cookie from links on other sites, so a user who follows one looks
   * logged out. Default: `lax`.
   */
  readonly sameSite?: "lax" | "strict" | undefined;

  /**
   * Whether a browser on this machine gets the cookie `session`, without TLS, from
   * `http://localhost`. Default: unless `NODE_ENV` is `production`. With React Router: only if it is
   * `development`.
   */
  readonly allowPlainLocalhost?: boolean | undefined;
}

const NAMES = {
  name: true,
  domain: true,
  sameSite: true,
  allowPlainLocalhost: true,
} satisfies Record<keyof CookieOptions, true>;

/** The name on plain-http localhost, where not all browsers take a cookie that needs TLS. */
const LOCAL_NAME = "session";

/** https://www.rfc-editor.org/rfc/rfc6265#section-4.1.1 */
const COOKIE_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;

/**
 * The cookie that keeps the session token in a browser: HttpOnly, Secure, SameSite, Path=/. It ends
 * with the absolute deadline of its session.
 *
 * https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html#cookies
 */
export class SessionCookie {
  readonly #name: string;
  readonly #domain: string | undefined;
  readonly #sameSite: "lax" | "strict";
  readonly #allowPlainLocalhost: boolean;
  readonly #warnings: OperatorWarnings;

  constructor(options: CookieOptions, warnings: OperatorWarnings) {
    checkNames(options, NAMES, "cookie.");
    const { domain, sameSite = "lax" } = options;
    const { name = domain === undefined ? "__Host-session" : "__Secure-session" } = options;
    const { allowPlainLocalhost = process.env["NODE_ENV"] !== "production" } = options;
    if (!COOKIE_NAME.test(name)) throw new TypeError("cookie.name: expected the name of a cookie");
    if (domain !== undefined && name.startsWith("__Host-")) {
      throw new TypeError("cookie.name: a cookie with the prefix `__Host-` has no domain");
    }
    if (sameSite !== "lax" && sameSite !== "strict") {
      throw new TypeError("cookie.sameSite: expected lax or strict");
    }
    this.#name = name;
    this.#domain = domain;
    this.#sameSite = sameSite;
    this.#allowPlainLocalhost = allowPlainLocalhost;
    this.#warnings = warnings;
  }

  /** The token that the browser sent, or undefined. */
  read(request: WebRequest): string | undefined {
    const header = request.headers.get("cookie");
    if (header === null) return undefined;
    const value = parseCookie(header)[this.nameFor(request)];
    return value === "" ? undefined : value;
  }

  /** The `Set-Cookie` that gives the browser a token. */
  line(request: WebRequest, token: string, session: Session<object>): string {
    const { absoluteExpireTime, tokenCreateTime } = session;
    // Both times are of the store's clock, so the age is right whatever the time is here.
    const lifetimeMs = absoluteExpireTime.getTime() - tokenCreateTime.getTime();
    const maxAge = Math.max(1, Math.floor(lifetimeMs / 1000));
    return this.#line(request, { value: token, maxAge, expires: absoluteExpireTime });
  }

  /** The `Set-Cookie` that makes the browser forget its token. */
  clearingLine(request: WebRequest): string {
    return this.#line(request, { value: "", maxAge: 0, expires: new Date(0) });
  }

  /** The cookie's name in the answer to a request, which is also the name that we read. */
  nameFor(request: WebRequest): string {
    return this.#isPlain(request) ? LOCAL_NAME : this.#name;
  }

  #line(request: WebRequest, content: { value: string; maxAge: number; expires: Date }): string {
    const domain = this.#domain;
    const isPlain = this.#isPlain(request);
    if (isPlain) this.#warnings.tell("plainLocalhost");
    if (isPlainElsewhere(request)) this.#warnings.tell("plainHttp");
    return stringifySetCookie({
      name: this.nameFor(request),
      ...content,
      ...(domain !== undefined && !isPlain && { domain }),
      path: "/",
      httpOnly: true,
      secure: !isPlain,
      sameSite: this.#sameSite,
    });
  }

  #isPlain(request: WebRequest): boolean {
    return this.#allowPlainLocalhost && isPlainLocalhost(request);
  }
}
