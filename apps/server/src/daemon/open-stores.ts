import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import type { Around, LockStore, RateLimitStore, SessionStore } from "@sessiond/core";
import {
  connectRedis,
  MIN_REDIS_MAJOR_VERSION,
  openRedisStores,
  type RedisNodeReport,
  readEvictionPolicies,
  readNodeReports,
  readOutdatedVersions,
  SAFE_EVICTION_POLICY,
} from "@sessiond/core/redis";
import { openSqliteStores } from "@sessiond/core/sqlite";
import type { Logger } from "pino";
import type { StoreConfig } from "../config/config.js";
import { SETTINGS } from "../config/settings.js";
import { describeStore } from "../config/store-location.js";
import { openRedisFiles } from "./redis-files.js";

/** How long the start waits for Redis. */
const CONNECT_WAIT_MS = 2_000;

/** Everything that a server stores. */
export interface Stores {
  readonly sessions: SessionStore;
  readonly locks: LockStore;
  readonly rateLimits: RateLimitStore;
  /** Makes calls under way and later calls fail with STORE_UNAVAILABLE. */
  close(): Promise<void>;
}

/** The stores, and the files that the connection to them needs. */
export interface OpenedStores extends Stores {
  /** Reads certificates and keys now. */
  reloadFiles(): Promise<void>;
  /**
   * Ends the start: only from now on does the log have warnings of Redis, so that the start is one
   * line. Answers why Redis could not be reached so far, or undefined.
   */
  endStart(): string | undefined;
  /** As `readNodeReports`. Empty for SQLite. */
  readNodeReports(): Promise<readonly RedisNodeReport[]>;
}

/** Options of `openStores`. */
export interface OpenStoresOptions {
  /** Gets the error of each failed connection. */
  readonly onConnectionError?: (error: Error) => void;
  /** Runs each change in Redis that waits for a replica. */
  readonly aroundReplicaWait?: Around | undefined;
  /** Changes nothing: a file must exist, and writes to it fail. */
  readonly readOnly?: boolean;
}

/**
 * Opens the stores that the configuration names. Rejects if a file cannot be
 * opened. Does not reject if Redis is down: the server starts, and is ready once
 * Redis is.
 */
export async function openStores(
  { store: location, retentionMs, durability, keyPrefix, redisTls }: StoreConfig,
  logger: Logger,
  { onConnectionError, aroundReplicaWait, readOnly = false }: OpenStoresOptions = {},
): Promise<OpenedStores> {
  if (location.kind === "sqlite") {
    // Only this folder: after a typo in another, a new and empty store would take the store's place.
    if (!readOnly && dirname(location.path) === SETTINGS.dataDir.default) {
      await mkdir(SETTINGS.dataDir.default, { recursive: true, mode: 0o700 });
    }
    const stores = await openSqliteStores({ path: location.path, retentionMs, readOnly });
    return Object.assign(stores, {
      reloadFiles: async () => {},
      endStart: () => undefined,
      readNodeReports: async () => [],
    });
  }
  const address = describeStore(location);
  const files = await openRedisFiles(redisTls, logger);
  const started = Promise.withResolvers<void>();
  let isStarting = true;
  let lastError = "";
  const warnOfFailure = (error: string) =>
    logger.warn({ store: address, error }, "redis connection failed");
  const onError = (error: Error) => {
    // Each attempt fails alike, about once a second: one line says it.
    if (error.message !== lastError && !isStarting) warnOfFailure(error.message);
    lastError = error.message;
    onConnectionError?.(error);
  };
  const redis = connectRedis(location, onError, files.tls);
  redis.on("ready", async () => {
    lastError = "";
    await started.promise;
    warnOfAge(redis, logger);
    warnOfEviction(redis, logger);
  });
  try {
    await once(redis, "ready", { signal: AbortSignal.timeout(CONNECT_WAIT_MS) });
  } catch {
    // Readiness reports it, and keeps asking.
  }
  const stores = openRedisStores({ redis, retentionMs, durability, keyPrefix, aroundReplicaWait });
  return {
    ...stores,
    reloadFiles: () => files.reload(),
    readNodeReports: () => readNodeReports(redis),
    endStart: () => {
      isStarting = false;
      started.resolve();
      return lastError || undefined;
    },
    close: async () => {
      // A start that failed for another reason has no line that says it.
      if (isStarting && lastError !== "") warnOfFailure(lastError);
      files.close();
      await stores.close();
    },
  };
}

/** A Redis that is too old refuses most calls, and its errors do not say why. */
async function warnOfAge(redis: ReturnType<typeof connectRedis>, logger: Logger) {
  try {
    const [outdated] = await readOutdatedVersions(redis);
    if (outdated === undefined) return;
    logger.error(
      { redis_version: outdated },
      `Redis is too old: calls will fail until it is version ${MIN_REDIS_MAJOR_VERSION} or newer`,
    );
  } catch (error) {
    logger.debug({ err: error }, "the version of Redis is not known");
  }
}

/** A Redis that may evict keys silently drops sessions and tombstones. */
async function warnOfEviction(redis: ReturnType<typeof connectRedis>, logger: Logger) {
  try {
    const policies = await readEvictionPolicies(redis);
    const unsafe = policies.find((policy) => policy !== SAFE_EVICTION_POLICY);
    if (unsafe === undefined) return;
    logger.warn(
      { maxmemory_policy: unsafe },
      `Redis may drop sessions in silence: set its maxmemory-policy to ${SAFE_EVICTION_POLICY}`,
    );
  } catch (error) {
    logger.debug({ err: error }, "the maxmemory-policy of Redis is not known");
  }
}
