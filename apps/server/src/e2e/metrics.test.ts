import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { credentials, Client as GrpcClient } from "@grpc/grpc-js";
import { Keyring } from "@sessiond/core";
import { startRedisServer } from "@sessiond/core/testing";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { expect, onTestFinished, test } from "vitest";
import { METRICS, type MetricName } from "../observability/metric-table.js";
import { HealthClient } from "../testing/health-client.js";
import { failureOf } from "../testing/outcome.js";
import { bearer, clientOver, GRPC, JSON_OVER_HTTP } from "../testing/protocols.js";
import { parseStrictly, type Scrape, scrape } from "../testing/scrape.js";
import { byId, byToken, newSession, newUser } from "../testing/session-requests.js";
import { expectReadiness, MAX_ANSWER_MS } from "../testing/store-unavailable.js";
import {
  startTestIssuer,
  startTestServer,
  type TestServer,
  useTestServer,
} from "../testing/test-server.js";

const SERVICE = "sessiond.v1.SessionService";
const OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT = "text/plain; version=0.0.4; charset=utf-8";
/** What Prometheus 2 and 3 send. */
const PROMETHEUS =
  "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;" +
  "q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

const expose = async ({ httpUrl }: TestServer, accept: string) => {
  const response = await fetch(`${httpUrl}/metrics`, { headers: { accept } });
  return { type: response.headers.get("content-type"), body: await response.text() };
};
const handled = (scraped: Scrape, method: string, labels: Readonly<Record<string, string>>) =>
  scraped.sum("grpc_server_handled_total", { grpc_method: method, ...labels });

const server = useTestServer({ policy: { maxSessionsPerUser: 2, idleTimeoutMs: 60_000 } });

test.each([
  [PROMETHEUS, OPENMETRICS],
  ["application/openmetrics-text", OPENMETRICS],
  ["application/openmetrics-text;version=1.0.0;q=0.2, text/plain;q=0.3", TEXT],
  ["application/openmetrics-text;version=0.0.1", TEXT],
  ["text/html,*/*;q=0.8", TEXT],
])("a scrape that accepts %s is answered in %s", async (accept, expected) => {
  expect((await expose(server, accept)).type).toBe(expected);
});

test("both formats are well-formed, say the same, and stay so in turn", async () => {
  await newSession(clientOver(GRPC, server));
  for (let i = 0; i < 2; i++) {
    const openMetrics = await parseStrictly("openmetrics", (await expose(server, PROMETHEUS)).body);
    const text = await parseStrictly("text", (await expose(server, TEXT)).body);
    const ofOurs = ({ samples }: Scrape) =>
      samples.map(({ name, labels }) => ({ name, labels })).filter(({ name }) => isOurs(name));
    expect(ofOurs(openMetrics).length).toBeGreaterThan(50);
    expect(ofOurs(openMetrics)).toEqual(ofOurs(text));
    expect(text.sum("process_cpu_user_seconds_total")).toBeGreaterThan(0);
    expect(text.sum("nodejs_eventloop_lag_p99_seconds")).toBeGreaterThan(0);
  }
});

