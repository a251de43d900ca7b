import type { Cluster, Redis } from "ioredis";
import { storeUnavailable } from "../../errors.js";
import { primariesOf, readInfo } from "./info.js";
import { fromRedisError } from "./redis-errors.js";

const SAMPLE_INTERVAL_MS = 1_000;

/** The answer of one primary. */
interface Primary {
  /** Changes with every process and every promotion. */
  readonly id: string;
  readonly replicas: number;
}

/**
 * Watches which processes are primaries, and whether they have replicas. A new primary may lack the
 * last changes of the previous primary.
 */
export class Primaries {
  readonly #redis: Redis | Cluster;
  readonly #onNew: () => Promise<void>;
  #ids: ReadonlySet<string> | undefined;
  #mustTell = false;
  #hadReplicas = false;
  #sampling: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** Calls `onNew` after it sees a new primary, repeatedly until `onNew` resolves. */
  constructor(redis: Redis | Cluster, onNew: () => Promise<void>) {
    this.#redis = redis;
    this.#onNew = onNew;
  }

  /** Keeps watching until `stop`. */
  start(): void {
    this.#timer ??= setInterval(() => {
      // Every call reports a failure of Redis itself.
      this.sample().catch(() => {});
    }, SAMPLE_INTERVAL_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * Whether any primary has had a replica since the start. Stays true without replicas: a primary
   * that is cut off from its replicas may soon be replaced.
   */
  async haveReplicas(): Promise<boolean> {
    if (this.#ids === undefined) await this.sample();
    return this.#hadReplicas;
  }

  /** Asks the primaries. Concurrent calls share one request. */
  sample(): Promise<void> {
    this.#sampling ??= this.#sample().finally(() => {
      this.#sampling = undefined;
    });
    return this.#sampling;
  }

  async #sample(): Promise<void> {
    const nodes = primariesOf(this.#redis);
    if (nodes.length === 0) throw storeUnavailable("no primary of the Redis Cluster is known");
    const primaries = await Promise.all(nodes.map(readPrimary)).catch((error: unknown) => {
      throw fromRedisError(error);
    });
    const ids = new Set(primaries.map(({ id }) => id));
    this.#hadReplicas ||= primaries.some(({ replicas }) => replicas > 0);
    const known = this.#ids;
    // The first primary that we see may already have replaced another.
    this.#mustTell ||= known === undefined || ids.difference(known).size > 0;
    this.#ids = ids;
    if (!this.#mustTell) return;
    await this.#onNew();
    this.#mustTell = false;
  }
}

async function readPrimary(redis: Redis): Promise<Primary> {
  const [server, replication] = await Promise.all([
    readInfo(redis, "server"),
    readInfo(redis, "replication"),
  ]);
  return {
    id: `${server.get("run_id")} ${replication.get("master_replid")}`,
    replicas: Number(replication.get("connected_slaves") ?? 0),
  };
}
