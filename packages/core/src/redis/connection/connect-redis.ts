import { Cluster, Redis, type RedisOptions } from "ioredis";

/** A host and its port. */
export interface RedisNode {
  readonly host: string;
  readonly port: number;
}

/** How to get into Redis. */
export interface RedisAccess {
  readonly tls: boolean;
  readonly username?: string;
  readonly password?: string;
}

/** Where Redis is, and how to get in. */
export type RedisLocation =
  | ({ readonly kind: "redis"; readonly address: RedisNode; readonly db: number } & RedisAccess)
  | ({ readonly kind: "redis-cluster"; readonly nodes: readonly RedisNode[] } & RedisAccess)
  | ({
      readonly kind: "redis-sentinel";
      readonly sentinels: readonly RedisNode[];
      /** The name of the monitored primary. */
      readonly masterName: string;
      readonly db: number;
    } & RedisAccess);

/** How long any command waits for its answer. */
export const COMMAND_TIMEOUT_MS = 1_000;
const SOCKET_TIMEOUT_MS = 1_500;
const CONNECT_TIMEOUT_MS = 1_000;
const MAX_RECONNECT_DELAY_MS = 1_000;
/** How often a cluster is asked which node has which slots; after a failover nobody else would say. */
const SLOTS_REFRESH_INTERVAL_MS = 1_000;
/** A cluster follows at most this many MOVED and ASK replies for one command. */
const MAX_REDIRECTIONS = 5;

/**
 * Opens a connection that suits a store. It answers or fails within a second or
 * so, and sends no command twice: ioredis by itself would replay those whose
 * replies were lost, and an increment would count double. It keeps
 * reconnecting in the background until it is closed; `onError` hears of every
 * attempt that fails.
 */
export function connectRedis(
  location: RedisLocation,
  onError: (error: Error) => void,
): Redis | Cluster {
  const redis = open(location);
  redis.on("error", onError);
  return redis;
}

function open(location: RedisLocation): Redis | Cluster {
  switch (location.kind) {
    case "redis": {
      const { address, db } = location;
      return new Redis({ ...CONNECTION_OPTIONS, ...accessOptions(location), ...address, db });
    }
    case "redis-sentinel": {
      const { sentinels, masterName, db } = location;
      return new Redis({
        ...CONNECTION_OPTIONS,
        ...accessOptions(location),
        sentinels: [...sentinels],
        name: masterName,
        db,
        sentinelRetryStrategy: reconnectDelay,
        sentinelCommandTimeout: COMMAND_TIMEOUT_MS,
        // Sentinels say when they have made another node the primary; a connection to
        // the old one may still stand.
        failoverDetector: true,
        enableTLSForSentinelMode: location.tls,
      });
    }
    case "redis-cluster": {
      const {
        retryStrategy: _retry,
        enableOfflineQueue: _queue,
        ...redisOptions
      } = CONNECTION_OPTIONS;
      return new Cluster([...location.nodes], {
        redisOptions: { ...redisOptions, ...accessOptions(location) },
        // A command for a node that is just being connected to waits for that, as long as any
        // command may take; without a queue it would fail. `RedisCommands` sees to
        // it that none waits for a cluster that is not there.
        enableOfflineQueue: true,
        clusterRetryStrategy: reconnectDelay,
        maxRedirections: MAX_REDIRECTIONS,
        retryDelayOnFailover: 0,
        slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
        slotsRefreshInterval: SLOTS_REFRESH_INTERVAL_MS,
      });
    }
  }
}

function accessOptions({ tls, username, password }: RedisAccess) {
  return {
    ...(tls && { tls: {} }),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
  };
}

const CONNECTION_OPTIONS = {
  maxRetriesPerRequest: 0,
  commandTimeout: COMMAND_TIMEOUT_MS,
  socketTimeout: SOCKET_TIMEOUT_MS,
  connectTimeout: CONNECT_TIMEOUT_MS,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  retryStrategy: reconnectDelay,
  // A primary that has become a replica: connect anew, to whichever it is now. The
  // command fails; it is not sent again.
  reconnectOnError: (error: Error) => error.message.startsWith("READONLY"),
  // Nothing here needs RESP3, and it saves a handshake.
  protocol: 2,
} as const satisfies RedisOptions;

function reconnectDelay(attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt, 10), MAX_RECONNECT_DELAY_MS);
}
