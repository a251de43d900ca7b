import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { RedisSessionStore } from "../../redis/index.js";
import { startTcpFaultProxy, type TcpFaultProxy } from "../network/tcp-fault-proxy.js";
import { connectTo } from "../redis/connect-to.js";
import { type RedisServer, startRedisServer } from "../redis/redis-server.js";
import { withRedis } from "../redis/with-redis.js";
import type { Fault, FaultyStores } from "./fault-run.js";
import type { RecordedStore } from "./recorded-user.js";

const HOST = "127.0.0.1";
const MAX_DELAY_MS = 300;
const MAX_DROPPED_REPLIES = 5;
/** What is acknowledged is on the disk, so that a crash takes nothing back. */
const DURABLE = ["--appendonly", "yes", "--appendfsync", "always"];

/** Two servers' stores on one Redis that keeps an append-only file, each by a network of its own. */
export async function startFaultyRedis(): Promise<FaultyStores> {
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await CrashingRedis.start());
  const stores: RecordedStore[] = [];
  const faults = [faultsOf(redis)];
  for (const server of ["server 1", "server 2"]) {
    const network = stack.use(await startTcpFaultProxy({ host: HOST, port: redis.port }));
    const store = new RedisSessionStore({ redis: await connectTo(network) });
    stack.defer(() => store.close());
    stores.push(store);
    faults.push(networkFaultsOf(network, server));
  }
  const opened = stack.move();
  return {
    stores,
    faults,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** A Redis server that can crash and comes back on its port with its file. */
class CrashingRedis implements AsyncDisposable {
  readonly port: number;
  readonly #dir: string;
  #server: RedisServer;

  private constructor(dir: string, server: RedisServer) {
    this.port = server.port;
    this.#dir = dir;
    this.#server = server;
  }

  static async start(): Promise<CrashingRedis> {
    const dir = await mkdtemp(join(tmpdir(), "sessiond-history-"));
    return new CrashingRedis(dir, await startRedisServer({ args: argsFor(dir) }));
  }

  get server(): RedisServer {
    return this.#server;
  }

  async crash(downMs: number): Promise<void> {
    await this.#server.kill();
    await sleep(downMs);
    this.#server = await startRedisServer({ args: argsFor(this.#dir), port: this.port });
  }

  /** Sends a command past whatever lies between the stores and the server. */
  async command(name: string, ...args: readonly string[]): Promise<void> {
    await withRedis(this.port, (redis) => redis.call(name, ...args));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop();
    await rm(this.#dir, { recursive: true, force: true });
  }
}

function argsFor(dir: string): string[] {
  return [...DURABLE, "--dir", dir];
}

function faultsOf(redis: CrashingRedis): Fault[] {
  return [
    {
      name: "Redis is frozen",
      async inflict(durationMs) {
        redis.server.pause();
        await sleep(durationMs);
        redis.server.resume();
      },
    },
    { name: "Redis is killed and started anew", inflict: (durationMs) => redis.crash(durationMs) },
    { name: "Redis forgets its scripts", inflict: () => redis.command("SCRIPT", "FLUSH") },
    {
      name: "Redis drops its clients",
      inflict: () => redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
    },
    {
      name: "Redis holds writes back",
      async inflict(durationMs) {
        await redis.command("CLIENT", "PAUSE", `${durationMs}`, "WRITE");
        await sleep(durationMs);
      },
    },
  ];
}

function networkFaultsOf(network: TcpFaultProxy, server: string): Fault[] {
  const during = (begin: (durationMs: number) => void) => async (durationMs: number) => {
    begin(durationMs);
    await sleep(durationMs);
    network.pass();
  };
  return [
    { name: `connections of ${server} are cut`, inflict: async () => network.cut() },
    { name: `${server} is refused`, inflict: during(() => network.refuse()) },
    {
      name: `the network of ${server} is slow`,
      inflict: during((durationMs) => network.delay(Math.min(durationMs, MAX_DELAY_MS))),
    },
    { name: `no answer reaches ${server}`, inflict: during(() => network.halfOpen()) },
    {
      name: `${server} loses replies`,
      inflict: during((durationMs) =>
        network.dropReplies(1 + (Math.floor(durationMs) % MAX_DROPPED_REPLIES)),
      ),
    },
  ];
}
