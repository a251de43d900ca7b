import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { createClient } from "@connectrpc/connect";
import { type RedisServer, startRedisServer } from "@sessiond/core/testing";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dashboardQueries, inRepository, selectorsIn } from "../testing/instruments.js";
import { failureIfAny } from "../testing/outcome.js";
import { type Prometheus, startPrometheus } from "../testing/prometheus.js";
import { bearer, clientOver, GRPC, JSON_OVER_HTTP } from "../testing/protocols.js";
import {
  developmentToken,
  type ListeningServerProcess,
  spawnServer,
} from "../testing/server-process.js";
import { newSession } from "../testing/session-requests.js";
import { runSessionStorm } from "../testing/session-storm.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";

/** A storm of minutes is for who looks at the servers meanwhile. */
const STORM_MS = Number(process.env["SESSIOND_STORM_SECONDS"] ?? 10) * 1_000;
/** Prometheus scrapes each second, and a server counts its sessions at most once a second. */
const NEXT_SCRAPE_MS = 3_000;
/** A server counts what has expired when it sweeps. */
const SWEPT_MS = 40_000;
const ALERT_MS = 30_000;
/** A replaced token works for ten seconds. Later it is a sign of theft. */
const GRACE_MS = 10_000;

/** What has no series before the first fault, to which the dashboard adds a zero, or without TLS. */
const mayBeMissing = (query: string) =>
  /^grpc_server_handled_total\{.*Unavailable|^sessiond_tls_/.test(query);

const opened = new AsyncDisposableStack();
let redis: RedisServer;
let servers: [ListeningServerProcess, ListeningServerProcess];
let accessToken: string;
let prometheus: Prometheus;

beforeAll(async () => {
  redis = opened.use(await startRedisServer());
  const { path } = opened.use(await temporaryDirectory());
  accessToken = await developmentToken(path);
  const store = ["--dev", "--data-dir", path, "--store", redis.url];
  const policies = ["--max-sessions-per-user", "3", "--on-token-reuse", "revoke"];
  const start = async () => opened.use(await spawnServer({ flags: [...store, ...policies] }));
  servers = [await start(), await start()];
  const rules = await readFile(inRepository("deploy/prometheus/alerts.yml"), "utf8");
  prometheus = opened.use(
    await startPrometheus({
      targets: servers.map(addressOf),
      // Minutes become seconds.
      rules: rules.replace(/for: \d+m/g, "for: 1s").replaceAll("[5m]", "[10s]"),
    }),
  );
});
afterAll(() => opened.disposeAsync());

test(
  "after a storm on two servers, Prometheus says how many sessions are active, and so does created minus ended",
  async () => {
    const clients = servers.map((server) => clientOver(GRPC, server, accessToken));
    await runSessionStorm(clients, STORM_MS);
    const active = Number((await clients[0]?.countSessions({}))?.count);
    expect(active).toBeGreaterThan(20);
    await expect
      .poll(() => valuesOf("sessiond_sessions_active"), { timeout: NEXT_SCRAPE_MS })
      .toEqual([active, active]);
    const sum = "sum(sessiond_sessions_created_total) - sum(sessiond_sessions_ended_total)";
    await expect.poll(() => valuesOf(sum), { timeout: SWEPT_MS, interval: 250 }).toEqual([active]);
    for (const cause of ["revoked", "evicted", "expired"]) {
      const ended = await valuesOf(`sum(sessiond_sessions_ended_total{cause="${cause}"})`);
      expect(ended[0], cause).toBeGreaterThan(20);
    }
  },
  STORM_MS + 90_000,
);

test("every query of the dashboard has data, and so has what every alert looks at", async () => {
  await using _ = await variedLoad();
  const queries = (await dashboardQueries("10s")).map(({ promql }) => promql);
  const observed = (await prometheus.rules()).flatMap(({ query }) => selectorsIn(query));
  const all = [...queries, ...observed].filter((query) => !mayBeMissing(query));
  const withoutData = async () => {
    const values = await Promise.all(all.map(valuesOf));
    // So is every value of no series.
    return all.filter((_, i) => values[i]?.every(Number.isNaN));
  };
  await expect.poll(withoutData, { timeout: 15_000, interval: 1_000 }).toEqual([]);
  for (const { name, health } of await prometheus.rules()) expect(health, name).toBe("ok");
});

test("alerts fire for what befalls the servers, and none does before", async () => {
  const [one, two] = servers;
  const client = clientOver(GRPC, one, accessToken);
  const stranger = clientOver(JSON_OVER_HTTP, two, "nonsense");
  await expect.poll(firing, { timeout: ALERT_MS, interval: 250 }).toEqual([]);
  const { token } = await newSession(client);
  await client.rotateSessionToken({ token });
  const stolenMs = performance.now() + GRACE_MS + 1_000;

  await untilFiring(["SessiondAccessTokensRefused"], () => stranger.countSessions({}));

  await limitMemory("1");
  await untilFiring(["SessiondStoreFull"], () => newSession(client));
  await limitMemory("0");

  await sleep(stolenMs - performance.now());
  await failureIfAny(client.verifySession({ token }));
  await untilFiring(["SessiondTokensReused"]);

  const watching = new AbortController();
  const watch = client.watchSessions({}, { signal: watching.signal })[Symbol.asyncIterator]();
  await watch.next();
  redis.pause();
  const ofDeadStore = ["NotReady", "StoreErrors", "Errors", "Slow", "WatchLag"];
  await untilFiring(
    ofDeadStore.map((name) => `Sessiond${name}`),
    () => client.verifySession({ token }),
  );
  redis.resume();
  watching.abort();
  await failureIfAny(watch.next());

  two.kill("SIGKILL");
  await untilFiring(["SessiondDown"]);
  const [down] = (await prometheus.alerts()).filter(
    ({ labels }) => nameOf(labels) === "SessiondDown",
  );
  expect(down?.annotations["summary"]).toBe(`sessiond is down: ${addressOf(two)}`);
}, 180_000);

/** Calls of many kinds, so that every series is there, until disposed of. */
async function variedLoad(): Promise<AsyncDisposable> {
  const [one] = servers;
  const client = clientOver(GRPC, one, accessToken);
  const overHttp = clientOver(JSON_OVER_HTTP, one, accessToken);
  const limits = createClient(RateLimitService, GRPC.open(one));
  const locks = createClient(LockService, GRPC.open(one));
  const headers = bearer(accessToken);
  const end = new AbortController();
  const { signal } = end;
  await locks.acquireLock({ name: "one" }, { headers });
  const watch = client.watchSessions({}, { signal })[Symbol.asyncIterator]();
  await watch.next();
  const load = async () => {
    while (!signal.aborted) {
      const { token } = await newSession(client);
      await overHttp.verifySession({ token });
      await failureIfAny(client.verifySession({ token: "nonsense" }));
      await limits.checkRateLimit({ policy: "login", key: "a" }, { headers });
      await sleep(50);
    }
  };
  const waiting = [locks.acquireLock({ name: "one" }, { headers, signal }), load()];
  return {
    [Symbol.asyncDispose]: async () => {
      end.abort();
      await Promise.allSettled([...waiting, watch.next()]);
    },
  };
}

/** Calls again and again, whatever it is answered, until all of these alerts fire. */
async function untilFiring(names: readonly string[], call?: () => Promise<unknown>): Promise<void> {
  const seen = new Set<string>();
  const missing = async () => {
    for (const name of await firing()) seen.add(name);
    return names.filter((name) => !seen.has(name));
  };
  let isOver = false;
  const calling = (async () => {
    while (call !== undefined && !isOver) {
      await Promise.all(Array.from({ length: 5 }, () => failureIfAny(call())));
      await sleep(50);
    }
  })();
  try {
    await expect.poll(missing, { timeout: ALERT_MS, interval: 250 }).toEqual([]);
  } finally {
    isOver = true;
    await calling;
  }
}

/** The names of the alerts that fire. Checks what they say. */
async function firing(): Promise<readonly string[]> {
  const alerts = (await prometheus.alerts()).filter(({ state }) => state === "firing");
  for (const { annotations } of alerts) {
    // What Prometheus writes where a template is wrong.
    expect(Object.values(annotations).join()).not.toMatch(/<(error|no value)|%!/);
  }
  return [...new Set(alerts.map(({ labels }) => nameOf(labels)))];
}

const nameOf = (labels: Readonly<Record<string, string>>) => labels["alertname"] ?? "";

async function valuesOf(promql: string): Promise<readonly number[]> {
  return (await prometheus.query(promql)).map(({ value }) => value);
}

async function limitMemory(bytes: string): Promise<void> {
  const set = ["-p", `${redis.port}`, "config", "set", "maxmemory", bytes];
  await promisify(execFile)("redis-cli", set);
}

function addressOf({ httpUrl }: ListeningServerProcess): string {
  return new URL(httpUrl).host;
}
