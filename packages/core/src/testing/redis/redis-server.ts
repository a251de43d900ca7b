import { freePort, LOOPBACK, retryTakenPort } from "../network/free-port.js";
import { RedisProcess } from "./redis-process.js";

/** How a Redis server for tests is started. */
export interface RedisServerOptions {
  /** More arguments, such as `["--maxmemory", "4mb"]`; they override those of this module. */
  readonly args?: readonly string[];
  /** A free loopback port by default. Give one to start a server again where it was. */
  readonly port?: number;
}

/** A Redis server of one's own, on loopback, gone with the process that started it. */
export interface RedisServer extends AsyncDisposable {
  readonly port: number;
  /** `redis://127.0.0.1:port` */
  readonly url: string;
  readonly pid: number;
  /** Ends the server in order and removes its files. Fine when it has ended already. */
  stop(): Promise<void>;
  /** Ends the server at once, as a crash would, and removes its files. */
  kill(): Promise<void>;
  /** Freezes the server: connections stay open, and nothing answers. */
  pause(): void;
  /** Lets a frozen server go on. */
  resume(): void;
}

/**
 * Starts a real `redis-server`, without persistence unless `args` ask for it,
 * and waits until it answers. Throws an Error that says how to install one
 * where there is none.
 */
export async function startRedisServer(options: RedisServerOptions = {}): Promise<RedisServer> {
  const { port, args = [] } = options;
  const redis =
    port === undefined
      ? await retryTakenPort(async () => RedisProcess.start({ port: await freePort(), args }))
      : await RedisProcess.start({ port, args });
  const stop = () => redis.remove("SIGTERM");
  return {
    port: redis.port,
    url: `redis://${LOOPBACK}:${redis.port}`,
    pid: redis.pid,
    stop,
    kill: () => redis.remove("SIGKILL"),
    pause: () => redis.pause(),
    resume: () => redis.resume(),
    [Symbol.asyncDispose]: stop,
  };
}
