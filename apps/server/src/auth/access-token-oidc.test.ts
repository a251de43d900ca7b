import { readFile } from "node:fs/promises";
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";
import { expect, onTestFinished, test } from "vitest";
import { parseAuthConfig } from "../config/auth-config.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { oidcFeatures } from "../testing/oidc-features.js";
import { TestIssuer } from "../testing/test-issuer.js";
import { createAccessTokenVerifier } from "./access-token.js";

const CLIENT = { id: "billing", secret: "a secret of the test alone" };
const PAGE = new URL("../../../../docs/identity-providers.md", import.meta.url);

/** An access token as its provider makes it. */
interface AccessToken {
  header?: object;
  payload: Record<string, unknown>;
}

/** Starts an OpenID provider, which lets `shape` change its access tokens. Returns its URL. */
async function startProvider(shape: (token: AccessToken) => void = () => {}): Promise<string> {
  const server = await TestIssuer.start();
  onTestFinished(() => server.close());
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  const jwk = { ...(await exportJWK(privateKey)), use: "sig", alg: "RS256", kid: "oidc" };
  const customizers = { jwt: (_: unknown, __: unknown, token: AccessToken) => shape(token) };
  const options = { ...configuration(jwk), formats: { customizers } };
  server.respond = new Provider(server.url, options).callback();
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
    features: oidcFeatures({ scope: KNOWN_PERMISSIONS.join(" ") }),
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
  const rules = { issuer, audience: "sessiond", algorithms: ["RS256"], typ: "at+jwt" };
  const auth = parseAuthConfig(JSON.stringify({ issuers: [rules] }), ".");
  const token = await login(issuer, "sessions:create sessions:read");
  expect(await createAccessTokenVerifier(auth).verify(token)).toEqual({
    issuer,
    subject: CLIENT.id,
    namespace: "",
    permissions: new Set(["sessions:create", "sessions:read"]),
  });
});

/** The auth file that the page gives under this heading. */
async function documentedFile(heading: string): Promise<string> {
  const [, section = ""] = (await readFile(PAGE, "utf8")).split(`\n## ${heading}\n`);
  const [, json] = /```json\n(.*?)```/s.exec(section) ?? [];
  if (json === undefined) throw new Error(`the page has no auth file for ${heading}`);
  return json;
}

// The claims of the providers' own examples of access tokens, without those that every token has.
const ENTRA = { ver: "2.0", azp: "00b1f2c3", oid: "c3a1", tid: "5f1e", sub: "AAAAAAA" };
const KEYCLOAK = { typ: "Bearer", azp: "shop", acr: "1", scope: "email profile", sub: "f3d9" };
const AUTH0 = { azp: "Ab3xYz", gty: "client-credentials", sub: "Ab3xYz@clients" };
const OKTA = { ver: 1, jti: "AT.mN", cid: "0oa5aBcD", sub: "0oa5aBcD" };
const ACCOUNT_ROLES = { account: { roles: ["manage-account"] } };

test.each([
  ["Microsoft Entra ID", { typ: "JWT" }, { ...ENTRA, scp: "sessions:read" }, ["sessions:read"]],
  [
    "Microsoft Entra ID",
    { typ: "JWT" },
    { ...ENTRA, idtyp: "app", roles: ["Sessions.Manage"] },
    ["sessions:create", "sessions:read", "sessions:update", "sessions:delete"],
  ],
  [
    "Keycloak",
    { typ: "JWT" },
    {
      ...{ ...KEYCLOAK, aud: ["sessiond", "account"] },
      ...{ resource_access: ACCOUNT_ROLES, realm_access: { roles: ["session-reader"] } },
    },
    ["sessions:read"],
  ],
  [
    "Auth0",
    { typ: "JWT" },
    { ...AUTH0, scope: "sessions:read sessions:create", permissions: ["sessions:read"] },
    ["sessions:read"],
  ],
  [
    "Auth0",
    { typ: "at+jwt" },
    { ...AUTH0, permissions: [], "https://shop.example.com/roles": ["support"] },
    ["sessions:read", "sessions:delete"],
  ],
  ["Okta", { typ: undefined }, { ...OKTA, scp: ["locks:use"] }, ["locks:use"]],
  [
    "Okta",
    { typ: undefined },
    { ...OKTA, scp: ["openid"], groups: ["Everyone", "Session Support"] },
    ["sessions:read", "sessions:delete"],
  ],
])("with the documented auth file for %s, a token with %j and %j permits %j", async (...shape) => {
  const [provider, header, claims, permissions] = shape;
  const file = JSON.parse(await documentedFile(provider));
  const [{ audience: aud }] = file.issuers;
  const issuer = await startProvider((token) => {
    const { iss, iat, exp } = token.payload;
    token.header = header;
    token.payload = { iss, iat, exp, aud, ...claims };
  });
  file.issuers[0].issuer = issuer;
  const verifier = createAccessTokenVerifier(parseAuthConfig(JSON.stringify(file), "."));
  const caller = await verifier.verify(await login(issuer, ""));
  expect(caller.subject).toBe(claims.sub);
  expect(KNOWN_PERMISSIONS.filter((known) => caller.permissions.has(known))).toEqual(permissions);
});

test("the documented auth files are accepted as they are", async () => {
  for (const provider of ["Microsoft Entra ID", "Keycloak", "Auth0", "Okta"]) {
    parseAuthConfig(await documentedFile(provider), ".");
  }
});
