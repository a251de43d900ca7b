import { setTimeout as sleep } from "node:timers/promises";
import type { TokenEndpointResponse } from "oauth4webapi";
import { Issuer, IssuerError } from "./issuer.js";
import type { IssuerRequest } from "./issuer-flags.js";
import type { Login } from "./logins.js";

/** Where a user confirms a login, in a browser on any device. */
export interface Verification {
  readonly address: string;
  readonly code: string;
  /** The address that has the code in it, if the issuer has one. */
  readonly completeAddress: string | undefined;
}

/** How often we ask where the issuer says nothing (RFC 8628, 3.2). */
const DEFAULT_INTERVAL_S = 5;
/** How much longer we wait after `slow_down`, or an answer that did not come (RFC 8628, 3.5). */
const SLOW_DOWN_MS = 5_000;

/**
 * Logs a user in by the device flow (RFC 8628): has `show` tell where to confirm, and asks the issuer
 * until the user has, or the code has expired.
 *
 * @throws IssuerError if the issuer refuses, or the user does not confirm
 */
export async function logInOnDevice(
  { issuer: url, clientId, scope, audience }: IssuerRequest,
  show: (verification: Verification) => void,
  signal: AbortSignal,
): Promise<Login> {
  const issuer = await Issuer.discover(url, clientId, signal);
  const parameters = new URLSearchParams();
  if (scope !== undefined) parameters.set("scope", scope);
  if (audience !== undefined) parameters.set("audience", audience);
  const started = await issuer.startLogin(parameters);
  show({
    address: started.verification_uri,
    code: started.user_code,
    completeAddress: started.verification_uri_complete,
  });
  const endMs = performance.now() + started.expires_in * 1_000;
  let intervalMs = (started.interval ?? DEFAULT_INTERVAL_S) * 1_000;
  while (performance.now() + intervalMs < endMs) {
    await sleep(intervalMs, undefined, { signal });
    try {
      return loginFrom(await issuer.finishLogin(started.device_code), { issuer: url, clientId });
    } catch (error) {
      if (signal.aborted || !(error instanceof IssuerError)) throw error;
      const { refusal = "slow_down" } = error;
      if (refusal === "expired_token") break;
      if (refusal === "slow_down") intervalMs += SLOW_DOWN_MS;
      else if (refusal !== "authorization_pending") throw error;
    }
  }
  throw new IssuerError("the code has expired before the login was confirmed", "expired_token");
}

/** What is kept of an issuer's answer. A refresh token stays good if no new one comes. */
export function loginFrom(
  answer: TokenEndpointResponse,
  { issuer, clientId, refreshToken }: Pick<Login, "issuer" | "clientId" | "refreshToken">,
): Login {
  const { access_token: accessToken, expires_in: lifetimeS, refresh_token: next } = answer;
  const kept = next ?? refreshToken;
  return {
    ...{ issuer, clientId, accessToken },
    ...(lifetimeS !== undefined && {
      expireTime: new Date(Date.now() + lifetimeS * 1_000).toISOString(),
    }),
    ...(kept !== undefined && { refreshToken: kept }),
  };
}
