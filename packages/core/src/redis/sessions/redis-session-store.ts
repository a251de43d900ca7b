import type { Cluster, Redis } from "ioredis";
import { tooManyFences } from "../../errors.js";
import { REUSE_REASON } from "../../sessions/replaced-tokens.js";
import { PARTITIONS, type Partition, partitionOfUser } from "../../sessions/session-id.js";
import {
  type Creation,
  EVICTION_REASON,
  type Fence,
  type ListPage,
  type ListQuery,
  MAX_FENCES_PER_SESSION,
  type NewSession,
  type OnceOnly,
  type RepeatedCreation,
  type RepeatedRotation,
  type SessionKey,
  type SessionLimit,
  type SessionStore,
  type StoredFacts,
  type StoredSession,
  type SweepResult,
  type TouchedSession,
} from "../../sessions/session-store.js";
import { Primaries } from "../connection/primaries.js";
import { RedisCommands } from "../connection/redis-commands.js";
import { toBuffer } from "../connection/script.js";
import {
  REPLACE_RECORD,
  REPORT_REUSE,
  RESEAL,
  REVOKE,
  REVOKE_USER,
  ROTATE_TOKEN,
  ROTATE_TOKEN_ONCE,
  TOUCH,
} from "./change-scripts.js";
import { ChosenIds } from "./chosen-ids.js";
import { ClaimedRequests } from "./claimed-requests.js";
import type { RevokedSession } from "./create-scripts.js";
import { IndexCheck, type Suspect } from "./index-check.js";
import { PartitionScripts } from "./partition-scripts.js";
import { RecentRevocations } from "./recent-revocations.js";
import { RedisEventLog } from "./redis-event-log.js";
import { SessionCreation } from "./session-creation.js";
import { SessionKeys } from "./session-keys.js";
import { SessionReads } from "./session-reads.js";
import { HEAL, SWEEP } from "./upkeep-scripts.js";

/**
 * What a change waits for. `local`: only the primary, so its failure may lose the change.
 * `replicated`: at least one replica too. A change that no replica confirms in time fails with
 * STORE_UNAVAILABLE and is safe to retry. `auto`: a change that ends a session or a token waits for
 * a replica if there are any, other changes do not. This is no consensus: another replica may take
 * over.
 */
export type Durability = "auto" | "local" | "replicated";

/** Options of `RedisSessionStore`. */
export interface RedisSessionStoreOptions {
  /** A connection that never repeats commands, as `connectRedis` opens. The store closes it. */
  readonly redis: Redis | Cluster;
  /** How long ended sessions stay listed and their ids taken. 10 minutes by default. */
  readonly retentionMs?: number;
  /** `auto` by default. */
  readonly durability?: Durability;
  /** The prefix of every key. Empty by default. */
  readonly keyPrefix?: string;
  /** The clock, in ms since the Unix epoch. By default the time of Redis, so that servers agree. */
  readonly now?: () => number;
}

const DEFAULT_RETENTION_MS = 600_000;
/** How many sessions of a partition one run of the sweep script removes. */
const SWEEP_BATCH_SIZE = 100;
/** How many revocations are repeated at a time. */
const REAPPLY_BATCH_SIZE = 100;

/**
 * Sessions in Redis 7 or newer: standalone, behind Sentinel, or a Cluster.
 *
 * A read is one HMGET. A change is one script in one slot. Only creating a session with a chosen id
 * or a request id needs another step, on the key that keeps the id unique.
 */
export class RedisSessionStore implements SessionStore {
  readonly events: RedisEventLog;
  readonly #commands: RedisCommands;
  readonly #keys: SessionKeys;
  readonly #scripts: PartitionScripts;
  readonly #reads: SessionReads;
  readonly #chosenIds: ChosenIds;
  readonly #creation: SessionCreation;
  readonly #durability: Durability;
  readonly #primaries: Primaries;
  readonly #revocations = new RecentRevocations();
  readonly #indexCheck: IndexCheck;
  /** The partition that the next sweep starts with. */
  #sweepFrom = 0;

