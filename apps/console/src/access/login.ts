import {
  type AuthorizationServer,
  allowInsecureRequests,
  authorizationCodeGrantRequest,
  calculatePKCECodeChallenge,
  discoveryRequest,
  generateRandomCodeVerifier,
  generateRandomState,
  None,
  processAuthorizationCodeResponse,
  processDiscoveryResponse,
  validateAuthResponse,
} from "oauth4webapi";

/** Where operators log in, as the server says. */
export interface Login {
  readonly issuer: string;
  readonly clientId: string;
  readonly scope: string;
  /** What else the authorization request says. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** What outlives the way to the issuer and back. The token does not exist yet. */
interface PendingLogin {
  readonly verifier: string;
  readonly state: string;
  /** The screen to come back to. */
  readonly hash: string;
}

const PENDING = "sessiond.login";

/** Leads to the issuer's page (RFC 6749, 4.1, with RFC 7636). Rejects if the issuer cannot be reached. */
export async function startLogin(login: Login): Promise<void> {
  const { authorization_endpoint: endpoint } = await discover(login.issuer);
  if (endpoint === undefined) throw new Error(`${login.issuer} has no page to log in`);
  const verifier = generateRandomCodeVerifier();
  const state = generateRandomState();
  const url = new URL(endpoint);
  const parameters = {
    ...login.parameters,
    response_type: "code",
    client_id: login.clientId,
    redirect_uri: redirectUri(),
    scope: login.scope,
    state,
    code_challenge: await calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  const pending: PendingLogin = { verifier, state, hash: location.hash };
  sessionStorage.setItem(PENDING, JSON.stringify(pending));
  location.assign(url);
}

/** Whether the issuer has sent the browser here. */
export function returnedFromLogin(): boolean {
  const query = new URLSearchParams(location.search);
  return query.has("state") && (query.has("code") || query.has("error"));
}

/** The access token for the code in the address. Rejects if the issuer gives none. */
export async function finishLogin(login: Login): Promise<string> {
  const query = new URL(location.href);
  const stored = sessionStorage.getItem(PENDING);
  sessionStorage.removeItem(PENDING);
  const pending: PendingLogin | undefined = stored === null ? undefined : JSON.parse(stored);
  // A reload must not send the code once more.
  history.replaceState(null, "", location.pathname + (pending?.hash ?? ""));
  // The browser tells nobody of a hash that is replaced.
  dispatchEvent(new HashChangeEvent("hashchange"));
  if (pending === undefined) throw new Error("this login did not begin in this tab; log in again");
  const server = await discover(login.issuer);
  const client = { client_id: login.clientId };
  const code = validateAuthResponse(server, client, query, pending.state);
  const response = await authorizationCodeGrantRequest(
    ...([server, client, None(), code, redirectUri(), pending.verifier] as const),
    overLoopback(login.issuer),
  );
  return (await processAuthorizationCodeResponse(server, client, response)).access_token;
}

async function discover(issuer: string): Promise<AuthorizationServer> {
  const url = new URL(issuer);
  return processDiscoveryResponse(url, await discoveryRequest(url, overLoopback(issuer)));
}

/** The server takes an issuer without TLS only on a loopback address. */
function overLoopback(issuer: string) {
  return { [allowInsecureRequests]: issuer.startsWith("http:") };
}

function redirectUri(): string {
  return location.origin + import.meta.env.BASE_URL.replace(/\/$/, "");
}
