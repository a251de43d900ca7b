import type { RequestListener } from "node:http";
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";
import { KNOWN_PERMISSIONS } from "../../services/permissions.js";
import { oidcFeatures } from "../../testing/oidc-features.js";
import { TestIssuer } from "../../testing/test-issuer.js";
import { startTestServer, type TestServer } from "../../testing/test-server.js";

export const SCOPE = KNOWN_PERMISSIONS.join(" ");
/** A client of machines, and its secret. */
export const MACHINE = { id: "cron", secret: "a-secret-of-the-test-alone" };

/** An OpenID provider for operators, and a server that accepts its access tokens. */
export interface LoginIssuer extends AsyncDisposable {
  readonly issuer: TestIssuer;
  readonly server: TestServer;
  /** How often the provider says `slow_down`, before it answers whether a login is done. */
  slowDowns: number;
  /** When it was asked, in milliseconds. */
  readonly asked: number[];
  /** What was revoked. */
  readonly revoked: string[];
  readonly provider: RequestListener;
}

export async function startLoginIssuer(): Promise<LoginIssuer> {
  await using opened = new AsyncDisposableStack();
  const issuer = opened.adopt(await TestIssuer.start(), (started) => started.close());
  const provider = new Provider(issuer.url, await configuration());
  provider.use(async (context, next) => {
    await next();
    // The provider names no interval, and the default is 5 s.
    if (context.path === "/device/auth") Object.assign(context.body as object, { interval: 0.1 });
  });
  const accepted = { audiences: ["sessiond"], algorithms: ["RS256"], clockToleranceMs: 0 };
  const keys = { kind: "url" as const, url: `${issuer.url}/jwks` };
  const auth = { issuers: [{ issuer: issuer.url, keys, ...accepted }], roles: new Map() };
  const server = opened.use(await startTestServer({ config: { auth } }));
  const closing = opened.move();
  const started: LoginIssuer = {
    ...{ issuer, server, slowDowns: 0, asked: [], revoked: [], provider: provider.callback() },
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
  provider.on("refresh_token.destroyed", ({ jti }) => started.revoked.push(jti));
  issuer.respond = (request, response) => {
    if (request.url !== "/token") return started.provider(request, response);
    started.asked.push(performance.now());
    if (started.slowDowns-- <= 0) return started.provider(request, response);
    response.writeHead(400, { "content-type": "application/json" });
    response.end('{"error":"slow_down"}');
  };
  return started;
}

async function configuration() {
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  const none = { redirect_uris: [], response_types: [] };
  const device = "urn:ietf:params:oauth:grant-type:device_code";
  return {
    jwks: { keys: [{ ...(await exportJWK(privateKey)), use: "sig", alg: "RS256", kid: "k1" }] },
    scopes: KNOWN_PERMISSIONS,
    cookies: { keys: ["a-key-of-the-test-alone"] },
    clients: [
      {
        ...{ client_id: "operators", token_endpoint_auth_method: "none", ...none },
        grant_types: [device, "refresh_token"],
      },
      {
        ...{ client_id: MACHINE.id, client_secret: MACHINE.secret, ...none },
        grant_types: ["client_credentials"],
      },
    ],
    issueRefreshToken: () => true,
    findAccount: (_: unknown, accountId: string) => ({
      ...{ accountId, claims: () => ({ sub: accountId }) },
    }),
    features: {
      ...oidcFeatures({ scope: SCOPE, lifetimeS: 600 }),
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
    },
  };
}

/**
 * Does what a user does in a browser, by the pages' own forms: opens the address, confirms the code
 * or aborts, logs in and consents.
 */
export async function confirmInBrowser(address: string, answer: "yes" | "abort"): Promise<void> {
  const cookies = new Map<string, string>();
  const open = async (url: string, body?: URLSearchParams): Promise<[string, string]> => {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const method = body === undefined ? "GET" : "POST";
    const sent = { method, headers: { cookie, accept: "text/html" }, ...(body && { body }) };
    const response = await fetch(url, { ...sent, redirect: "manual" });
    for (const line of response.headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      cookies.set(name, value);
    }
    const next = response.headers.get("location");
    return next === null ? [url, await response.text()] : open(new URL(next, url).href);
  };
  let [url, page] = await open(address);
  for (let at = 0; at < 5; at++) {
    const [form] = /<form[\s\S]*<\/form>/.exec(page) ?? [];
    if (form === undefined) return;
    const [, action = ""] = /action="([^"]*)"/.exec(form) ?? [];
    const hidden = [...form.matchAll(/name="([^"]*)" value="([^"]*)"/g)];
    const fields = new URLSearchParams(hidden.map(([, name = "", value = ""]) => [name, value]));
    const isConfirmation = fields.has("confirm");
    if (isConfirmation && answer === "abort") fields.set("abort", "yes");
    if (fields.get("prompt") === "login") fields.set("login", "olga");
    [url, page] = await open(new URL(action, url).href, fields);
    if (fields.has("abort")) return;
  }
  throw new Error(`the login does not come to its end: ${page}`);
}
