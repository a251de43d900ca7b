import * as oauth from "oauth4webapi";
import { printable } from "../terminal/printable.js";

/** How long the issuer may take for one answer. */
const ANSWER_TIMEOUT_MS = 5_000;

/** What runs on an operator's machine cannot keep a secret from the operator (RFC 8252, 8.5). */
const NO_SECRET = oauth.None();

/** Why an issuer gave nothing. */
export class IssuerError extends Error {
  override readonly name = "IssuerError";
  /** Its refusal, such as `access_denied`. Undefined if it did not answer, or not as it should. */
  readonly refusal: string | undefined;

  constructor(message: string, refusal?: string, options?: ErrorOptions) {
    super(message, options);
    this.refusal = refusal;
  }
}

/** The options of every question. */
interface Limits {
  readonly signal: AbortSignal;
  readonly [oauth.allowInsecureRequests]: boolean;
}

/** An issuer, for a client without a secret. Every method throws an IssuerError. */
export class Issuer {
  readonly #url: URL;
  readonly #client: oauth.Client;
  readonly #signal: AbortSignal | undefined;
  #server: oauth.AuthorizationServer;

  private constructor(issuer: string, clientId: string, signal: AbortSignal | undefined) {
    this.#url = new URL(issuer);
    this.#client = { client_id: clientId };
    this.#signal = signal;
    this.#server = { issuer };
  }

  /** Reads the issuer's discovery document. The signal ends every question. */
  static async discover(issuer: string, clientId: string, signal?: AbortSignal): Promise<Issuer> {
    const found = new Issuer(issuer, clientId, signal);
    found.#server = await found.#ask(async (limits) => {
      const response = await oauth.discoveryRequest(found.#url, { ...limits, algorithm: "oidc" });
      return oauth.processDiscoveryResponse(found.#url, response);
    });
    return found;
  }

  /** Begins a login on another device (RFC 8628, 3.1). */
  startLogin(parameters: URLSearchParams): Promise<oauth.DeviceAuthorizationResponse> {
    const [server, client] = [this.#server, this.#client];
    return this.#ask(async (limits) =>
      oauth.processDeviceAuthorizationResponse(
        server,
        client,
        await oauth.deviceAuthorizationRequest(server, client, NO_SECRET, parameters, limits),
      ),
    );
  }

  /** Asks whether the login is done (RFC 8628, 3.4). The refusals of 3.5 say why it is not. */
  finishLogin(deviceCode: string): Promise<oauth.TokenEndpointResponse> {
    const [server, client] = [this.#server, this.#client];
    return this.#ask(async (limits) =>
      oauth.processDeviceCodeResponse(
        server,
        client,
        await oauth.deviceCodeGrantRequest(server, client, NO_SECRET, deviceCode, limits),
      ),
    );
  }

  /** Gets a new access token (RFC 6749, 6). */
  renew(refreshToken: string): Promise<oauth.TokenEndpointResponse> {
    const [server, client] = [this.#server, this.#client];
    return this.#ask(async (limits) =>
      oauth.processRefreshTokenResponse(
        server,
        client,
        await oauth.refreshTokenGrantRequest(server, client, NO_SECRET, refreshToken, limits),
      ),
    );
  }

  /** Ends a token (RFC 7009). Does nothing if the issuer cannot. */
  async revoke(token: string): Promise<void> {
    const [server, client] = [this.#server, this.#client];
    if (server.revocation_endpoint === undefined) return;
    await this.#ask(async (limits) =>
      oauth.processRevocationResponse(
        await oauth.revocationRequest(server, client, NO_SECRET, token, limits),
      ),
    );
  }

  async #ask<T>(question: (limits: Limits) => Promise<T>): Promise<T> {
    const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    try {
      return await question({
        signal: this.#signal ? AbortSignal.any([this.#signal, timeout]) : timeout,
        // `parseTrustedUrl` has admitted plain http for loopback only.
        [oauth.allowInsecureRequests]: this.#url.protocol === "http:",
      });
    } catch (error) {
      throw this.#errorFrom(error);
    }
  }

  #errorFrom(error: unknown): IssuerError {
    const { href } = this.#url;
    const refusal = refusalOf(error);
    if (refusal === undefined) {
      return new IssuerError(`the issuer ${href} gives no fit answer`, undefined, { cause: error });
    }
    const described = error instanceof oauth.ResponseBodyError && error.error_description;
    const why = described ? `${refusal}: ${described}` : refusal;
    return new IssuerError(`the issuer ${href} refuses: ${printable(why)}`, refusal);
  }
}

/** Undefined if the error is about something else, such as a busy issuer. */
function refusalOf(error: unknown): string | undefined {
  if (error instanceof oauth.WWWAuthenticateChallengeError) {
    return error.cause.find(({ parameters }) => parameters.error)?.parameters.error ?? "401";
  }
  if (!(error instanceof oauth.ResponseBodyError)) return undefined;
  const isOutage = error.status >= 500 || error.status === 408 || error.status === 429;
  return isOutage ? undefined : error.error;
}
