import type { SessionClient } from "@sessiond/client";
import { checkNames } from "./check-names.js";
import type { TokenSetup } from "./cookie/held-token.js";
import { RecentTokens } from "./cookie/recent-tokens.js";
import { type CookieOptions, SessionCookie } from "./cookie/session-cookie.js";
import { OperatorWarnings } from "./operator-warnings.js";
import type { SessionData } from "./register.js";
import { type TrustedProxies, trustedProxies } from "./requests/client-info.js";
import { returnPath } from "./requests/return-path.js";
import type { WebError } from "./web-error.js";

/** Options of `createWebSessions` and of every framework's plugin. */
export interface WebSessionsOptions {
  /** The SDK's client, from `createSessionClient`. */
  readonly client: SessionClient<SessionData>;
  readonly cookie?: CookieOptions | undefined;

  /**
   * Other origins whose pages may send unsafe requests, such as `https://admin.example.com`.
   * Default: none.
   */
  readonly trustedOrigins?: readonly string[] | undefined;

  /**
   * The proxies in front of the application, whose `X-Forwarded-For` names the client: addresses,
   * networks such as `10.0.0.0/8`, and `loopback`, `linklocal` and `uniquelocal`. Default: none, so
   * that no client can choose its own address.
   */
  readonly trustedProxies?: readonly string[] | undefined;

  /**
   * The path of the login page. A browser that asks for a page and must log in is sent there, with
   * the page's path as `return_to`. Default: it gets a page with status 401.
   */
  readonly loginPath?: string | undefined;

  /** How attempts to log in are counted. */
  readonly loginLimit?: LoginLimitOptions | undefined;

  /**
   * Receives each error that is answered with status 500, such as an access token that sessiond
   * refuses: its `cause` says why, and the browser is not told. It has no session token in it.
   * Default: `console.error`.
   */
  readonly onError?: ((error: WebError) => void) | undefined;

  /**
   * Receives what an operator should know, once, and during an outage of sessiond its cause, once a
   * minute. Default: `console.warn`.
   */
  readonly warn?: ((message: string) => void) | undefined;

  /** The clock. Default: `Date.now`. */
  readonly now?: (() => number) | undefined;
}

/** The policies of the server's configuration by which attempts to log in are counted. */
export interface LoginLimitOptions {
  /** Counts an address, and is never reset. Default: `login`. Give it room for a whole office. */
  readonly addressPolicy?: string | undefined;

  /** Counts an address with a user name; a success resets it. Default: `login`. */
  readonly userPolicy?: string | undefined;
}

/** `WebSessionsOptions` after the checks, with what all requests share. */
export interface Setup extends TokenSetup {
  readonly client: SessionClient<SessionData>;
  readonly trustedOrigins: ReadonlySet<string>;
  readonly trustedProxies: TrustedProxies;
  readonly loginPath: string | undefined;
  readonly addressPolicy: string;
  readonly userPolicy: string;
  readonly onError: (error: WebError) => void;
  readonly warnings: OperatorWarnings;
  readonly now: () => number;
}

const NAMES = {
  client: true,
  cookie: true,
  trustedOrigins: true,
  trustedProxies: true,
  loginPath: true,
  loginLimit: true,
  onError: true,
  warn: true,
  now: true,
} satisfies Record<keyof WebSessionsOptions, true>;

const LOGIN_LIMIT_NAMES = {
  addressPolicy: true,
  userPolicy: true,
} satisfies Record<keyof LoginLimitOptions, true>;

/** Throws a TypeError that names the first wrong option. */
export function checkOptions(options: WebSessionsOptions): Setup {
  checkNames(options, NAMES);
  const { client, cookie = {}, loginPath, loginLimit = {}, now = Date.now } = options;
  const { trustedOrigins = [], warn = console.warn, onError = console.error } = options;
  checkClient(client);
  checkNames(loginLimit, LOGIN_LIMIT_NAMES, "loginLimit.");
  for (const origin of trustedOrigins) {
    if (URL.parse(origin)?.origin !== origin) {
      throw new TypeError("trustedOrigins: expected origins such as https://admin.example.com");
    }
  }
  if (loginPath !== undefined && returnPath(loginPath) !== loginPath) {
    throw new TypeError("loginPath: expected a path such as /login");
  }
  const warnings = new OperatorWarnings(warn, now);
  return {
    client,
    cookie: new SessionCookie(cookie, warnings),
    replaced: new RecentTokens(now),
    ended: new RecentTokens(now),
    trustedOrigins: new Set(trustedOrigins),
    trustedProxies: trustedProxies(options.trustedProxies ?? []),
    loginPath,
    addressPolicy: loginLimit.addressPolicy ?? "login",
    userPolicy: loginLimit.userPolicy ?? "login",
    onError,
    warnings,
    now,
  };
}

export function checkClient(client: SessionClient<SessionData>): void {
  if (typeof client?.verifySession !== "function") {
    throw new TypeError("client: expected a client of createSessionClient");
  }
}
