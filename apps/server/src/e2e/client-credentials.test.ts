import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import type { RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type ClientCredentialsOptions,
  clientCredentials,
  createSessionClient,
  tokenFile,
} from "@sessiond/client";
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { oidcFeatures } from "../testing/oidc-features.js";
import { TestIssuer } from "../testing/test-issuer.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

const SECRET = { clientId: "shop", clientSecret: "a secret: of the test/alone" };
const scope = KNOWN_PERMISSIONS.join(" ");

describe("a client with client credentials", async () => {
  const signing = await generateKeyPair("RS256", { extractable: true });
  const assertion = await generateKeyPair("ES256", { extractable: true });

  /** An OpenID provider that counts requests for tokens, and a server that trusts it. */
  async function start({ lifetimeS = 600 } = {}) {
    const issuer = await TestIssuer.start();
    onTestFinished(() => issuer.close());
    const configuration = await providerConfiguration(lifetimeS);
    const provider = new Provider(issuer.url, configuration).callback();
    const asked = { tokens: 0 };
    issuer.respond = (request, response) => {
      if (request.url === "/token") asked.tokens++;
      return provider(request, response);
    };
    const accepted = { audiences: ["sessiond"], algorithms: ["RS256"], clockToleranceMs: 0 };
    const keys = { kind: "url" as const, url: `${issuer.url}/jwks` };
    const trusted = { issuer: issuer.url, keys, ...accepted };
    const auth = { issuers: [trusted], roles: new Map() };
    const server: TestServer = await startTestServer({ config: { auth } });
    onTestFinished(() => server[Symbol.asyncDispose]());
    const open = (options: Partial<ClientCredentialsOptions> = SECRET) => {
      const given = { clientId: "shop", issuer: issuer.url, scope, ...options };
      const token = clientCredentials(given);
      const client = createSessionClient({ baseUrl: server.grpcUrl, token });
      onTestFinished(() => client.close());
      return { client, token };
    };
    return { issuer, asked, open };
  }

  async function providerConfiguration(lifetimeS: number) {
    const grant = { grant_types: ["client_credentials"], redirect_uris: [], response_types: [] };
    const publicKey = { ...(await exportJWK(assertion.publicKey)), kid: "a", use: "sig" };
    return {
      jwks: { keys: [{ ...(await exportJWK(signing.privateKey)), use: "sig", kid: "oidc" }] },
      scopes: KNOWN_PERMISSIONS,
      clientAuthMethods: ["client_secret_basic", "private_key_jwt"],
      clients: [
        { client_id: SECRET.clientId, client_secret: SECRET.clientSecret, ...grant },
        {
          client_id: "keyed",
          token_endpoint_auth_method: "private_key_jwt",
          token_endpoint_auth_signing_alg: "ES256",
          jwks: { keys: [{ ...publicKey, alg: "ES256" }] },
          ...grant,
        },
      ],
      features: oidcFeatures({ scope, lifetimeS }),
    };
  }

  test("gets one access token for all its calls, by its secret", async () => {
    const { asked, open } = await start();
    const { client } = open();
    const calls = Array.from({ length: 20 }, () => client.countSessions());
    expect(await Promise.all(calls)).toEqual(calls.map(() => 0));
    expect(await client.countSessions()).toBe(0);
    expect(asked.tokens).toBe(1);
  });

  test("gets its access token by a key of its own", async () => {
    const { open } = await start();
    const privateKeyJwt = { key: assertion.privateKey, kid: "a" };
    const { client } = open({ clientId: "keyed", privateKeyJwt });
    expect(await client.countSessions()).toBe(0);
  });

  test("renews the token early, while calls go on with the old one", async () => {
    const { issuer, asked, open } = await start({ lifetimeS: 8 });
    const { client, token } = open();
    const first = await token();
    const answer = issuer.respond as RequestListener;
    issuer.respond = (request, response) => setTimeout(() => answer(request, response), 300);
    await new Promise((resolve) => setTimeout(resolve, 5_650));
    expect(await token()).toBe(first);
    expect(await client.countSessions()).toBe(0);
    await expect.poll(token, { timeout: 950, interval: 20 }).not.toBe(first);
    expect(asked.tokens).toBe(2);
  });

  test("an issuer that is down fails calls as an outage, and not those that have a token", async () => {
    const { issuer, open } = await start();
    const before = open().client;
    await before.countSessions();
    const answer = issuer.respond as RequestListener;
    issuer.respond = (_, response) => void response.writeHead(503).end();
    const { client } = open();
    const call = client.countSessions({}, { timeoutMs: 500 });
    await expect(call).rejects.toMatchObject({ reason: "TOKEN_UNAVAILABLE", httpStatus: 503 });
    expect(await before.countSessions()).toBe(0);
    issuer.respond = answer;
    await expect.poll(() => client.countSessions(), { timeout: 5_000 }).toBe(0);
  });

  test("a refusal names its reason, is not retried, and has no secret in it", async () => {
    const { asked, open } = await start();
    const { client } = open({ clientSecret: "another-secret" });
    const error = await client.countSessions().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ reason: "UNAUTHENTICATED" });
    expect(String(error)).toMatch(/gives no access token: invalid_client$/);
    expect(JSON.stringify(error)).not.toContain("another-secret");
    expect(asked.tokens).toBe(1);
  });
});

test.each([
  [{ issuer: "http://issuer.example" }, "issuer: expected a URL with https:"],
  [{ clientId: "" }, "clientId: expected a text"],
  [{ clientSecret: undefined }, "clientSecret: expected either this or privateKeyJwt"],
  [{ audiense: "sessiond" }, "audiense: unknown"],
])("client credentials with %j are refused by name", (wrong, message) => {
  const options = { issuer: "https://issuer.example", ...SECRET, ...wrong };
  expect(() => clientCredentials(options)).toThrow(message);
});

describe("a token from a file", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sessiond-token-"));
    return () => rm(folder, { recursive: true });
  });

  test("is read again when it has changed, and stays while the file is missing", async () => {
    const path = join(folder, "token");
    await writeFile(path, "first\n");
    const token = tokenFile(path);
    expect(await Promise.all([token(), token()])).toEqual(["first", "first"]);
    await writeFile(`${path}.new`, "second\n");
    await rename(`${path}.new`, path);
    await expect.poll(token, { timeout: 3_000 }).toBe("second");
    await rm(path);
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    expect(await token()).toBe("second");
  });

  test("is an outage if there never was one", async () => {
    const path = join(folder, "missing");
    await expect(tokenFile(path)()).rejects.toThrow("ENOENT");
    await writeFile(path, "\n");
    await expect(tokenFile(path)()).rejects.toThrow("is empty");
  });
});
