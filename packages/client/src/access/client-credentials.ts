import type { AuthorizationServer, Client, ClientAuth, PrivateKey } from "oauth4webapi";
import { nameOf, SessiondError } from "../error.js";
import { known, type NamesOf, refusal, violationsOf } from "../known-names.js";

/** Options of `clientCredentials`. */
export interface ClientCredentialsOptions {
  /** The issuer's URL, as its access tokens have it in `iss`. Plain http only for localhost. */
  issuer: string;

  /** This service's name at the issuer. */
  clientId: string;

  /** This service's secret at the issuer. Either this or `privateKeyJwt`. */
  clientSecret?: string | undefined;

  /** A key that signs assertions instead of a secret (RFC 7523): a `CryptoKey`, or one with `kid`. */
  privateKeyJwt?: PrivateKey | CryptoKey | undefined;

  /** Whom the token is for: sessiond's audience, as its auth file has it. Some issuers need it. */
  audience?: string | undefined;

  /** As `audience`, for issuers that take resource indicators (RFC 8707). */
  resource?: string | undefined;

  /** The permissions to ask for, such as `sessions:create sessions:read`. Default: the issuer's. */
  scope?: string | undefined;
}

type CryptoKey = Extract<PrivateKey["key"], object>;

const OPTIONS = {
  issuer: true,
  clientId: true,
  clientSecret: true,
  privateKeyJwt: true,
  audience: true,
  resource: true,
  scope: true,
} satisfies NamesOf<ClientCredentialsOptions>;

/**
 * An access token, and when we ask for the next one. Times are of `Date.now`: a monotonic clock stops
 * while the machine sleeps.
 */
interface Held {
  readonly token: string;
  readonly renewTimeMs: number;
  readonly endTimeMs: number;
}

/** How long the issuer may take for one answer. */
const ANSWER_TIMEOUT_MS = 5_000;

/** After a failure, calls fail without asking again for this long: a storm helps no issuer. */
const PAUSE_AFTER_FAILURE_MS = 1_000;

/** When a token is renewed, in parts of its lifetime: not all clients of a service at once. */
const EARLIEST_RENEWAL = 0.6;
const LATEST_RENEWAL = 0.8;

/** A token is not sent in the last part of its lifetime, because calls and clocks take time. */
const LAST_USE = 0.95;

/** How long a token lives if the issuer does not say: short enough for any issuer. */
const UNKNOWN_LIFETIME_S = 60;

/**
 * The `token` of a client, by OAuth 2.0 client credentials (RFC 6749, 4.4): finds the issuer's
 * endpoint by discovery, keeps the token, and renews it early, while calls go on with the old one.
 * It asks the issuer one question at a time.
 *
 * An issuer that does not answer fails the call with TOKEN_UNAVAILABLE, which the client retries. A
 * refusal, as of a wrong secret, fails it with UNAUTHENTICATED.
 *
 * @throws SessiondError INVALID_ARGUMENT that names a wrong option
 */
export function clientCredentials(options: ClientCredentialsOptions): () => Promise<string> {
  checkOptions(options);
  const issuer = new Issuer(options);
  let held: Held | undefined;
  let asked: Promise<Held> | undefined;
  let failed: { readonly error: unknown; readonly untilMs: number } | undefined;

  const renew = (): Promise<Held> => {
    asked ??= issuer
      .newToken()
      .then(
        (next) => {
          failed = undefined;
          held = next;
          return next;
        },
        (error) => {
          failed = { error, untilMs: Date.now() + PAUSE_AFTER_FAILURE_MS };
          throw error;
        },
      )
      .finally(() => {
        asked = undefined;
      });
    return asked;
  };

  return async () => {
    const nowMs = Date.now();
    const isPaused = failed !== undefined && nowMs < failed.untilMs;
    if (held !== undefined && nowMs < held.endTimeMs) {
      // Nobody waits for this renewal, and there is time for more of them.
      if (nowMs >= held.renewTimeMs && !isPaused) renew().catch(() => {});
      return held.token;
    }
    if (failed !== undefined && isPaused) throw failed.error;
    return (await renew()).token;
  };
}

/** What we ask an issuer. Its library is loaded with the first question. */
class Issuer {
  readonly #options: ClientCredentialsOptions;
  readonly #client: Client;
  #server: AuthorizationServer | undefined;

  constructor(options: ClientCredentialsOptions) {
    this.#options = options;
    this.#client = { client_id: options.clientId };
  }

