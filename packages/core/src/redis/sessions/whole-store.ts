import type { Cluster, Redis } from "ioredis";
import type { Partition } from "../../sessions/session-id.js";
import type { SweepResult } from "../../sessions/session-store.js";
import { type Author, NOBODY } from "../../watch/author.js";
import { sendPatiently } from "../connection/patient-command.js";
import { Primaries } from "../connection/primaries.js";
import { type ReadClock, RedisClock } from "../connection/redis-clock.js";
import { RedisCommands, type RedisCommandsOptions } from "../connection/redis-commands.js";
import { REVOKE } from "./change-scripts.js";
import { ChosenIds } from "./chosen-ids.js";
import type { RevokedSession } from "./create-scripts.js";
import { PartitionScripts } from "./partition-scripts.js";
import { RecentRevocations, type Revocation } from "./recent-revocations.js";
import { SessionKeys } from "./session-keys.js";
import { toStoredId } from "./stored-id.js";
import { type NamespaceParts, Upkeep } from "./upkeep.js";

/**
 * What a change waits for. `local`: only the primary, so its failure may lose the change.
 * `replicated`: at least one replica too. A change that no replica confirms in time fails with
 * STORE_UNAVAILABLE and is safe to retry. `auto`: a change that ends a session or a token waits for
 * a replica if there are any, other changes do not. This is no consensus: another replica may take
 * over.
 */
export type Durability = "auto" | "local" | "replicated";

/** Options of `RedisSessionStore`. */
export interface RedisSessionStoreOptions extends RedisCommandsOptions {
  /** A connection that never repeats commands, as `connectRedis` opens. The store closes it. */
  readonly redis: Redis | Cluster;
  /** How long ended sessions stay listed and their ids taken. 10 minutes by default. */
  readonly retentionMs?: number;
  /** `auto` by default. */
  readonly durability?: Durability;
  /** The prefix of every key. Empty by default. */
  readonly keyPrefix?: string;
}

const DEFAULT_RETENTION_MS = 600_000;
/** How many revocations are repeated at a time. */
const REAPPLY_BATCH_SIZE = 100;

/** What the namespaces of a store share: connections, the clock, upkeep, and recent revocations. */
export class WholeStore {
  readonly commands: RedisCommands;
  readonly clock: ReadClock;
  readonly retentionMs: number;
  readonly durability: Durability;
  readonly #keyPrefix: string;
  readonly #redisClock: RedisClock;
  readonly #primaries: Primaries;
  readonly #revocations = new RecentRevocations();
  readonly #upkeep: Upkeep;

  /** `commands` are given if other stores share the connection and the clock. */
  constructor(
    options: RedisSessionStoreOptions,
    commands: RedisCommands = new RedisCommands(options.redis, options),
  ) {
    const { redis, retentionMs = DEFAULT_RETENTION_MS, durability = "auto", now } = options;
    this.commands = commands;
    this.retentionMs = retentionMs;
    this.durability = durability;
    this.#keyPrefix = options.keyPrefix ?? "";
    this.#redisClock = new RedisClock(async () => {
      const time = await commands.call((redis) => sendPatiently(redis, "time", []));
      const [seconds, microseconds] = (time as readonly Buffer[]).map(String);
      return Number(seconds) * 1000 + Number(microseconds) / 1000;
    });
    if (now === undefined) this.#redisClock.start();
    this.clock = now === undefined ? this.#redisClock : { now, firstNow: async () => now() };
    const { keys } = this.partsOf("");
    this.#upkeep = new Upkeep(commands, keys, retentionMs, (name) => this.partsOf(name));
    this.#primaries = new Primaries(redis, () => this.#revokeAgain());
    this.#primaries.start();
  }

  /** The keys of a namespace, and what runs on them for an author. */
  partsOf(namespace: string, author: Author = NOBODY): NamespaceParts {
    const keys = new SessionKeys(this.#keyPrefix, namespace);
    return {
      keys,
      scripts: new PartitionScripts(this.commands, keys, this.retentionMs, author),
      chosenIds: new ChosenIds(this.commands, keys, this.retentionMs),
    };
  }

  /** Whether a change that ends a session or a token waits for a replica. */
  async revocationsAreReplicated(): Promise<boolean> {
    if (this.durability !== "auto") return this.durability === "replicated";
    return this.#primaries.haveReplicas();
  }

  /** Remembers revocations, to repeat them after a failover. */
  remember(
    namespace: string,
    partition: Partition,
    revoked: readonly RevokedSession[],
    reason: string,
  ): void {
    for (const { id, storeTimeMs } of revoked) {
      this.#revocations.add({ namespace, key: { partition, id }, reason, storeTimeMs });
    }
  }

  namespaces(): Promise<readonly string[]> {
    return this.#upkeep.namespaces();
  }

  sweep(limit: number): Promise<SweepResult> {
    return this.#upkeep.sweep(limit);
  }

  async check(): Promise<undefined> {
    await this.commands.call((redis) => sendPatiently(redis, "ping", []));
  }

  close(): void {
    this.#redisClock.stop();
    this.#primaries.stop();
    this.commands.close();
  }

  /** Repeats recent revocations. This changes nothing for sessions that are still revoked. */
  async #revokeAgain(): Promise<void> {
    const revocations = this.#revocations.all();
    for (let i = 0; i < revocations.length; i += REAPPLY_BATCH_SIZE) {
      const batch = revocations.slice(i, i + REAPPLY_BATCH_SIZE);
      await Promise.all(batch.map((revocation) => this.#revokeOneAgain(revocation)));
    }
  }

  async #revokeOneAgain({ namespace, key, reason, storeTimeMs }: Revocation): Promise<void> {
    const { keys, scripts } = this.partsOf(namespace);
    await scripts.run(REVOKE, key.partition, {
      keys: { key: keys.session(key) },
      args: { id: toStoredId(key.id), reason, storeTimeMs, userId: "" },
    });
  }
}
