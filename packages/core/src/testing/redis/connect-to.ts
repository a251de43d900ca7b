import { once } from "node:events";
import type { Cluster, Redis } from "ioredis";
import { connectRedis } from "../../redis/connection/connect-redis.js";
import { LOOPBACK } from "../network/free-port.js";
import type { RedisCluster } from "./redis-cluster.js";

/** A server, or whatever listens on its behalf, and whom to be there. */
interface Target {
  readonly port: number;
  readonly db?: number;
  readonly username?: string;
  readonly password?: string;
}

/** Connects to a server as stores do. A connection that fails shows in its calls. */
export async function connectTo({ port, db = 0, ...user }: Target): Promise<Redis> {
  const address = { host: LOOPBACK, port };
  const redis = connectRedis({ kind: "redis", address, db, tls: false, ...user }, () => {});
  await once(redis, "ready");
  return redis as Redis;
}

/** Connects to a cluster as stores do. */
export async function connectToCluster({ nodes }: RedisCluster): Promise<Cluster> {
  const addresses = nodes.map(({ port }) => ({ host: LOOPBACK, port }));
  const redis = connectRedis({ kind: "redis-cluster", nodes: addresses, tls: false }, () => {});
  await once(redis, "ready");
  return redis as Cluster;
}