  async newToken(): Promise<Held> {
    const oauth = await import("oauth4webapi");
    const { audience, resource, scope } = this.#options;
    const given = Object.entries({ audience, resource, scope });
    const parameters = given.filter((each): each is [string, string] => each[1] !== undefined);
    const request = {
      // `checkOptions` has admitted plain http for localhost only.
      [oauth.allowInsecureRequests]: this.#options.issuer.startsWith("http:"),
      signal: () => AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    };
    try {
      this.#server ??= await this.#discover(oauth, request);
      const authentication = this.#authentication(oauth, this.#server);
      const askedTimeMs = Date.now();
      const response = await oauth.clientCredentialsGrantRequest(
        this.#server,
        this.#client,
        authentication,
        new URLSearchParams(parameters),
        request,
      );
      const answer = await oauth.processClientCredentialsResponse(
        this.#server,
        this.#client,
        response,
      );
      return heldFrom(answer, askedTimeMs);
    } catch (error) {
      this.#server = undefined;
      const reason = refusalOf(error, oauth);
      if (reason !== undefined) {
        const message = `the issuer ${this.#options.issuer} gives no access token: ${reason}`;
        throw new SessiondError("UNAUTHENTICATED", message, { cause: error });
      }
      throw error;
    }
  }

  async #discover(
    oauth: typeof import("oauth4webapi"),
    request: Parameters<typeof oauth.discoveryRequest>[1],
  ): Promise<AuthorizationServer> {
    const url = new URL(this.#options.issuer);
    const response = await oauth.discoveryRequest(url, { ...request, algorithm: "oidc" });
    return oauth.processDiscoveryResponse(url, response);
  }

  #authentication(
    oauth: typeof import("oauth4webapi"),
    { token_endpoint_auth_methods_supported: methods }: AuthorizationServer,
  ): ClientAuth {
    const { clientSecret = "", privateKeyJwt } = this.#options;
    if (privateKeyJwt !== undefined) return oauth.PrivateKeyJwt(privateKeyJwt);
    // HTTP Basic is the default where an issuer names none (RFC 8414, 2).
    return methods === undefined || methods.includes("client_secret_basic")
      ? oauth.ClientSecretBasic(clientSecret)
      : oauth.ClientSecretPost(clientSecret);
  }
}

/**
 * Why the issuer refuses this client. Undefined if the error is about something else, such as a busy
 * issuer.
 */
function refusalOf(error: unknown, oauth: typeof import("oauth4webapi")): string | undefined {
  if (error instanceof oauth.WWWAuthenticateChallengeError) {
    return error.cause.find(({ parameters }) => parameters.error)?.parameters.error ?? "401";
  }
  if (!(error instanceof oauth.ResponseBodyError)) return undefined;
  const isAboutClient = error.status < 500 && error.status !== 408 && error.status !== 429;
  return isAboutClient ? error.error : undefined;
}

function heldFrom(
  answer: { readonly access_token: string; readonly expires_in?: number },
  askedTimeMs: number,
): Held {
  // Issuers count in seconds, and the first may be a part of one.
  const lifetimeMs = Math.max(0, (answer.expires_in ?? UNKNOWN_LIFETIME_S) - 1) * 1_000;
  const renewal = EARLIEST_RENEWAL + (LATEST_RENEWAL - EARLIEST_RENEWAL) * Math.random();
  return {
    token: answer.access_token,
    renewTimeMs: askedTimeMs + lifetimeMs * renewal,
    endTimeMs: askedTimeMs + lifetimeMs * LAST_USE,
  };
}

function checkOptions(options: ClientCredentialsOptions): void {
  known(options, OPTIONS);
  const { issuer, clientId, clientSecret, privateKeyJwt } = options;
  const isOne = (clientSecret === undefined) !== (privateKeyJwt === undefined);
  const faults: Record<string, string | undefined> = {
    issuer: issuerFault(issuer),
    clientId: textFault(clientId),
    clientSecret: isOne
      ? clientSecret === undefined
        ? undefined
        : textFault(clientSecret)
      : "expected either this or privateKeyJwt",
  };
  for (const name of ["audience", "resource", "scope"] as const) {
    faults[name] = options[name] === undefined ? undefined : textFault(options[name]);
  }
  const wrong = violationsOf(faults);
  if (wrong.length > 0) throw refusal(wrong);
}

function textFault(value: unknown): string | undefined {
  if (typeof value !== "string") return `expected a string, not ${nameOf(value)}`;
  return value === "" ? "expected a text that is not empty" : undefined;
}

/** A token that went over plain http would be anybody's on the way. */
function issuerFault(issuer: unknown): string | undefined {
  const url = typeof issuer === "string" ? URL.parse(issuer) : null;
  const isLocal = /^(localhost|127\.0\.0\.1|\[::1\])$/.test(url?.hostname ?? "");
  const isFit = url?.protocol === "https:" || (url?.protocol === "http:" && isLocal);
  return isFit ? undefined : "expected a URL with https:, such as https://issuer.example";
}
