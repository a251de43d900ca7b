import { Redis } from "ioredis";
import { LOOPBACK } from "../network/free-port.js";

const CONNECT_TIMEOUT_MS = 1_000;
const COMMAND_TIMEOUT_MS = 2_000;

/** Lends a connection to one server, which fails rather than to wait for a server that is down. */
export async function withRedis<T>(port: number, use: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis({
    host: LOOPBACK,
    port,
    lazyConnect: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    commandTimeout: COMMAND_TIMEOUT_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: null,
    // A sentinel knows neither of these.
    enableReadyCheck: false,
    disableClientInfo: true,
    protocol: 2,
  });
  // The command that fails says so.
  redis.on("error", () => {});
  try {
    return await use(redis);
  } finally {
    redis.disconnect();
  }
}
