import { createSessionClient, type SessionClient } from "@sessiond/client";
import { type RedisServer, startRedisServer } from "@sessiond/core/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RestartLoad } from "../testing/restart-load.js";
import {
  developmentToken,
  type ListeningServerProcess,
  spawnServer,
} from "../testing/server-process.js";
import { type Backend, TcpBalancer } from "../testing/tcp-balancer.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";

/** `pnpm soak:restarts` makes ten rounds. */
const ROUNDS = Number(process.env["SESSIOND_RESTARTS"] ?? 1);
const ROUND_TIMEOUT_MS = 120_000;
const SERVERS = 2;
const CLIENTS = 8;
const CALLERS = 64;
const WATCHERS = 20;

/** A busy machine loses no call, but may take long for it. */
const TIMEOUT_MS = 30_000;
/** The SDK does not repeat these if they may have happened. */
const ONCE = ["updateSession", "checkRateLimit"];

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedisServer();
});
afterAll(() => redis.stop());

/** One of the servers, as the balancers know it. */
interface Member {
  readonly server: ListeningServerProcess;
  readonly backends: readonly [Backend, Backend];
}

/** Two servers with one store, and a balancer in front of each of their ports. */
class Servers implements AsyncDisposable {
  readonly #opened = new AsyncDisposableStack();
  readonly #members: (Member | undefined)[] = [];
  readonly #options: Parameters<typeof spawnServer>[0];
  readonly #balancers: readonly [TcpBalancer, TcpBalancer];
  readonly token: string;

  private constructor(
    balancers: readonly [TcpBalancer, TcpBalancer],
    dataDir: string,
    token: string,
  ) {
    this.#balancers = balancers;
    for (const balancer of balancers) this.#opened.use(balancer);
    this.#options = {
      flags: ["--dev", "--data-dir", dataDir, "--store", redis.url],
      // A server starts slowly on a machine that its callers keep busy.
      outputTimeoutMs: ROUND_TIMEOUT_MS,
      // As off loopback. Meanwhile clients of HTTP/1.1 leave connections that they do not use: a call
      // that comes just when the server closes one would be lost.
      env: { SESSIOND_SHUTDOWN_DELAY: "5s", SESSIOND_KEY_PREFIX: "restarts:" },
    };
    this.token = token;
  }

  static async start(dataDir: string): Promise<Servers> {
    const balancers = [await TcpBalancer.start(), await TcpBalancer.start()] as const;
    const servers = new Servers(balancers, dataDir, await developmentToken(dataDir));
    for (let i = 0; i < SERVERS; i++) await servers.#startMember(i);
    return servers;
  }

  /** Clients of both ports. */
  clients(): SessionClient[] {
    const [grpc, http] = this.#balancers;
    const options = { token: this.token, timeoutMs: TIMEOUT_MS };
    return Array.from({ length: CLIENTS }, (_, i) =>
      i % 2 === 0
        ? createSessionClient({ ...options, baseUrl: grpc.url })
        : createSessionClient({ ...options, baseUrl: http.url, protocol: "connect" }),
    );
  }

  /** Ends each server in turn with this signal, and starts another in its place. */
  async restartAll(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    for (const [i, member] of this.#members.entries()) {
      if (member === undefined) continue;
      member.server.kill(signal);
      expect(await member.server.ended).toBe(signal === "SIGTERM" ? 0 : signal);
      this.#leave(member);
      await this.#startMember(i);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const member of this.#members) await member?.server[Symbol.asyncDispose]();
    await this.#opened.disposeAsync();
  }

  async #startMember(i: number): Promise<void> {
    const server = await spawnServer(this.#options);
    const readyUrl = `${server.httpUrl}/readyz`;
    const [grpc, http] = [server.grpcUrl, server.httpUrl].map((url) => ({
      port: Number(new URL(url).port),
      readyUrl,
    })) as [Backend, Backend];
    this.#members[i] = { server, backends: [grpc, http] };
    await Promise.all([this.#balancers[0].add(grpc), this.#balancers[1].add(http)]);
  }

  #leave({ backends }: Member): void {
    backends.forEach((backend, i) => void this.#balancers[i]?.remove(backend));
  }
}

/** Restarts all servers under load. Answers what the load met. */
async function restartUnderLoad(signal: "SIGTERM" | "SIGKILL"): Promise<RestartLoad> {
  await using directory = await temporaryDirectory();
  await using servers = await Servers.start(directory.path);
  const clients = servers.clients();
  const load = new RestartLoad(clients);
  await load.watch(WATCHERS);
  const calling = load.call(CALLERS);
  for (let round = 0; round < ROUNDS; round++) await servers.restartAll(signal);
  load.stopCalling();
  await calling;
  await load.untilAllIsTold();
  for (const client of clients) client.close();
  return load;
}

test("a rolling restart under load fails no call, and no watcher misses an event or is told one twice", {
  timeout: ROUNDS * ROUND_TIMEOUT_MS,
}, async () => {
  const load = await restartUnderLoad("SIGTERM");
  expect(load.failures).toEqual([]);
  expect(load.faultsOfWatches()).toEqual([]);
  expect(load.callCount).toBeGreaterThan(500);
});

test("if the servers are killed, only calls that may not be repeated can fail, and watchers miss nothing", {
  timeout: ROUNDS * ROUND_TIMEOUT_MS,
}, async () => {
  const load = await restartUnderLoad("SIGKILL");
  const others = load.failures.filter(
    ({ method, reason }) => !ONCE.includes(method) || reason !== "UNAVAILABLE",
  );
  expect(others).toEqual([]);
  // Each of the callers has one call in flight.
  expect(load.failures.length).toBeLessThanOrEqual(CALLERS * SERVERS * ROUNDS);
  expect(load.faultsOfWatches()).toEqual([]);
});
