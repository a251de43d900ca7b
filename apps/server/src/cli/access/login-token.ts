import { SessiondError } from "@sessiond/client";
import { changeLogin, type Login, type LoginPlace, readLogin } from "./logins.js";

/** An access token is not sent in its last seconds, because calls and clocks take time. */
const EXPIRY_MARGIN_MS = 10_000;

/**
 * The `token` of a client from the login that is kept for its server. Renews it when it has expired.
 * Fails with UNAUTHENTICATED if the user must log in again.
 */
export function loginToken(place: LoginPlace): () => Promise<string> {
  let login: Login | undefined;
  let renewing: Promise<Login> | undefined;
  return async () => {
    if (login === undefined || !isFresh(login)) {
      renewing ??= currentLogin(place).finally(() => {
        renewing = undefined;
      });
      login = await renewing;
    }
    return login.accessToken;
  };
}

async function currentLogin(place: LoginPlace): Promise<Login> {
  const kept = readLogin(place);
  const login =
    kept === undefined || isFresh(kept)
      ? kept
      : // Another process may have renewed or deleted it meanwhile.
        await changeLogin(place, async (now) => (now && !isFresh(now) ? renewed(now) : now));
  if (login === undefined) throw over("there is no login for the server any more");
  return login;
}

async function renewed(login: Login): Promise<Login> {
  const { issuer, clientId, refreshToken } = login;
  if (refreshToken === undefined) throw over(`the login expired at ${login.expireTime}`);
  const { Issuer, IssuerError } = await import("./issuer.js");
  const { loginFrom } = await import("./device-login.js");
  try {
    const answer = await (await Issuer.discover(issuer, clientId)).renew(refreshToken);
    return loginFrom(answer, login);
  } catch (error) {
    const isRefused = error instanceof IssuerError && error.refusal !== undefined;
    throw isRefused ? over(error.message) : error;
  }
}

function isFresh({ expireTime }: Login): boolean {
  return expireTime === undefined || Date.parse(expireTime) - EXPIRY_MARGIN_MS > Date.now();
}

function over(message: string): SessiondError {
  return new SessiondError("UNAUTHENTICATED", message);
}
