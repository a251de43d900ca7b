import type { Cluster, Redis } from "ioredis";
import { storeUnavailable } from "../../errors.js";
import { primariesOf, readInfo } from "./info.js";
import { fromRedisError } from "./redis-errors.js";

const SAMPLE_INTERVAL_MS = 1_000;

/** What one primary says of itself. */
interface Primary {
  /** New with every process, and with every promotion. */
  readonly id: string;
  readonly replicas: number;
}

/**
 * Watches which processes are the primaries, and whether they have replicas. One
 * that took over, or came back, may lack the last changes of the one before.
 */
export class Primaries {
  readonly #redis: Redis | Cluster;
  readonly #onNew: () => Promise<void>;
  #ids: ReadonlySet<string> | undefined;
  #mustTell = false;
  #hadReplicas = false;
  #sampling: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `onNew` is called for primaries not seen before, again and again until it resolves. */
  constructor(redis: Redis | Cluster, onNew: () => Promise<void>) {
    this.#redis = redis;
    this.#onNew = onNew;
  }

  /** Keeps watching until `stop`. */
  start(): void {
    this.#timer ??= setInterval(() => {
      // A failure here is a failure of Redis, which every call reports itself.
      this.sample().catch(() => {});
    }, SAMPLE_INTERVAL_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * Whether any primary has had a replica since the start. It stays so when the
   * last one is gone: a primary cut off from its replicas may be about to lose its place.
   */
  async haveReplicas(): Promise<boolean> {
    if (this.#ids === undefined) await this.sample();
    return this.#hadReplicas;
  }

  /** Asks the primaries. Concurrent calls share one question. */
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
    // The very first may have taken over from one that nobody asked in time.
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
