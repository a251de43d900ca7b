import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";
import { expect, onTestFinished, test } from "vitest";
import { parseAuthConfig } from "../config/auth-config.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { TestIssuer } from "../testing/test-issuer.js";
import { createAccessTokenVerifier } from "./access-token.js";

const CLIENT = { id: "billing", secret: "a secret of the test alone" };

/** Starts an OpenID provider. Returns its URL. */
async function startProvider(): Promise<string> {
  const server = await TestIssuer.start();
  onTestFinished(() => server.close());
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const jwk = { ...(await exportJWK(privateKey)), use: "sig", alg: "ES256", kid: "oidc" };
  server.respond = new Provider(server.url, configuration(jwk)).callback();
  return server.url;
}

function configuration(jwk: object): Readonly<Record<string, unknown>> {
  return {
    jwks: { keys: [jwk] },
    scopes: KNOWN_PERMISSIONS,
    clients: [
      {
        client_id: CLIENT.id,
        client_secret: CLIENT.secret,
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
      },
    ],
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => "urn:sessiond",
        getResourceServerInfo: () => ({
          scope: KNOWN_PERMISSIONS.join(" "),
          audience: "sessiond",
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
  };
}

/** Logs a service in with its own credentials (RFC 6749, 4.4). Returns its access token. */
async function login(issuer: string, scope: string): Promise<string> {
  const basic = Buffer.from(`${CLIENT.id}:${encodeURIComponent(CLIENT.secret)}`).toString("base64");
  const response = await fetch(`${issuer}/token`, {
    method: "POST",
    headers: { authorization: `Basic ${basic}` },
    body: new URLSearchParams({ grant_type: "client_credentials", scope }),
  });
  const { access_token: token } = (await response.json()) as { readonly access_token?: string };
  if (token === undefined) throw new Error(`no access token: status ${response.status}`);
  return token;
}

test("a service that logged in at an OpenID provider is accepted with its scopes", async () => {
  const issuer = await startProvider();
  const rules = { issuer, audience: "sessiond", algorithms: ["ES256"], typ: "at+jwt" };
  const auth = parseAuthConfig(JSON.stringify({ issuers: [rules] }), ".");
  const token = await login(issuer, "sessions:create sessions:read");
  expect(await createAccessTokenVerifier(auth).verify(token)).toEqual({
    issuer,
    subject: CLIENT.id,
    namespace: "",
    permissions: new Set(["sessions:create", "sessions:read"]),
  });
});
