import type { Cluster, Redis } from "ioredis";
import { primariesOf, readInfo } from "./info.js";
import { fromRedisError } from "./redis-errors.js";

/** How often a node is asked for its time, because some answers are late. */
const TIME_SAMPLES = 10;

/** What one process of Redis says of itself. */
export interface RedisNodeReport {
  /** `host:port` of a node of a cluster, or "Redis". */
  readonly name: string;
  /** Such as `7.0.15`; "unknown" if it does not say. */
  readonly version: string;
  readonly isPrimary: boolean;
  readonly evictionPolicy: string;
  /** 0 if there is no limit. */
  readonly maxMemoryBytes: number;
  readonly usedMemoryBytes: number;
  /** What it used before it had any data. */
  readonly startupMemoryBytes: number;
  /** Whether it writes an append-only file. */
  readonly isAppendOnly: boolean;
  /** Whether its last write of the append-only file or of an RDB file failed. */
  readonly isSaveFailing: boolean;
  readonly replicas: number;
  /** Whether `min-replicas-to-write` is set. */
  readonly refusesWithoutReplicas: boolean;
  /** The shortest of several round trips. */
  readonly roundTripMs: number;
  /** Its time minus ours: the bounds that the shortest round trip gives. */
  readonly clockOffsetMs: readonly [least: number, most: number];
}

/**
 * Asks each process that takes writes: one, or a cluster's primaries. Changes nothing. `now` is our
 * clock. Throws STORE_UNAVAILABLE.
 */
export async function readNodeReports(
  redis: Redis | Cluster,
  now: () => number = Date.now,
): Promise<readonly RedisNodeReport[]> {
  try {
    return await Promise.all(primariesOf(redis).map((node) => readNode(node, redis, now)));
  } catch (error) {
    throw fromRedisError(error);
  }
}

async function readNode(
  node: Redis,
  whole: Redis | Cluster,
  now: () => number,
): Promise<RedisNodeReport> {
  const info = await readInfo(node, "default");
  const numberOf = (name: string) => Number(info.get(name) ?? 0);
  const { host, port } = node.options;
  return {
    name: node === whole ? "Redis" : `${host}:${port}`,
    version: info.get("redis_version") ?? "unknown",
    isPrimary: info.get("role") !== "slave",
    evictionPolicy: info.get("maxmemory_policy") ?? "unknown",
    maxMemoryBytes: numberOf("maxmemory"),
    usedMemoryBytes: numberOf("used_memory"),
    startupMemoryBytes: numberOf("used_memory_startup"),
    isAppendOnly: info.get("aof_enabled") === "1",
    isSaveFailing: ["aof_last_write_status", "rdb_last_bgsave_status"].some(
      (name) => info.get(name) === "err",
    ),
    replicas: numberOf("connected_slaves"),
    // The line is there only with the setting.
    refusesWithoutReplicas: info.has("min_slaves_good_slaves"),
    ...(await readClock(node, now)),
  };
}

async function readClock(node: Redis, now: () => number) {
  let shortest: Pick<RedisNodeReport, "roundTripMs" | "clockOffsetMs"> | undefined;
  for (let i = 0; i < TIME_SAMPLES; i++) {
    const sentMs = now();
    const startMs = performance.now();
    const [seconds, microseconds] = await node.time();
    const roundTripMs = performance.now() - startMs;
    const timeMs = Number(seconds) * 1000 + Number(microseconds) / 1000;
    if (shortest !== undefined && shortest.roundTripMs <= roundTripMs) continue;
    shortest = { roundTripMs, clockOffsetMs: [timeMs - sentMs - roundTripMs, timeMs - sentMs] };
  }
  return shortest ?? { roundTripMs: 0, clockOffsetMs: [0, 0] as const };
}