  /** `commands` are given if other stores share the connection and the clock. */
  constructor(
    options: RedisSessionStoreOptions,
    commands: RedisCommands = new RedisCommands(options.redis, options.now),
  ) {
    const { redis, retentionMs = DEFAULT_RETENTION_MS, durability = "auto", now } = options;
    const keys = new SessionKeys(options.keyPrefix ?? "");
    const scripts = new PartitionScripts(commands, keys, retentionMs);
    const chosenIds = new ChosenIds(commands, keys, retentionMs);
    const requests = new ClaimedRequests(commands, keys);
    const isReplicated = durability === "replicated";
    this.#commands = commands;
    this.#keys = keys;
    this.#scripts = scripts;
    this.#reads = new SessionReads(commands, keys, now);
    this.#chosenIds = chosenIds;
    this.#creation = new SessionCreation({ scripts, keys, chosenIds, requests, isReplicated });
    this.#durability = durability;
    this.events = new RedisEventLog(commands, keys, retentionMs);
    this.#indexCheck = new IndexCheck(commands, keys, (...what) => this.#heal(...what));
    this.#primaries = new Primaries(redis, () => this.#revokeAgain());
    this.#primaries.start();
  }

  async create(session: NewSession, limit: SessionLimit): Promise<Creation> {
    const { evicted, ...creation } = await this.#creation.create(session, limit);
    this.#remember(session.key.partition, evicted, EVICTION_REASON);
    return creation;
  }

  async createOnce(
    request: OnceOnly,
    session: NewSession,
    limit: SessionLimit,
  ): Promise<Creation | RepeatedCreation> {
    const answer = await this.#creation.createOnce(request, session, limit);
    if ("repeated" in answer) return answer;
    const { evicted, ...creation } = answer;
    this.#remember(session.key.partition, evicted, EVICTION_REASON);
    return creation;
  }

  partitionOf(chosenId: string): Promise<Partition | undefined> {
    return this.#chosenIds.partitionOf(chosenId);
  }

  get(key: SessionKey): Promise<StoredSession | undefined> {
    return this.#reads.get(key);
  }

  getMany(keys: readonly SessionKey[]): Promise<readonly (StoredSession | undefined)[]> {
    return this.#reads.getMany(keys);
  }

