import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { freePort } from "@sessiond/core/testing";
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { useConsoleBrowser } from "../../testing/console-browser.js";
import { startTestServer, type TestServer } from "../../testing/test-server.js";

vi.setConfig({ testTimeout: 120_000 });

const CLIENT_ID = "sessiond-console";
const SCOPE = "sessions:read sessions:delete";

const browser = useConsoleBrowser();
let server: TestServer;
let provider: Server;
beforeAll(async () => {
  const port = await freePort();
  const issuer = `http://127.0.0.1:${port}`;
  server = await startTestServer({
    config: {
      auth: {
        issuers: [
          {
            ...{ issuer, audiences: ["sessiond"], algorithms: ["RS256"], clockToleranceMs: 0 },
            keys: { kind: "discovery" },
          },
        ],
        roles: new Map(),
      },
      console: {
        isDevelopment: false,
        login: { clientId: CLIENT_ID, scope: `openid ${SCOPE}`, parameters: {} },
      },
    },
  });
  provider = createServer(new Provider(issuer, await configuration()).callback());
  provider.listen(port, "127.0.0.1");
  await once(provider, "listening");
});
afterAll(async () => {
  provider?.closeAllConnections();
  provider?.close();
  await server?.[Symbol.asyncDispose]();
});

/** An OpenID provider with a public client for the console, whose pages let anybody log in. */
async function configuration() {
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  const resource = { scope: SCOPE, audience: "sessiond", accessTokenFormat: "jwt" };
  return {
    jwks: { keys: [{ ...(await exportJWK(privateKey)), use: "sig", alg: "RS256", kid: "k1" }] },
    scopes: ["openid", ...SCOPE.split(" ")],
    clients: [
      {
        client_id: CLIENT_ID,
        token_endpoint_auth_method: "none",
        // Only such clients may be redirected to a page without TLS, on a loopback address.
        application_type: "native",
        redirect_uris: [`${server.httpUrl}/console`],
        grant_types: ["authorization_code"],
        response_types: ["code"],
      },
    ],
    cookies: { keys: ["a-key-of-the-test-alone"] },
    clientBasedCORS: () => true,
    findAccount: (_: unknown, accountId: string) => ({
      ...{ accountId, claims: () => ({ sub: accountId }) },
    }),
    features: {
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => "urn:sessiond",
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({ ...resource, jwt: { sign: { alg: "RS256" } } }),
      },
    },
  };
}

async function logInAs(page: Page, name: string): Promise<void> {
  await page.getByRole("button", { name: "Log in at 127.0.0.1" }).click();
  await page.locator("[name=login]").fill(name);
  await page.locator("[name=password]").fill("anything");
  await page.getByRole("button", { name: "Sign-in" }).click();
  await page.getByRole("button", { name: "Continue" }).click();
}

test("an operator logs in at the issuer, is led back to the screen, and a reload forgets the token", async () => {
  const page = await browser.open(`${server.httpUrl}/console#/events`);
  await logInAs(page, "olga");
  await page.getByRole("heading", { name: "Events" }).waitFor();
  await page.getByText("olga").waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  expect(page.url()).toBe(`${server.httpUrl}/console#/events`);
  const kept = "JSON.stringify([sessionStorage, localStorage, document.cookie])";
  expect(await page.evaluate(kept)).toBe('[{},{},""]');
  await page.reload();
  await page.getByRole("button", { name: "Log in at 127.0.0.1" }).waitFor();
});

test("an operator who turns back at the issuer is told so, and may try again", async () => {
  const page = await browser.open(`${server.httpUrl}/console`);
  await page.getByRole("button", { name: "Log in at 127.0.0.1" }).click();
  await page.getByText("Cancel").click();
  await page.getByRole("alert").getByText("Could not log in").waitFor();
  await logInAs(page, "olga");
  await page.getByRole("heading", { name: "All sessions" }).waitFor();
});

test("a code that this tab has not asked for is not taken", async () => {
  const page = await browser.open(`${server.httpUrl}/console?code=stolen&state=guessed`);
  await page.getByText("did not begin in this tab").waitFor();
  expect(page.url()).toBe(`${server.httpUrl}/console`);
});

test("a server that is none for development takes no token from a link", async () => {
  const page = await browser.open(`${server.httpUrl}/console#token=${server.accessToken}`);
  await page.getByRole("button", { name: "Log in at 127.0.0.1" }).waitFor();
  expect(page.url()).toBe(`${server.httpUrl}/console`);
});
