import { isIP } from "node:net";
import { Cluster, type Redis, type RedisOptions } from "ioredis";
import { ReconnectingRedis } from "./reconnecting-redis.js";

/** A host and its port. */
export interface RedisNode {
  readonly host: string;
  readonly port: number;
}

/** What TLS to Redis uses, in PEM. Each connection reads it again, so it may be renewed in place. */
export interface RedisTls {
  /** The authorities of Redis. Default: those of Node. */
  ca?: Buffer;
  /** The certificate that Redis asks for, and its key. Default: none. */
  cert?: Buffer;
  key?: Buffer;
}

/** The credentials, and whether to use TLS. */
export interface RedisAccess {
  readonly tls: boolean;
  readonly username?: string;
  readonly password?: string;
}

/** The address of Redis and its credentials. */
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

/** The time limit of every command. */
export const COMMAND_TIMEOUT_MS = 1_000;
const SOCKET_TIMEOUT_MS = 1_500;
const CONNECT_TIMEOUT_MS = 1_000;
const MAX_RECONNECT_DELAY_MS = 1_000;
/** How often we ask a cluster which node has which slots. After a failover nobody announces it. */
const SLOTS_REFRESH_INTERVAL_MS = 1_000;
/** How many MOVED and ASK replies one command follows. */
const MAX_REDIRECTIONS = 5;

/**
 * Opens a connection for a store. A command answers or fails within about a second and is never
 * sent twice: by default ioredis repeats a command whose reply was lost, and an increment would
 * count double. It reconnects in the background until it is closed, and calls `onError` for every
 * failed attempt.
 */
export function connectRedis(
  location: RedisLocation,
  onError: (error: Error) => void,
  tls: RedisTls = {},
): Redis | Cluster {
  const redis = open(location, tls);
  if (redis instanceof Cluster) reportClusterErrors(redis, onError);
  else redis.on("error", (error) => onError(withoutDelay(error)));
  return redis;
}

/**
 * The error of a whole cluster does not say what its nodes answered, so report the last node's answer.
 * ioredis keeps it to itself why it cannot connect to a node.
 */
function reportClusterErrors(cluster: Cluster, onError: (error: Error) => void): void {
  let nodeError: Error | undefined;
  cluster.on("node error", (error: Error, address: string) => {
    // This follows each failure and has no cause.
    if (error.message === "Connection is closed.") return;
    nodeError = new Error(`${address}: ${error.message}`);
  });
  cluster.on("ready", () => {
    nodeError = undefined;
  });
  // If no node that is announced can be used, ioredis starts over and reports no error.
  cluster.on("reconnecting", () => {
    if (nodeError !== undefined) onError(nodeError);
  });
  cluster.on("error", (error: Error) => {
    const isSilence = error.name === "ClusterAllFailedError";
    onError(nodeError ?? (isSilence ? new Error("no node of the cluster answers") : error));
  });
}

/** Without the growing delay of the next attempt, the same failure has the same message. */
function withoutDelay(error: Error): Error {
  const message = error.message.replace(/ Retrying from scratch after \d+ms\./, "");
  return message === error.message ? error : new Error(message);
}

function open(location: RedisLocation, tls: RedisTls): Redis | Cluster {
  switch (location.kind) {
    case "redis": {
      const { address, db } = location;
      // Node checks the host's name, and tells it to the server only if we do.
      if (!isIP(address.host)) Object.assign(tls, { servername: address.host });
      return new ReconnectingRedis({
        ...CONNECTION_OPTIONS,
        ...accessOptions(location, tls),
        ...address,
        db,
      });
    }
    case "redis-sentinel": {
      const { sentinels, masterName, db } = location;
      return new ReconnectingRedis({
        ...CONNECTION_OPTIONS,
        ...accessOptions(location, tls),
        sentinels: [...sentinels],
        name: masterName,
        db,
        sentinelRetryStrategy: reconnectDelay,
        sentinelCommandTimeout: COMMAND_TIMEOUT_MS,
        // Sentinels announce a new primary while the connection to the old one may still stand.
        failoverDetector: true,
        enableTLSForSentinelMode: location.tls,
        // Without it, ioredis asks sentinels in plaintext who the primary is.
        ...(location.tls && { sentinelTLS: tls }),
      });
    }
    case "redis-cluster": {
      const {
        retryStrategy: _retry,
        enableOfflineQueue: _queue,
        ...redisOptions
      } = CONNECTION_OPTIONS;
      return new Cluster([...location.nodes], {
        redisOptions: { ...redisOptions, ...accessOptions(location, tls) },
        // By default ioredis looks names up before it connects, and a certificate would have to
        // have the IP address instead of the name that the operator wrote.
        ...(location.tls && { dnsLookup: (host, callback) => callback(null, host) }),
        // A command waits while its node is being connected; without a queue it would fail. The
        // command's time limit bounds the wait, and `connected` refuses a missing cluster.
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

function accessOptions({ tls: isTls, username, password }: RedisAccess, tls: RedisTls) {
  return {
    ...(isTls && { tls }),
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
  // The primary has become a replica: reconnect to the new primary. The command fails and is not
  // sent again.
  reconnectOnError: (error: Error) => error.message.startsWith("READONLY"),
  // We need no RESP3, and this saves a handshake.
  protocol: 2,
} as const satisfies RedisOptions;

function reconnectDelay(attempt: number): number {
  return Math.min(50 * 2 ** Math.min(attempt, 10), MAX_RECONNECT_DELAY_MS);
}
