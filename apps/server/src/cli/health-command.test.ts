import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { freePort, startRedisServer, TestAuthority } from "@sessiond/core/testing";
import { expect, onTestFinished, test } from "vitest";
import { faultsOf, outcomeOf } from "../testing/command-outcome.js";
import { expectReadiness } from "../testing/store-unavailable.js";
import { startTestServer } from "../testing/test-server.js";
import { healthCommand } from "./health-command.js";

function healthAt(address: string, env: Readonly<Record<string, string>> = {}) {
  return outcomeOf(healthCommand, [], { SESSIOND_HTTP_ADDRESS: address, ...env });
}

test("a health check succeeds while the server is ready, and else prints which part is not", async () => {
  await using redis = await startRedisServer();
  await using server = await startTestServer({ store: redis.url });
  // A server in a container listens on all interfaces.
  const address = `0.0.0.0:${new URL(server.httpUrl).port}`;
  expect(await healthAt(address)).toMatchObject({ code: 0, stderr: "" });
  redis.pause();
  await expectReadiness(server, 503);
  const { code, stdout } = await healthAt(address);
  redis.resume();
  expect([code, JSON.parse(stdout)]).toMatchObject([1, { parts: { store: { ready: false } } }]);
});

test("a health check of a server with TLS needs no certificate of its own", async () => {
  using authority = new TestAuthority();
  const tls = { ...authority.issue(), ca: authority.ca };
  const metricsAddress = { host: "127.0.0.1", port: await freePort() };
  await using _server = await startTestServer({ config: { tls, metricsAddress } });
  const env = { SESSIOND_TLS_CERT: tls.cert, SESSIOND_TLS_CLIENT_CA: tls.ca };
  const metrics = { SESSIOND_METRICS_ADDRESS: `127.0.0.1:${metricsAddress.port}` };
  expect((await healthAt("127.0.0.1:8080", { ...env, ...metrics })).code).toBe(0);
  expect(await faultsOf(healthCommand, [], env)).toEqual([
    "SESSIOND_METRICS_ADDRESS (--metrics-address): required with SESSIOND_TLS_CLIENT_CA " +
      "(--tls-client-ca); it asks for no certificate",
  ]);
});

test("a health check fails within seconds where nothing answers", async () => {
  const silent = createServer(() => {}).listen(0, "127.0.0.1");
  onTestFinished(() => silent.closeAllConnections());
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  const outcomes = await Promise.all(
    [port, await freePort()].map((p) => healthAt(`127.0.0.1:${p}`)),
  );
  expect(outcomes).toMatchObject([
    {
      code: 1,
      stderr: expect.stringMatching(/^sessiond: no answer from 127\.0\.0\.1:\d+: .*abort/),
    },
    { code: 1, stderr: expect.stringContaining("ECONNREFUSED") },
  ]);
});