  touch(
    key: SessionKey,
    tokenHash?: Uint8Array,
    knownVersion?: number,
  ): Promise<TouchedSession | undefined> {
    return this.#scripts.run(TOUCH, key.partition, {
      keys: { key: this.#keys.session(key) },
      args: { id: key.id, knownVersion: knownVersion ?? "" },
      moreArgs: tokenHash && [toBuffer(tokenHash)],
    });
  }

  async replaceRecord(
    key: SessionKey,
    version: number,
    record: Uint8Array,
    fence?: Fence,
    endsGrace = false,
  ): Promise<StoredFacts | "version_mismatch" | "fenced" | undefined> {
    const call = {
      keys: { key: this.#keys.session(key) },
      args: {
        id: key.id,
        record: toBuffer(record),
        version,
        lock: fence?.lock ?? "",
        fencingToken: fence?.token ?? "",
        endsGrace: endsGrace ? "1" : "",
      },
    };
    const isReplicated = this.#durability === "replicated";
    const reply = await this.#scripts.run(REPLACE_RECORD, key.partition, call, isReplicated);
    if (reply === "too_many_fences") throw tooManyFences(MAX_FENCES_PER_SESSION);
    return reply === "not_active" ? undefined : reply;
  }

  reseal(key: SessionKey, record: Uint8Array, resealed: Uint8Array): Promise<boolean> {
    return this.#scripts.run(RESEAL, key.partition, {
      keys: { key: this.#keys.session(key) },
      args: { record: toBuffer(record), resealed: toBuffer(resealed) },
    });
  }

  async rotateToken(
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs = 0,
  ): Promise<StoredSession | undefined> {
    const call = this.#rotation(key, tokenHash, newTokenHash, graceMs);
    const isReplicated = await this.#revocationsAreReplicated();
    return this.#scripts.run(ROTATE_TOKEN, key.partition, call, isReplicated);
  }

  async rotateTokenOnce(
    request: OnceOnly,
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs = 0,
  ): Promise<StoredSession | RepeatedRotation | undefined> {
    const { keys, args } = this.#rotation(key, tokenHash, newTokenHash, graceMs);
    const call = {
      keys: { ...keys, request: this.#keys.rotation(key, request.key) },
      args: {
        ...args,
        requestRecord: toBuffer(request.record),
        requestKeptForMs: request.keptForMs,
      },
    };
    const isReplicated = await this.#revocationsAreReplicated();
    return this.#scripts.run(ROTATE_TOKEN_ONCE, key.partition, call, isReplicated);
  }

  async reportReuse(key: SessionKey, tokenHash: Uint8Array, revokes: boolean): Promise<void> {
    const call = {
      keys: { key: this.#keys.session(key) },
      args: { id: key.id, tokenHash: toBuffer(tokenHash), revokes: revokes ? "1" : "" },
    };
    const isReplicated = revokes && (await this.#revocationsAreReplicated());
    const createTimeMs = await this.#scripts.run(REPORT_REUSE, key.partition, call, isReplicated);
    if (createTimeMs !== undefined) {
      this.#revocations.add({ key, reason: REUSE_REASON, createTimeMs });
    }
  }

  async revoke(
    key: SessionKey,
    reason: string,
    tokenHash?: Uint8Array,
    userId = "",
  ): Promise<boolean> {
    const call = {
      keys: { key: this.#keys.session(key) },
      args: { id: key.id, reason, createTimeMs: "", userId },
      moreArgs: tokenHash && [toBuffer(tokenHash)],
    };
    const isReplicated = await this.#revocationsAreReplicated();
    const createTimeMs = await this.#scripts.run(REVOKE, key.partition, call, isReplicated);
    if (createTimeMs === undefined) return false;
    this.#revocations.add({ key, reason, createTimeMs });
    return true;
  }

  async revokeUser(userId: string, reason: string, exceptId = ""): Promise<number | undefined> {
    const partition = partitionOfUser(userId);
    const call = {
      keys: { userKey: this.#keys.userSessions(partition, userId) },
      args: { reason, exceptId },
    };
    const isReplicated = await this.#revocationsAreReplicated();
    const revoked = await this.#scripts.run(REVOKE_USER, partition, call, isReplicated);
    if (revoked === undefined) return undefined;
    this.#remember(partition, revoked, reason);
    return revoked.length;
  }

  list(query: ListQuery): Promise<ListPage> {
    return this.#reads.list(query);
  }

  count(userId?: string): Promise<number> {
    return this.#reads.count(userId);
  }

  async sweep(limit: number): Promise<SweepResult> {
    let reclaimed = 0;
    let healed = await this.#indexCheck.checkSome();
    // Continue where the last sweep stopped, so that a busy partition does not hold up the others.
    for (let visited = 0; visited < PARTITIONS.length; visited++) {
      const partition = PARTITIONS[this.#sweepFrom] ?? "00";
      let mayHaveMore = true;
      while (mayHaveMore) {
        if (reclaimed >= limit) return { reclaimed, healed, more: true };
        const call = { keys: {}, args: { limit: SWEEP_BATCH_SIZE } };
        const swept = await this.#scripts.run(SWEEP, partition, call);
        await this.#chosenIds.releaseRemoved(partition, swept.removedIds, swept.timeMs);
        mayHaveMore = swept.mayHaveMore;
        reclaimed += swept.removedIds.length;
        healed += swept.healed;
      }
      this.#sweepFrom = (this.#sweepFrom + 1) % PARTITIONS.length;
    }
    return { reclaimed, healed, more: false };
  }

  async check(): Promise<undefined> {
    await this.#commands.call((redis) => redis.ping());
  }

  async close(): Promise<void> {
    this.#reads.close();
    this.#primaries.stop();
    this.events.close();
    this.#commands.close();
  }

  #rotation(key: SessionKey, tokenHash: Uint8Array, newTokenHash: Uint8Array, graceMs: number) {
    return {
      keys: { key: this.#keys.session(key) },
      args: {
        id: key.id,
        tokenHash: toBuffer(tokenHash),
        newTokenHash: toBuffer(newTokenHash),
        graceMs,
      },
    };
  }

  /** Whether a change that ends a session or a token waits for a replica. */
  async #revocationsAreReplicated(): Promise<boolean> {
    if (this.#durability !== "auto") return this.#durability === "replicated";
    return this.#primaries.haveReplicas();
  }

  #remember(partition: Partition, revoked: readonly RevokedSession[], reason: string): void {
    for (const { id, createTimeMs } of revoked) {
      this.#revocations.add({ key: { partition, id }, reason, createTimeMs });
    }
  }

  /** Repeats recent revocations. This changes nothing for sessions that are still revoked. */
  async #revokeAgain(): Promise<void> {
    const revocations = this.#revocations.all();
    for (let i = 0; i < revocations.length; i += REAPPLY_BATCH_SIZE) {
      const batch = revocations.slice(i, i + REAPPLY_BATCH_SIZE);
      await Promise.all(
        batch.map(({ key, reason, createTimeMs }) =>
          this.#scripts.run(REVOKE, key.partition, {
            keys: { key: this.#keys.session(key) },
            args: { id: key.id, reason, createTimeMs, userId: "" },
          }),
        ),
      );
    }
  }

  #heal(partition: Partition, suspects: readonly Suspect[]): Promise<number> {
    const moreArgs = suspects.flatMap(({ id, userId = "" }) => [id, userId]);
    return this.#scripts.run(HEAL, partition, { keys: {}, args: {}, moreArgs });
  }
}
