import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { failureOf } from "../testing/outcome.js";
import { clientOver, GRPC, JSON_OVER_HTTP } from "../testing/protocols.js";
import { newSession, newUser } from "../testing/session-requests.js";
import type { TestIssuer } from "../testing/test-issuer.js";
import { startTestIssuer, startTestServer, testConfig } from "../testing/test-server.js";
import { within } from "../testing/within.js";

const SOON_MS = 2_000;
const AT_ONCE_MS = 500;
const SCOPE = "sessions:create sessions:read";

/** A server that accepts the tokens of both, with these rules for the second one's. */
async function startServerOf(first: TestIssuer, second: TestIssuer, rules = {}) {
  const issuers = [first, second].flatMap((issuer) => testConfig({}, issuer).auth?.issuers ?? []);
  const changed = issuers.map((config, i) => (i === 1 ? { ...config, ...rules } : config));
  const config = { auth: { issuers: changed, roles: new Map() } };
  return startTestServer({ issuer: first, config });
}

test.each([{}, { namespace: "second" }])(
  "the same subject of another issuer is another caller, with the rules %j",
  async (rules) => {
    await using opened = new AsyncDisposableStack();
    const [first, second] = [await startTestIssuer(), await startTestIssuer()];
    for (const issuer of [first, second]) opened.defer(() => issuer.close());
    const server = opened.use(await startServerOf(first, second, rules));
    const clients = await Promise.all(
      [first, second].map(async (issuer) => {
        return clientOver(GRPC, server, await issuer.sign({ claims: { scope: SCOPE } }));
      }),
    );
    const request = { requestId: randomUUID(), userId: newUser() };
    const created = await Promise.all(clients.map((client) => newSession(client, request)));
    // An answer to the other's request would show its session's token.
    expect(new Set(created.map(({ token }) => token)).size).toBe(2);
    const counts = await Promise.all(clients.map((client) => client.countSessions(request)));
    const visible = "namespace" in rules ? 1n : 2n;
    expect(counts.map(({ count }) => BigInt(count))).toEqual([visible, visible]);
  },
);

test.each([GRPC, JSON_OVER_HTTP])(
  "a call over $name fails soon while its issuer hangs, the next one at once, and /readyz tells why",
  async (protocol) => {
    await using server = await startTestServer({ config: { issuerAnswerWaitMs: 1_000 } });
    server.issuer.respond = () => {};
    const call = () => failureOf(clientOver(protocol, server).countSessions({}));
    expect(await within(SOON_MS, call())).toMatchObject({ code: "UNAVAILABLE" });
    expect(await within(AT_ONCE_MS, call())).toMatchObject({ code: "UNAVAILABLE" });
    const keys = { ready: false, never_fetched: [server.issuer.url] };
    await expect
      .poll(async () => (await fetch(`${server.httpUrl}/readyz`)).json(), { timeout: 5_000 })
      .toMatchObject({ status: "not ready", parts: { store: { ready: true }, issuer_keys: keys } });
  },
);

test("the log says which keys an issuer publishes and withdraws, and which key a refused token names", async () => {
  await using server = await startTestServer();
  const client = clientOver(GRPC, server);
  await client.countSessions({});
  await server.issuer.addKey("next");
  server.issuer.withdrawKey("test");
  await clientOver(
    GRPC,
    server,
    await server.issuer.sign({ claims: { scope: SCOPE } }),
  ).countSessions({});
  await failureOf(client.countSessions({}));
  const issuer = server.issuer.url;
  const changed = server.logs.filter(({ msg }) => msg === "signing keys changed");
  expect(changed).toMatchObject([{ issuer, kids_added: ["next"], kids_removed: ["test"] }]);
  const claims = { claimed_issuer: issuer, claimed_kid: "test" };
  expect(server.logs.at(-1)).toMatchObject({ code: "unauthenticated", ...claims });
});
