import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import { Keyring } from "@sessiond/core";
import { type RedisServer, startRedisServer } from "@sessiond/core/testing";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { RestartLoad } from "../testing/restart-load.js";
import { scrape } from "../testing/scrape.js";
import {
  developmentToken,
  type ListeningServerProcess,
  type ServerProcess,
  spawnServer,
  spawnSessiond,
} from "../testing/server-process.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";

/** `SESSIOND_WORKER_KILLS=20` is the long form. */
const KILLS = Number(process.env["SESSIOND_WORKER_KILLS"] ?? 3);
const KILL_TIMEOUT_MS = 30_000;
const START_TIMEOUT_MS = 20_000;
const CALLERS = 32;
/** The SDK does not repeat these if they may have happened. */
const ONCE = ["updateSession", "checkRateLimit"];

let redis: RedisServer;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let token: string;
beforeAll(async () => {
  redis = await startRedisServer();
  directory = await temporaryDirectory();
  token = await developmentToken(directory.path);
});
afterAll(async () => {
  await redis.stop();
  await directory[Symbol.asyncDispose]();
});

/** A server with two workers, and sessions of its own. */
function startWorkers(prefix: string, env: Readonly<Record<string, string>> = {}) {
  return spawnServer({
    flags: ["--dev", "--workers", "2", "--data-dir", directory.path, "--store", redis.url],
    env: { SESSIOND_KEY_PREFIX: `${prefix}:`, ...env },
  });
}

/** The processes of a server's workers, in the order in which they started. */
function workersOf({ pid }: ServerProcess): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return children === "" ? [] : children.split(" ").map(Number);
}

/** Kills the oldest worker, and waits until another serves in its place. */
async function killOldest(server: ListeningServerProcess): Promise<void> {
  const started = () => server.logs.filter(({ msg }) => msg === "worker started").length;
  const before = started();
  process.kill(workersOf(server)[0] ?? 0, "SIGKILL");
  await vi.waitUntil(() => started() > before, { timeout: KILL_TIMEOUT_MS });
}

/** Creates sessions, each over a connection of its own. */
async function createSessions({ grpcUrl }: ListeningServerProcess, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    using client = createSessionClient({ baseUrl: grpcUrl, token });
    await client.createSession({ userId: `user-${i}` });
  }
}

test("all workers serve on the same ports, and one line says that the server listens", async () => {
  await using server = await startWorkers("both");
  await createSessions(server, 4);
  const calls = () => server.logs.filter(({ msg }) => msg === "call");
  await vi.waitUntil(() => calls().length === 4);
  expect(
    calls()
      .map(({ worker }) => worker)
      .toSorted(),
  ).toEqual([1, 1, 2, 2]);
  expect(server.logs.filter(({ msg }) => msg === "listening")).toMatchObject([{ workers: 2 }]);
});

test("a scrape of any worker has the calls of all, also of one that was killed, and the store's sessions once", async () => {
  await using server = await startWorkers("scrape");
  await createSessions(server, 4);
  const expectAll = async () => {
    const seen = await scrape(server.httpUrl);
    expect(seen.sum("grpc_server_handled_total", { grpc_method: "CreateSession" })).toBe(4);
    expect(seen.sum("grpc_server_handling_seconds_count", { grpc_method: "CreateSession" })).toBe(
      4,
    );
    expect(seen.sum("sessiond_sessions_active")).toBe(4);
    expect(seen.sum("sessiond_ready", { part: "store" })).toBe(1);
  };
  await expectAll();
  await expectAll();
  await killOldest(server);
  await expectAll();
  await killOldest(server);
  await expectAll();
});

test("SIGHUP reaches every worker, and SIGTERM lets all finish after one shutdown delay", async () => {
  await using server = await startWorkers("signals", { SESSIOND_SHUTDOWN_DELAY: "1s" });
  server.kill("SIGHUP");
  const linesOf = (start: string) =>
    server.logs.filter(({ msg }) => String(msg).startsWith(start)).map(({ worker }) => worker);
  await vi.waitUntil(() => linesOf("reloaded keyring").length === 2);
  expect(linesOf("reloaded keyring").toSorted()).toEqual([1, 2]);
  const startMs = performance.now();
  server.kill("SIGTERM");
  await vi.waitUntil(() => linesOf("stopping").length === 2);
  await createSessions(server, 2);
  expect(await server.ended).toBe(0);
  expect(performance.now() - startMs).toBeGreaterThan(1_000);
  expect(
    linesOf("stopped")
      .filter((worker) => worker !== undefined)
      .toSorted(),
  ).toEqual([1, 2]);
  expect(server.logs.filter(({ msg }) => msg === "worker ended")).toEqual([]);
});

