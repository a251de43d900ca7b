import type { Cluster, Redis } from "ioredis";
import {
  SessiondError,
  sessionAlreadyExists,
  sessionLimitReached,
  storeUnavailable,
  tooManyFences,
} from "../../errors.js";
import {
  isGeneratedId,
  PARTITIONS,
  type Partition,
  partitionOfUser,
} from "../../sessions/session-id.js";
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
  type SessionKey,
  type SessionLimit,
  type SessionStore,
  type StoredFacts,
  type StoredSession,
  type SweepResult,
  type TouchedSession,
} from "../../sessions/session-store.js";
import { Primaries } from "../connection/primaries.js";
import { RedisClock } from "../connection/redis-clock.js";
import { RedisCommands } from "../connection/redis-commands.js";
import { toBuffer } from "../connection/script.js";
import {
  REPLACE_RECORD,
  RESEAL,
  REVOKE,
  REVOKE_USER,
  ROTATE_TOKEN,
  TOUCH,
} from "./change-scripts.js";
import { ChosenIds, type IdClaim } from "./chosen-ids.js";
import { ClaimedRequests } from "./claimed-requests.js";
import {
  CREATE,
  CREATE_ONCE,
  type CreateReply,
  type RepeatedReply,
  type RevokedSession,
} from "./create-scripts.js";
import {
  byCreation,
  cursorOf,
  stretchArguments,
  takeInCreationOrder,
  toEntries,
} from "./creation-order.js";
import { IndexCheck, type Suspect } from "./index-check.js";
import { COUNT_ACTIVE, READ_IN_CREATION_ORDER } from "./index-scripts.js";
import { type PartitionContext, SESSION_FIELDS } from "./partition-script.js";
import { RecentRevocations } from "./recent-revocations.js";
import { RedisEventLog } from "./redis-event-log.js";
import { SessionKeys } from "./session-keys.js";
import {
  activeSession,
  type Fields,
  listedSession,
  toStoredFacts,
  toStoredSession,
} from "./stored-session.js";
import { HEAL, SWEEP } from "./upkeep-scripts.js";

/**
 * What a change waits for. `local`: for the primary alone, whose failure may then lose
 * it. `replicated`: for at least one replica as well; a change that none
 * confirms in time fails with STORE_UNAVAILABLE and is safe to try again. `auto`: what
 * ends a session or a token waits for a replica where there are any, all else
 * does not. None of it is consensus: a replica that was told may still not be the one that takes over.
 */
export type Durability = "auto" | "local" | "replicated";

/** Options of `RedisSessionStore`. */
export interface RedisSessionStoreOptions {
  /**
   * The connection, made by `connectRedis` or with the same care: ioredis must
   * not replay commands by itself. The store closes it.
   */
  readonly redis: Redis | Cluster;
  /** How long ended sessions stay listed and their ids taken. 10 minutes by default. */
  readonly retentionMs?: number;
  /** `auto` by default. */
  readonly durability?: Durability;
  /** What every key starts with. Nothing by default. */
  readonly keyPrefix?: string;
  /**
   * The clock, in ms since the Unix epoch. By default the time of Redis, so that
   * servers whose clocks disagree decide alike; tests bring one they can move.
   */
  readonly now?: () => number;
}

const DEFAULT_RETENTION_MS = 600_000;
/** How many sessions of a partition one run of the sweep script removes. */
const SWEEP_BATCH_SIZE = 100;
/** How many revocations are made again at a time. */
const REAPPLY_BATCH_SIZE = 100;

/**
 * Sessions in Redis 7 or newer: standalone, behind Sentinel, or a Cluster.
 *
 * A read is one HMGET; a change is one script, in one slot. Only a session with
 * a chosen id costs a second step, on the key that keeps such ids unique.
 */
export class RedisSessionStore implements SessionStore {
  readonly events: RedisEventLog;
  readonly #commands: RedisCommands;
  readonly #keys: SessionKeys;
  readonly #chosenIds: ChosenIds;
  readonly #claimedRequests: ClaimedRequests;
  readonly #retentionMs: number;
  readonly #durability: Durability;
  readonly #fixedClock: (() => number) | undefined;
  readonly #clock: RedisClock;
  readonly #primaries: Primaries;
  readonly #revocations = new RecentRevocations();
  readonly #indexCheck: IndexCheck;
  /** The partition that the next sweep starts with. */
  #sweepFrom = 0;

