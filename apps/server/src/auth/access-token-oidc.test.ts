import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseAuthConfig } from "../config/auth-config.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { createAccessTokenVerifier } from "./access-token.js";

const CLIENT = { id: "billing", secret: "a secret of the test alone" };

let server: Server;
let issuerUrl = "";

beforeAll(async () => {
  let provider: RequestListener = (_, response) => response.writeHead(503).end();
  server = createServer((request, response) => provider(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  issuerUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const jwk = { ...(await exportJWK(privateKey)), use: "sig", alg: "ES256", kid: "oidc" };
  provider = new Provider(issuerUrl, configuration(jwk)).callback();
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

function configuration(jwk: object): Readonly<Record<string, unknown>> {
  const resourceServer = {
    scope: KNOWN_PERMISSIONS.join(" "),
    audience: "sessiond",
    accessTokenFormat: "jwt",
    accessTokenTTL: 60,
    jwt: { sign: { alg: "ES256" } },
  };
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
        id_token_signed_response_alg: "ES256",
      },
    ],
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    ttl: { ClientCredentials: 60 },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => "urn:sessiond",
        getResourceServerInfo: () => resourceServer,
      },
    },
  };
}

/** Logs a service in by its own credentials (RFC 6749, 4.4) and answers its access token. */
async function login(scope: string): Promise<string> {
  const basic = Buffer.from(`${CLIENT.id}:${encodeURIComponent(CLIENT.secret)}`).toString("base64");
  const response = await fetch(`${issuerUrl}/token`, {
    method: "POST",
    headers: { authorization: `Basic ${basic}` },
    body: new URLSearchParams({ grant_type: "client_credentials", scope }),
  });
  const answer: unknown = await response.json();
  if (typeof answer === "object" && answer !== null && "access_token" in answer) {
    return String(answer.access_token);
  }
  throw new Error(`no access token: ${JSON.stringify(answer)}`);
}

function authFile(change: object = {}): string {
  const issuer = { issuer: issuerUrl, audience: "sessiond", algorithms: ["ES256"], ...change };
  return JSON.stringify({ issuers: [issuer] });
}

function verifierWith(change: object = {}) {
  return createAccessTokenVerifier(parseAuthConfig(authFile(change), "."));
}

test("a service that logged in at an OpenID provider is accepted with the scopes it was granted", async () => {
  const token = await login("sessions:create sessions:read");
  expect(await verifierWith({ typ: "at+jwt" }).verify(token)).toEqual({
    issuer: issuerUrl,
    subject: CLIENT.id,
    permissions: new Set(["sessions:create", "sessions:read"]),
  });
});

test("its token is refused where another audience or another issuer is expected", async () => {
  const token = await login("sessions:read");
  await expect(verifierWith({ audience: "other" }).verify(token)).rejects.toThrow(
    "the access token is for another audience",
  );
  await expect(verifierWith({ issuer: "http://127.0.0.1:1" }).verify(token)).rejects.toThrow(
    "the access token is from an unknown issuer",
  );
});