test("SIGTERM while the workers start ends the server, and it exits with 0", async () => {
  const addresses = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"];
  const dev = ["--dev", "--workers", "2", "--data-dir", directory.path, "--store", redis.url];
  await using server = spawnSessiond(["serve", ...addresses, ...dev]);
  // The first worker serves. It waits for the second one, which has only begun to start.
  await vi.waitUntil(() => workersOf(server).length === 2, { timeout: START_TIMEOUT_MS });
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
  expect(server.logs.filter(({ msg }) => msg === "listening")).toEqual([]);
});

test("a worker that cannot start is tried again later and later, while the other serves", async () => {
  const file = join(directory.path, "keyring");
  const keyring = `${Keyring.generateKey("test")}\n`;
  await writeFile(file, keyring);
  await using server = await startWorkers("backoff", { SESSIOND_KEYRING_FILE: file });
  await writeFile(file, "no keyring");
  process.kill(workersOf(server)[0] ?? 0, "SIGKILL");
  const ended = () => server.logs.filter(({ msg }) => msg === "worker ended");
  await vi.waitUntil(() => ended().length >= 3, { timeout: KILL_TIMEOUT_MS });
  expect(ended().slice(0, 3)).toMatchObject([
    { signal: "SIGKILL", retry_ms: 100 },
    { code: 2, retry_ms: 200 },
    { code: 2, retry_ms: 400 },
  ]);
  await createSessions(server, 2);
  await writeFile(file, keyring);
  await server.logged("worker started");
  expect(workersOf(server)).toHaveLength(2);
});

test("a call whose connection a killed worker had not taken yet is repeated at another worker", async () => {
  await using server = await startWorkers("untaken");
  const [frozen = 0] = workersOf(server);
  process.kill(frozen, "SIGSTOP");
  // In turn: one of the connections goes to the frozen worker, which cannot take it.
  const clients = [1, 2].map(() =>
    createSessionClient({ baseUrl: server.grpcUrl, token, timeoutMs: 15_000 }),
  );
  const created = Promise.all(clients.map((client) => client.createSession({ userId: "ada" })));
  await sleep(1_000);
  process.kill(frozen, "SIGKILL");
  expect(await created).toHaveLength(2);
  for (const client of clients) client.close();
});

test("a server whose workers cannot start says why, and exits with 1", async () => {
  await using server = await startWorkers("first");
  const second = spawnServer({
    flags: ["--dev", "--workers", "2", "--data-dir", directory.path, "--store", redis.url],
    env: { SESSIOND_METRICS_ADDRESS: new URL(server.httpUrl).host },
  });
  await expect(second).rejects.toThrow(/the address is in use[\s\S]*a worker could not start/);
});

test("if workers are killed under load, only calls that may not be repeated can fail, and watchers miss nothing", {
  timeout: KILLS * KILL_TIMEOUT_MS + 60_000,
}, async () => {
  await using server = await startWorkers("kills");
  const options = { token, timeoutMs: 30_000 };
  const clients = Array.from(
    { length: 8 },
    (_, i): SessionClient =>
      i % 2 === 0
        ? createSessionClient({ ...options, baseUrl: server.grpcUrl })
        : createSessionClient({ ...options, baseUrl: server.httpUrl, protocol: "connect" }),
  );
  const load = new RestartLoad(clients);
  await load.watch(8);
  const calling = load.call(CALLERS);
  for (let kill = 0; kill < KILLS; kill++) {
    await sleep(500);
    await killOldest(server);
  }
  load.stopCalling();
  await calling;
  await load.untilAllIsTold();
  for (const client of clients) client.close();
  const others = load.failures.filter(
    ({ method, reason }) => !ONCE.includes(method) || reason !== "UNAVAILABLE",
  );
  expect(others).toEqual([]);
  expect(load.failures.length).toBeLessThanOrEqual(CALLERS * KILLS);
  expect(load.faultsOfWatches()).toEqual([]);
  expect(load.callCount).toBeGreaterThan(100);
});