  /** `commands` are those of the connection and the clock, where other stores share them. */
  constructor(
    options: RedisSessionStoreOptions,
    commands: RedisCommands = new RedisCommands(options.redis, options.now),
  ) {
    const { redis, retentionMs = DEFAULT_RETENTION_MS, now } = options;
    const keys = new SessionKeys(options.keyPrefix ?? "");
    this.#commands = commands;
    this.#keys = keys;
    this.#retentionMs = retentionMs;
    this.#durability = options.durability ?? "auto";
    this.#fixedClock = now;
    this.#chosenIds = new ChosenIds({ commands, keys, retentionMs });
    this.#claimedRequests = new ClaimedRequests(commands, keys);
    this.events = new RedisEventLog({ commands, keys, retentionMs });
    this.#indexCheck = new IndexCheck(commands, keys, (...what) => this.#heal(...what));
    this.#clock = new RedisClock(() => this.#readTime());
    if (now === undefined) this.#clock.start();
    this.#primaries = new Primaries(redis, () => this.#revokeAgain());
    this.#primaries.start();
  }

  async create(session: NewSession, limit: SessionLimit): Promise<Creation> {
    const claim = await this.#claimId(session);
    const reply = await this.#commands.run(
      CREATE,
      this.#creation(session, limit, claim),
      this.#durability === "replicated",
    );
    return this.#created(reply, session, limit, claim);
  }

  async createOnce(
    request: OnceOnly,
    session: NewSession,
    limit: SessionLimit,
  ): Promise<Creation | RepeatedCreation> {
    const { partition } = session.key;
    const requestClaim = await this.#claimedRequests.claim(request, partition);
    try {
      const claim = await this.#claimId(session).catch(orTaken);
      const { keys, args } = this.#creation(session, limit, claim);
      const call = {
        keys: { ...keys, request: this.#keys.request(partition, request.key) },
        args: {
          ...args,
          requestRecord: toBuffer(request.record),
          requestKeptForMs: request.keptForMs,
        },
      };
      const reply = await this.#commands.run(CREATE_ONCE, call, this.#durability === "replicated");
      return reply.outcome === "repeated"
        ? await this.#repeated(reply, request, session.key, claim)
        : await this.#created(reply, session, limit, claim);
    } catch (error) {
      const isRefused = error instanceof SessiondError && error.reason !== "STORE_UNAVAILABLE";
      if (isRefused) await this.#claimedRequests.release(request, requestClaim);
      throw error;
    }
  }

  async #claimId(session: NewSession): Promise<IdClaim | undefined> {
    return isGeneratedId(session.key.id) ? undefined : this.#chosenIds.claim(session);
  }

  /** The keys and arguments of a creation. With an id that is taken, it can only be a repetition. */
  #creation(session: NewSession, limit: SessionLimit, claim: IdClaim | "taken" | undefined) {
    const { key, userId } = session;
    const { keys, args } = this.#context(key.partition);
    return {
      keys: {
        ...keys,
        key: this.#keys.session(key),
        userKey: this.#keys.userSessions(key.partition, userId),
      },
      args: {
        ...args,
        id: key.id,
        userId,
        record: toBuffer(session.record),
        tokenHash: toBuffer(session.tokenHash),
        idleTimeoutMs: session.idleTimeoutMs,
        lifetimeMs: session.lifetimeMs,
        maxSessions: limit.maxSessionsPerUser,
        limitPolicy: limit.policy,
        evictionReason: EVICTION_REASON,
        claimLapseTimeMs: claim === "taken" ? 0 : (claim?.lapseTimeMs ?? ""),
      },
    };
  }

  async #created(
    reply: CreateReply,
    { key, userId }: NewSession,
    limit: SessionLimit,
    claim: IdClaim | "taken" | undefined,
  ): Promise<Creation> {
    switch (reply.outcome) {
      case "created":
        this.#remember(key.partition, reply.evicted, EVICTION_REASON);
        return {
          session: toStoredFacts(key.id, userId, reply.facts, reply.timeMs),
          evictedIds: reply.evicted.map(({ id }) => id),
        };
      case "exists":
        throw sessionAlreadyExists();
      case "limit":
        if (typeof claim === "object") await this.#chosenIds.release(key.id, claim);
        throw sessionLimitReached(limit.maxSessionsPerUser);
      case "claim_lapsed":
        if (claim === "taken") throw sessionAlreadyExists();
        throw storeUnavailable("creating the session took too long");
    }
  }

  async #repeated(
    reply: RepeatedReply,
    request: OnceOnly,
    key: SessionKey,
    claim: IdClaim | "taken" | undefined,
  ): Promise<RepeatedCreation> {
    const { id, fields, timeMs, evictedIds, record, keptUntilMs, isIdInUse } = reply;
    // The claims that this call made are not wanted.
    await this.#claimedRequests.keepUntil(request, key.partition, keptUntilMs);
    if (typeof claim === "object" && !isIdInUse) await this.#chosenIds.release(key.id, claim);
    const session = fields.length > 0 ? toStoredSession(id, fields, timeMs) : undefined;
    return { repeated: record, session, evictedIds };
  }

  #remember(partition: Partition, revoked: readonly RevokedSession[], reason: string): void {
    for (const { id, createTimeMs } of revoked) {
      this.#revocations.add({ key: { partition, id }, reason, createTimeMs });
    }
  }

  partitionOf(chosenId: string): Promise<Partition | undefined> {
    return this.#chosenIds.partitionOf(chosenId);
  }

  async get(key: SessionKey): Promise<StoredSession | undefined> {
    const now = this.#now() ?? (await this.#clock.firstNow());
    return activeSession(key.id, await this.#readFields(key), now);
  }

  async getMany(keys: readonly SessionKey[]): Promise<readonly (StoredSession | undefined)[]> {
    const now = this.#now() ?? (await this.#clock.firstNow());
    const found = await this.#readMany(keys);
    return keys.map(({ id }, i) => activeSession(id, found[i] ?? [], now));
  }

  async touch(
    key: SessionKey,
    tokenHash?: Uint8Array,
    knownVersion?: number,
  ): Promise<TouchedSession | undefined> {
    const call = this.#onSession(key, { id: key.id, knownVersion: knownVersion ?? "" });
    const moreArgs = tokenHash && [toBuffer(tokenHash)];
    const touched = await this.#commands.run(TOUCH, { ...call, moreArgs });
    if (touched === undefined) return undefined;
    const { userId, record, facts, timeMs } = touched;
    const stored = toStoredFacts(key.id, userId, facts, timeMs);
    return record === null ? stored : { ...stored, record };
  }

  async replaceRecord(
    key: SessionKey,
    version: number,
    record: Uint8Array,
    fence?: Fence,
  ): Promise<StoredFacts | "version_mismatch" | "fenced" | undefined> {
    const call = this.#onSession(key, {
      id: key.id,
      record: toBuffer(record),
      version,
      lock: fence?.lock ?? "",
      fencingToken: fence?.token ?? "",
    });
    const reply = await this.#commands.run(REPLACE_RECORD, call, this.#durability === "replicated");
    switch (reply.outcome) {
      case "changed":
        return toStoredFacts(key.id, reply.userId, reply.facts, reply.timeMs);
      case "not_active":
        return undefined;
      case "too_many_fences":
        throw tooManyFences(MAX_FENCES_PER_SESSION);
      default:
        return reply.outcome;
    }
  }

  reseal(key: SessionKey, record: Uint8Array, resealed: Uint8Array): Promise<boolean> {
    const args = { record: toBuffer(record), resealed: toBuffer(resealed) };
    return this.#commands.run(RESEAL, this.#onSession(key, args));
  }

  async rotateToken(
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
  ): Promise<StoredSession | undefined> {
    const call = this.#onSession(key, {
      id: key.id,
      tokenHash: toBuffer(tokenHash),
      newTokenHash: toBuffer(newTokenHash),
    });
    const isReplicated = await this.#revocationsAreReplicated();
    const reply = await this.#commands.run(ROTATE_TOKEN, call, isReplicated);
    return reply && toStoredSession(key.id, reply.fields, reply.timeMs);
  }

  async revoke(key: SessionKey, reason: string, tokenHash?: Uint8Array): Promise<boolean> {
    const isReplicated = await this.#revocationsAreReplicated();
    const createTimeMs = await this.#revoke(key, { reason, tokenHash }, isReplicated);
    if (createTimeMs === undefined) return false;
    this.#revocations.add({ key, reason, createTimeMs });
    return true;
  }

  #revoke(
    key: SessionKey,
    {
      reason,
      createTimeMs,
      tokenHash,
    }: {
      readonly reason: string;
      readonly createTimeMs?: number;
      readonly tokenHash?: Uint8Array | undefined;
    },
    isReplicated: boolean,
  ): Promise<number | undefined> {
    const call = this.#onSession(key, {
      id: key.id,
      reason,
      createTimeMs: createTimeMs ?? "",
    });
    const moreArgs = tokenHash && [toBuffer(tokenHash)];
    return this.#commands.run(REVOKE, { ...call, moreArgs }, isReplicated);
  }

  async revokeUser(userId: string, reason: string, exceptId = ""): Promise<number> {
    const partition = partitionOfUser(userId);
    const { keys, args } = this.#context(partition);
    const isReplicated = await this.#revocationsAreReplicated();
    const revoked = await this.#commands.run(
      REVOKE_USER,
      {
        keys: { ...keys, userKey: this.#keys.userSessions(partition, userId) },
        args: { ...args, reason, exceptId },
      },
      isReplicated,
    );
    this.#remember(partition, revoked, reason);
    return revoked.length;
  }

  async list(query: ListQuery): Promise<ListPage> {
    const now = this.#now() ?? (await this.#clock.firstNow());
    return query.userId === undefined
      ? this.#listAll(query, now)
      : this.#listUser(query.userId, query, now);
  }

  async count(userId?: string): Promise<number> {
    const keys =
      userId === undefined
        ? PARTITIONS.map((partition) => this.#keys.sessions(partition))
        : [this.#keys.userSessions(partitionOfUser(userId), userId)];
    const counts = await Promise.all(
      this.#commands
        .together(keys, (key) => key)
        .map((moreKeys) => this.#commands.runRead(COUNT_ACTIVE, { keys: {}, args: {}, moreKeys })),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  }

  async sweep(limit: number): Promise<SweepResult> {
    let reclaimed = 0;
    let healed = await this.#indexCheck.checkSome();
    // Each sweep goes on where the last one stopped, so that no partition waits
    // behind a busy one.
    for (let visited = 0; visited < PARTITIONS.length; visited++) {
      const partition = PARTITIONS[this.#sweepFrom] ?? "00";
      let isMore = true;
      while (isMore) {
        if (reclaimed >= limit) return { reclaimed, healed, more: true };
        const { keys, args } = this.#context(partition);
        const call = { keys, args: { ...args, limit: SWEEP_BATCH_SIZE } };
        const swept = await this.#commands.run(SWEEP, call);
        await this.#chosenIds.releaseRemoved(partition, swept.removedIds, swept.timeMs);
        isMore = swept.mayHaveMore;
        reclaimed += swept.removedIds.length;
        healed += swept.healed;
      }
      this.#sweepFrom = (this.#sweepFrom + 1) % PARTITIONS.length;
    }
    return { reclaimed, healed, more: false };
  }

  async check(): Promise<void> {
    await this.#commands.call((redis) => redis.ping());
  }

  async close(): Promise<void> {
    this.#clock.stop();
    this.#primaries.stop();
    this.events.close();
    this.#commands.close();
  }

  /** A user has few sessions, so they are read and sorted here. */
  async #listUser(userId: string, query: ListQuery, now: number): Promise<ListPage> {
    const partition = partitionOfUser(userId);
    const lowest = query.showRevoked ? "-inf" : query.showExpired ? 0 : `(${now}`;
    const ids = await this.#commands.call((redis) =>
      redis.zrangebyscore(this.#keys.userSessions(partition, userId), lowest, "+inf"),
    );
    const found = await this.#readMany(ids.map((id) => ({ partition, id })));
    const sessions = ids
      .flatMap((id, i) => listedSession(id, found[i] ?? [], query, now))
      .filter((session) => isInRange(session, query))
      .sort(byCreation(query.order));
    const page = sessions.slice(0, query.limit);
    const last = page.at(-1);
    const isAll = last === undefined || page.length === sessions.length;
    return isAll ? { sessions: page } : { sessions: page, next: cursorOf(last) };
  }

  async #listAll(query: ListQuery, now: number): Promise<ListPage> {
    const keyOf = (partition: Partition) => this.#keys.sessionsByCreateTime(partition);
    const groups = this.#commands.together(PARTITIONS, keyOf);
    const { entries, next } = await takeInCreationOrder(query, groups, async (stretches) => {
      return Promise.all(
        stretches.map(async (stretch) => {
          const reply = await this.#commands.runRead(READ_IN_CREATION_ORDER, {
            keys: {},
            args: stretchArguments(query, stretch),
            moreKeys: stretch.partitions.map(keyOf),
          });
          return toEntries(reply, stretch.partitions);
        }),
      );
    });
    const found = await this.#readMany(entries);
    const sessions = entries.flatMap(({ id }, i) => listedSession(id, found[i] ?? [], query, now));
    return { sessions, ...(next && { next }) };
  }

  /** The hash of a session, whatever its state. */
  #readFields(key: SessionKey): Promise<Fields> {
    const args = [this.#keys.session(key), ...SESSION_FIELDS];
    return this.#commands.read("hmget", args) as Promise<Fields>;
  }

  #readMany(keys: readonly SessionKey[]): Promise<readonly Fields[]> {
    return Promise.all(keys.map((key) => this.#readFields(key)));
  }

  /** The time that decides what is active, or undefined before Redis was first asked. */
  #now(): number | undefined {
    return this.#fixedClock ? this.#fixedClock() : this.#clock.now();
  }

  async #readTime(): Promise<number> {
    const [seconds, microseconds] = await this.#commands.call((redis) => redis.time());
    return Number(seconds) * 1000 + Number(microseconds) / 1000;
  }

  /** Whether what ends a session or a token waits for a replica. */
  async #revocationsAreReplicated(): Promise<boolean> {
    if (this.#durability !== "auto") return this.#durability === "replicated";
    return this.#primaries.haveReplicas();
  }

  /** Makes recent revocations again, which changes nothing where they are still there. */
  async #revokeAgain(): Promise<void> {
    const revocations = this.#revocations.all();
    for (let i = 0; i < revocations.length; i += REAPPLY_BATCH_SIZE) {
      const batch = revocations.slice(i, i + REAPPLY_BATCH_SIZE);
      await Promise.all(
        batch.map(({ key, reason, createTimeMs }) =>
          this.#revoke(key, { reason, createTimeMs }, false),
        ),
      );
    }
  }

  #heal(partition: Partition, suspects: readonly Suspect[]): Promise<number> {
    const moreArgs = suspects.flatMap(({ id, userId = "" }) => [id, userId]);
    return this.#commands.run(HEAL, { ...this.#context(partition), moreArgs });
  }

  /** What scripts on one session are given. */
  #onSession<Args extends object>(key: SessionKey, ownArgs: Args) {
    const { keys, args } = this.#context(key.partition);
    return { keys: { ...keys, key: this.#keys.session(key) }, args: { ...args, ...ownArgs } };
  }

  /** What all scripts on a partition are given. */
  #context(partition: Partition): PartitionContext {
    return {
      keys: {
        sessions: this.#keys.sessions(partition),
        byCreateTime: this.#keys.sessionsByCreateTime(partition),
        events: this.#keys.sessionEvents(partition),
      },
      args: {
        retentionMs: this.#retentionMs,
        sessionPrefix: this.#keys.sessionPrefix(partition),
        userPrefix: this.#keys.userSessionsPrefix(partition),
        channel: this.#keys.eventChannel(),
        partition,
      },
    };
  }
}

/** An id that is taken may be taken by an earlier call with the same request. */
function orTaken(error: unknown): "taken" {
  if (error instanceof SessiondError && error.reason === "SESSION_ALREADY_EXISTS") return "taken";
  throw error;
}

/** Whether a session is within the creation times of a query and after its cursor. */
function isInRange(session: StoredSession, query: ListQuery): boolean {
  const { createTimeFromMs = -Infinity, createTimeToMs = Infinity, after } = query;
  return (
    session.createTimeMs >= createTimeFromMs &&
    session.createTimeMs < createTimeToMs &&
    (after === undefined || byCreation(query.order)(session, after) > 0)
  );
}
