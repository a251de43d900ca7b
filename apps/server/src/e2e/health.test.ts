import { startRedisServer } from "@sessiond/core/testing";
import { expect, onTestFinished, test } from "vitest";
import { HealthClient } from "../testing/health-client.js";
import { failureOf } from "../testing/outcome.js";
import { clientOver, GRPC } from "../testing/protocols.js";
import { scrape } from "../testing/scrape.js";
import { expectReadiness } from "../testing/store-unavailable.js";
import { startTestIssuer, startTestServer, type TestServer } from "../testing/test-server.js";
import type { ReadinessReport } from "../transport/readiness.js";

const SERVICE = "sessiond.v1.SessionService";

async function reportOf({ httpUrl }: TestServer): Promise<ReadinessReport> {
  const response = await fetch(`${httpUrl}/readyz`);
  expect(response.headers.get("content-type")).toBe("application/json");
  return (await response.json()) as ReadinessReport;
}

/** The parts of the server by what its metrics tell: 1 if ready, 0 if not. */
async function readyParts({ httpUrl }: TestServer): Promise<Readonly<Record<string, number>>> {
  const { samples } = await scrape(httpUrl);
  const ready = samples.filter(({ name }) => name === "sessiond_ready");
  return Object.fromEntries(ready.map(({ labels, value }) => [labels["part"], value]));
}

test("readiness says which part is not ready and since when, and health follows", async () => {
  await using redis = await startRedisServer();
  await using server = await startTestServer({ store: redis.url });
  using health = new HealthClient(server.grpcAddress);
  const before = await reportOf(server);
  expect(before.status).toBe("ready");
  redis.pause();
  const pausedMs = Date.now();
  await expectReadiness(server, 503);
  const { status, parts } = await reportOf(server);
  expect([status, await health.check(SERVICE)]).toEqual(["not ready", "NOT_SERVING"]);
  expect(parts.store?.reason).toContain("the session store is unavailable");
  expect(Date.parse(parts.store?.since ?? "")).toBeGreaterThanOrEqual(pausedMs);
  expect(parts.issuer_keys).toEqual(before.parts.issuer_keys);
  expect(await readyParts(server)).toEqual({ store: 0, issuer_keys: 1, reserve: 1 });
  redis.resume();
  await expectReadiness(server, 200);
  expect(await health.check(SERVICE)).toBe("SERVING");
});

test("a server that can fetch no issuer's keys is not ready, until it has them", async () => {
  const issuer = await startTestIssuer();
  onTestFinished(() => issuer.close());
  issuer.respond = (_, response) => response.writeHead(500).end();
  await using server = await startTestServer({ issuer });
  const client = clientOver(GRPC, server);
  const refused = { code: "UNAVAILABLE", reason: "ISSUER_UNAVAILABLE" };
  expect(await failureOf(client.countSessions({}))).toMatchObject(refused);
  await expectReadiness(server, 503);
  const { parts } = await reportOf(server);
  expect(parts.store?.ready).toBe(true);
  expect(parts.issuer_keys).toMatchObject({ ready: false, never_fetched: [issuer.url] });
  expect(await readyParts(server)).toEqual({ store: 1, issuer_keys: 0, reserve: 1 });
  const failures = (await scrape(server.httpUrl)).sum("sessiond_issuer_keys_failures_total", {
    issuer: issuer.url,
  });
  expect(failures).toBeGreaterThan(0);
  issuer.respond = undefined;
  await expectReadiness(server, 200);
  await client.countSessions({});
  // An outage that old keys bridge concerns nobody yet.
  expect((await reportOf(server)).parts.issuer_keys).toMatchObject({ never_fetched: [] });
  const warnings = server.logs.filter(({ msg }) => msg === "no signing keys");
  expect(warnings).toHaveLength(1);
});

test("a server that starts without its store says so, and why, in the one line of its start", async () => {
  await using server = await startTestServer({ store: "redis://127.0.0.1:1" });
  expect(server.logs).toMatchObject([
    {
      ...{ level: 50, msg: "listening", ready: false },
      store_error: "connect ECONNREFUSED 127.0.0.1:1",
      parts: { store: { ready: false, reason: expect.stringContaining("unavailable") } },
    },
  ]);
});