test("promtool finds nothing to better in our metrics", async () => {
  const { body } = await expose(server, TEXT);
  const ours = body.split("\n").filter((line) => /^(# (HELP|TYPE) )?(sessiond|grpc)_/.test(line));
  const input = `${ours.join("\n")}\n`;
  const { stderr, status } = spawnSync("promtool", ["check", "metrics"], {
    input,
    encoding: "utf8",
  });
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
});

test("calls on both ports are counted by code, refused ones and those of health, too", async () => {
  const before = await scrape(server.httpUrl);
  for (const [protocol, port] of [
    [GRPC, "grpc"],
    [JSON_OVER_HTTP, "http"],
  ] as const) {
    const client = clientOver(protocol, server);
    await client.countSessions({});
    await failureOf(client.verifySession({ token: "nonsense" }));
    await failureOf(clientOver(protocol, { ...server, accessToken: "nonsense" }).countSessions({}));
    const leaving = new AbortController();
    const watch = client.watchSessions({}, { signal: leaving.signal })[Symbol.asyncIterator]();
    await watch.next();
    leaving.abort();
    await failureOf(watch.next());
    await expect
      .poll(async () => {
        const now = await scrape(server.httpUrl);
        const since = (method: string, code: string) =>
          (handled(now, method, { port, grpc_code: code }) ?? 0) -
          (handled(before, method, { port, grpc_code: code }) ?? 0);
        return {
          ok: since("CountSessions", "OK"),
          notFound: since("VerifySession", "NotFound"),
          refused: since("CountSessions", "Unauthenticated"),
          left: since("WatchSessions", "Canceled"),
        };
      })
      .toEqual({ ok: 1, notFound: 1, refused: 1, left: 1 });
  }
  await fetch(`${server.httpUrl}/${SERVICE}/CountSessions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...bearer(server.accessToken) },
    body: "{",
  });
  using health = new HealthClient(server.grpcAddress);
  await health.check();
  const after = await scrape(server.httpUrl);
  const malformed = { port: "http", grpc_code: "InvalidArgument", grpc_type: "unary" };
  expect(handled(after, "CountSessions", malformed)).toBe(1);
  expect(
    handled(after, "Check", {
      grpc_service: "grpc.health.v1.Health",
      grpc_code: "OK",
      port: "grpc",
    }),
  ).toBe(1);
  expect(after.sum("sessiond_access_tokens_refused_total", { reason: "malformed" })).toBe(2);
  expect(
    after.sum("grpc_server_handling_seconds_count", { grpc_method: "CountSessions", port: "grpc" }),
  ).toBe(2);
});

test("a scrape tells what began and ended, touched, waits and watches", async () => {
  await using own = await startTestServer({
    policy: { maxSessionsPerUser: 2, idleTimeoutMs: 1_000 },
  });
  const client = clientOver(GRPC, own);
  const [first, userId] = [await newSession(client), newUser()];
  for (let i = 0; i < 3; i++) await newSession(client, { userId });
  await client.revokeSession(byId(first.sessionId));
  await client.revokeSession(byId(first.sessionId));
  const { token } = await newSession(client);
  await client.verifySession({ token });
  await sleep(150);
  await client.verifySession({ token });
  const limits = createClient(RateLimitService, GRPC.open(own));
  const headers = bearer(own.accessToken);
  for (let i = 0; i < 6; i++)
    await limits.checkRateLimit({ policy: "burst", key: "a" }, { headers });
  const locks = createClient(LockService, GRPC.open(own));
  await locks.acquireLock({ name: "one" }, { headers });
  const end = new AbortController();
  const waiting = locks.acquireLock({ name: "one" }, { headers, signal: end.signal });
  const watching = client.watchSessions({}, { signal: end.signal })[Symbol.asyncIterator]();
  await watching.next();
  const now = await scrape(own.httpUrl);
  expect({
    active: now.sum("sessiond_sessions_active"),
    created: now.sum("sessiond_sessions_created_total"),
    revoked: now.sum("sessiond_sessions_ended_total", { cause: "revoked" }),
    evicted: now.sum("sessiond_sessions_ended_total", { cause: "evicted" }),
    expired: now.sum("sessiond_sessions_ended_total", { cause: "expired" }),
    written: now.sum("sessiond_touches_total", { written: "true" }),
    spared: now.sum("sessiond_touches_total", { written: "false" }),
    allowed: now.sum("sessiond_rate_limit_checks_total", { policy: "burst", allowed: "true" }),
    refused: now.sum("sessiond_rate_limit_checks_total", { policy: "burst", allowed: "false" }),
    waiting: now.sum("sessiond_locks_waiting"),
    watches: now.sum("sessiond_watch_streams"),
    reads: now.sum("sessiond_store_seconds_count", { operation: "get_session" }),
  }).toEqual({
    ...{ active: 3, created: 5, revoked: 1, evicted: 1, expired: 0 },
    ...{ written: 1, spared: 1, allowed: 5, refused: 1, waiting: 1, watches: 1, reads: 2 },
  });
  expect(now.sum("sessiond_watch_lag_seconds")).toBeLessThan(1);
  expect(now.sum("sessiond_issuer_keys_age_seconds", { issuer: own.issuer.url })).toBeGreaterThan(
    0,
  );
  end.abort();
  await Promise.allSettled([waiting, watching.next()]);
});

test("every label is one of the table, and none holds what callers sent", async () => {
  const client = clientOver(GRPC, server);
  const canary = "canary-of-a-caller";
  const { token, sessionId } = await newSession(client, { userId: canary, displayName: canary });
  for (const bad of [canary, token]) {
    const limits = createClient(RateLimitService, GRPC.open(server));
    const headers = bearer(server.accessToken);
    await Promise.allSettled([
      client.verifySession({ token: bad }),
      clientOver(GRPC, { ...server, accessToken: bad }).countSessions({}),
      fetch(`${server.httpUrl}/${SERVICE}/${bad}`, { method: "POST" }),
      limits.checkRateLimit({ policy: bad, key: bad }, { headers }),
    ]);
  }
  const unknown = new GrpcClient(server.grpcAddress, credentials.createInsecure());
  const asBytes = (text: string) => Buffer.from(text);
  await new Promise((resolve) =>
    unknown.makeUnaryRequest(`/${SERVICE}/${canary}`, asBytes, String, "", resolve),
  );
  unknown.close();
  const { body } = await expose(server, TEXT);
  for (const secret of [canary, token, sessionId, server.accessToken]) {
    expect(body).not.toContain(secret);
  }
  for (const { name, labels } of (await scrape(server.httpUrl)).samples) {
    if (!isOurs(name)) continue;
    const { labels: known } = METRICS[name.replace(/_(bucket|sum|count)$/, "") as MetricName];
    for (const [label, value] of Object.entries(labels)) {
      if (label === "le") continue;
      const values = (known as Readonly<Record<string, readonly string[] | string>>)[label];
      expect(values, `${name}{${label}}`).toBeDefined();
      if (typeof values === "object") expect(values).toContain(value);
    }
  }
});

test("metrics with an address of their own are there, and not on the HTTP port", async () => {
  const metricsAddress = { host: "127.0.0.1", port: 0 };
  await using own = await startTestServer({ config: { metricsAddress } });
  const { metrics_address: address } = own.logs.find(({ msg }) => msg === "listening") ?? {};
  expect((await scrape(`http://${address}`)).sum("sessiond_sessions_active")).toBe(0);
  expect((await fetch(`http://${address}/healthz`)).status).toBe(200);
  expect((await fetch(`http://${address}/sessiond.v1.SessionService/GetSession`)).status).toBe(404);
  expect((await fetch(`${own.httpUrl}/metrics`)).status).toBe(404);
});

test("while the store does not answer, a scrape is quick, and has no number of sessions", async () => {
  await using redis = await startRedisServer();
  await using own = await startTestServer({ store: redis.url });
  await newSession(clientOver(GRPC, own));
  redis.pause();
  await expectReadiness(own, 503);
  const startMs = performance.now();
  const down = await scrape(own.httpUrl);
  expect(performance.now() - startMs).toBeLessThan(MAX_ANSWER_MS);
  expect(down.sum("sessiond_sessions_active")).toBeUndefined();
  expect(down.sum("sessiond_store_errors_total", { kind: "unavailable" })).toBeGreaterThan(0);
  expect(down.sum("sessiond_sessions_created_total")).toBe(1);
  redis.resume();
  await expectReadiness(own, 200);
  expect((await scrape(own.httpUrl)).sum("sessiond_sessions_active")).toBe(1);
});

test("after a storm on two servers of one Redis, created minus ended is what is active", async () => {
  await using redis = await startRedisServer();
  const issuer = await startTestIssuer();
  onTestFinished(() => issuer.close());
  const policy = { maxSessionsPerUser: 3, onTokenReuse: "revoke" } as const;
  const keyring = Keyring.parse(Keyring.generateKey());
  const shared = { store: redis.url, policy, issuer, keyring };
  await using one = await startTestServer(shared);
  await using two = await startTestServer(shared);
  const clients = [one, two].map((each) => clientOver(GRPC, each));
  const at = (i: number) => clients[i % 2] ?? clients[0];
  const stolen: string[] = [];
  const users = Array.from({ length: 20 }, newUser);
  const storm = async (i: number) => {
    const client = at(i);
    if (client === undefined) return;
    const userId = users[i % users.length] ?? "";
    const { token } = await newSession(client, {
      userId,
      ...(i % 3 === 0 && { idleTimeout: { seconds: 1n } }),
    });
    if (i % 5 === 0) await at(i + 1)?.revokeSession(byToken(token));
    if (i % 7 === 0)
      await at(i + 1)
        ?.verifySession({ token })
        .catch(() => {});
    if (i % 50 === 49) await at(i + 1)?.revokeUserSessions({ userId });
    if (i >= 380) {
      await at(i + 1)
        ?.rotateSessionToken({ token })
        .catch(() => {});
      stolen.push(token);
    }
  };
  for (let i = 0; i < 400; i += 20) {
    await Promise.all(Array.from({ length: 20 }, (_, n) => storm(i + n)));
  }
  // From now on a replaced token is a stolen one.
  await sleep(11_000);
  for (const [i, token] of stolen.entries()) {
    await at(i)
      ?.verifySession({ token })
      .catch(() => {});
  }
  const settled = async () => {
    const [first, second] = await Promise.all([scrape(one.httpUrl), scrape(two.httpUrl)]);
    const sum = (name: string, labels = {}) =>
      (first.sum(name, labels) ?? 0) + (second.sum(name, labels) ?? 0);
    const ended = (cause: string) => sum("sessiond_sessions_ended_total", { cause });
    const active = Number((await clients[0]?.countSessions({}))?.count);
    expect(first.sum("sessiond_sessions_active")).toBe(active);
    expect(second.sum("sessiond_sessions_active")).toBe(active);
    expect(sum("sessiond_sessions_created_total") - sum("sessiond_sessions_ended_total")).toBe(
      active,
    );
    for (const cause of ["revoked", "evicted", "expired", "reused"]) {
      expect(ended(cause), cause).toBeGreaterThan(5);
    }
    expect(active).toBeGreaterThan(5);
  };
  await expect.poll(settled, { timeout: 40_000, interval: 500 }).toBeUndefined();
}, 90_000);

/** Not of the process, which prom-client measures. */
function isOurs(name: string): boolean {
  return /^(sessiond|grpc)_/.test(name);
}
