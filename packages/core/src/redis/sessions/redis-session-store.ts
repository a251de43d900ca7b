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
  type StoredSession,
  type SweepResult,
} from "../../sessions/session-store.js";
import { Primaries } from "../connection/primaries.js";
import { ReadBatch } from "../connection/read-batch.js";
import { RedisClock } from "../connection/redis-clock.js";
import { type Argument, RedisCommands } from "../connection/redis-commands.js";
import { ChosenIds, type IdClaim } from "./chosen-ids.js";
import { ClaimedRequests } from "./claimed-requests.js";
import {
  byCreation,
  cursorOf,
  stretchArguments,
  takeInCreationOrder,
  toEntries,
} from "./creation-order.js";
import { IndexCheck, type Suspect } from "./index-check.js";
import { COUNT_ACTIVE, READ_IN_CREATION_ORDER } from "./index-scripts.js";
import { RecentRevocations } from "./recent-revocations.js";
import { RedisEventLog } from "./redis-event-log.js";
import {
  CREATE,
  HEAL,
  REPLACE_RECORD,
  RESEAL,
  REVOKE,
  REVOKE_USER,
  ROTATE_TOKEN,
  type Script,
  SESSION_FIELDS,
  SWEEP,
  TOUCH,
} from "./scripts.js";
import { SessionKeys } from "./session-keys.js";
import {
  activeSession,
  type Fields,
  listedSession,
  repliedSession,
  toStoredSession,
} from "./stored-session.js";

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

/** What `CREATE` answers for a repetition. */
type RepeatedReply = readonly [
  outcome: Buffer,
  now: Buffer,
  fields: Fields,
  evictedIds: Buffer[],
  record: Buffer,
  id: Buffer,
  keptUntil: Buffer,
  idIsInUse: number,
];

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
  readonly #reads: ReadBatch<Fields>;
  /** The partition that the next sweep starts with. */
  #sweepFrom = 0;

  /** `commands` are those of the connection, where other stores have them, too. */
  constructor(
    options: RedisSessionStoreOptions,
    commands: RedisCommands = new RedisCommands(options.redis),
  ) {
    const { redis, retentionMs = DEFAULT_RETENTION_MS, now } = options;
    const keys = new SessionKeys(options.keyPrefix ?? "");
    this.#commands = commands;
    this.#keys = keys;
    this.#reads = new ReadBatch(commands, "hmget", SESSION_FIELDS);
    this.#retentionMs = retentionMs;
    this.#durability = options.durability ?? "auto";
    this.#fixedClock = now;
    this.#chosenIds = new ChosenIds({ commands, keys, retentionMs, now });
    this.#claimedRequests = new ClaimedRequests({ commands, keys, now });
    this.events = new RedisEventLog({ commands, keys, retentionMs, now });
    this.#indexCheck = new IndexCheck(commands, keys, (...what) => this.#heal(...what));
    this.#clock = new RedisClock(() => this.#readTime());
    if (now === undefined) this.#clock.start();
    this.#primaries = new Primaries(redis, () => this.#revokeAgain());
    this.#primaries.start();
  }

  async create(session: NewSession, limit: SessionLimit): Promise<Creation> {
    const created = await this.#create(session, limit);
    if ("repeated" in created) throw new Error("a creation was taken for a repeated one");
    return created;
  }

  async createOnce(
    request: OnceOnly,
    session: NewSession,
    limit: SessionLimit,
  ): Promise<Creation | RepeatedCreation> {
    const { partition } = session.key;
    const claim = await this.#claimedRequests.claim(request, partition);
    try {
      return await this.#create(session, limit, request);
    } catch (error) {
      const isRefused = error instanceof SessiondError && error.reason !== "STORE_UNAVAILABLE";
      if (isRefused) await this.#claimedRequests.release(request, claim);
      throw error;
    }
  }

  async #create(
    session: NewSession,
    limit: SessionLimit,
    request?: OnceOnly,
  ): Promise<Creation | RepeatedCreation> {
    const { key, userId } = session;
    const { id, partition } = key;
    const claim = isGeneratedId(id) ? undefined : await this.#claimId(session, request);
    const reply = await this.#run(
      CREATE,
      partition,
      [
        this.#keys.session(key),
        this.#keys.userSessions(partition, userId),
        ...(request ? [this.#keys.request(partition, request.key)] : []),
      ],
      [
        id,
        userId,
        buffer(session.record),
        buffer(session.tokenHash),
        session.idleTimeoutMs,
        session.lifetimeMs,
        limit.maxSessionsPerUser,
        limit.policy,
        EVICTION_REASON,
        claim === "taken" ? 0 : (claim?.lapseTimeMs ?? ""),
        ...(request ? [buffer(request.record), request.keptForMs] : []),
      ],
      this.#durability === "replicated",
    );
    const [outcome, now, fields, evicted] = reply as [Buffer, Buffer, Fields, Buffer[]];
    switch (outcome.toString()) {
      case "created":
        this.#remember(partition, evicted, (reply as Buffer[][])[4] ?? [], EVICTION_REASON);
        return {
          session: toStoredSession(id, fields, Number(now)),
          evictedIds: evicted.map(String),
        };
      case "repeated":
        if (request === undefined) throw new Error("a creation was taken for a repetition");
        return this.#repeated(request, key, claim, reply as RepeatedReply);
      case "exists":
        throw sessionAlreadyExists();
      case "limit":
        if (typeof claim === "object") await this.#chosenIds.release(id, claim);
        throw sessionLimitReached(limit.maxSessionsPerUser);
      default:
        if (claim === "taken") throw sessionAlreadyExists();
        throw storeUnavailable("creating the session took too long");
    }
  }

  /** Claims a chosen id. One that is taken may be that of an earlier call with the same request. */
  async #claimId(session: NewSession, request?: OnceOnly): Promise<IdClaim | "taken"> {
    try {
      return await this.#chosenIds.claim(session);
    } catch (error) {
      const isTaken = error instanceof SessiondError && error.reason === "SESSION_ALREADY_EXISTS";
      if (request === undefined || !isTaken) throw error;
      return "taken";
    }
  }

  #remember(
    partition: Partition,
    ids: readonly Buffer[],
    createTimes: readonly Buffer[],
    reason: string,
  ): void {
    for (const [i, id] of ids.entries()) {
      const key = { partition, id: String(id) };
      this.#revocations.add({ key, reason, createTimeMs: Number(createTimes[i]) });
    }
  }

  async #repeated(
    request: OnceOnly,
    key: SessionKey,
    claim: IdClaim | "taken" | undefined,
    reply: RepeatedReply,
  ): Promise<RepeatedCreation> {
    const [, now, fields, evicted, repeated, id, keptUntil, idIsInUse] = reply;
    // The claims that this call made are not wanted.
    await this.#claimedRequests.keepUntil(request, key.partition, Number(keptUntil));
    if (typeof claim === "object" && idIsInUse === 0) {
      await this.#chosenIds.release(key.id, claim);
    }
    const session = fields[0] ? toStoredSession(id.toString(), fields, Number(now)) : undefined;
    return { repeated, session, evictedIds: evicted.map(String) };
  }

  partitionOf(chosenId: string): Promise<Partition | undefined> {
    return this.#chosenIds.partitionOf(chosenId);
  }

  async get(key: SessionKey): Promise<StoredSession | undefined> {
    const now = this.#now() ?? (await this.#firstNow());
    const fields = await this.#reads.read(this.#keys.session(key));
    return activeSession(key.id, fields, now);
  }

  async getMany(keys: readonly SessionKey[]): Promise<readonly (StoredSession | undefined)[]> {
    const now = this.#now() ?? (await this.#firstNow());
    const found = await this.#readMany(keys);
    return keys.map(({ id }, i) => activeSession(id, found[i] ?? [], now));
  }

  async touch(key: SessionKey, tokenHash?: Uint8Array): Promise<StoredSession | undefined> {
    const reply = await this.#runOnSession(TOUCH, key, tokenHash ? [buffer(tokenHash)] : []);
    return repliedSession(key.id, reply);
  }

  async replaceRecord(
    key: SessionKey,
    version: number,
    record: Uint8Array,
    fence?: Fence,
  ): Promise<StoredSession | "version_mismatch" | "fenced" | undefined> {
    const args = [buffer(record), version, ...(fence ? [fence.lock, fence.token] : [])];
    const isReplicated = this.#durability === "replicated";
    const reply = await this.#runOnSession(REPLACE_RECORD, key, args, isReplicated);
    if (Array.isArray(reply) && reply.length === 0) return "version_mismatch";
    if (Buffer.isBuffer(reply)) {
      if (reply.toString() === "fenced") return "fenced";
      throw tooManyFences(MAX_FENCES_PER_SESSION);
    }
    return repliedSession(key.id, reply);
  }

  async reseal(key: SessionKey, record: Uint8Array, resealed: Uint8Array): Promise<boolean> {
    const args = [buffer(record), buffer(resealed)];
    return (await this.#runOnSession(RESEAL, key, args)) === 1;
  }

  async rotateToken(
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
  ): Promise<StoredSession | undefined> {
    const hashes = [buffer(tokenHash), buffer(newTokenHash)];
    const isReplicated = await this.#revocationsAreReplicated();
    const reply = await this.#runOnSession(ROTATE_TOKEN, key, hashes, isReplicated);
    return repliedSession(key.id, reply);
  }

  async revoke(key: SessionKey, reason: string, tokenHash?: Uint8Array): Promise<boolean> {
    const args = tokenHash ? [reason, "", buffer(tokenHash)] : [reason, ""];
    const isReplicated = await this.#revocationsAreReplicated();
    const createTime = await this.#runOnSession(REVOKE, key, args, isReplicated);
    if (createTime === null) return false;
    this.#revocations.add({ key, reason, createTimeMs: Number(createTime) });
    return true;
  }

  async revokeUser(userId: string, reason: string, exceptId = ""): Promise<number> {
    const partition = partitionOfUser(userId);
    const keys = [this.#keys.userSessions(partition, userId)];
    const isReplicated = await this.#revocationsAreReplicated();
    const reply = await this.#run(REVOKE_USER, partition, keys, [reason, exceptId], isReplicated);
    const [ids, createTimes] = reply as [Buffer[], Buffer[]];
    this.#remember(partition, ids, createTimes, reason);
    return ids.length;
  }

  async list(query: ListQuery): Promise<ListPage> {
    const now = this.#now() ?? (await this.#firstNow());
    return query.userId === undefined
      ? this.#listAll(query, now)
      : this.#listUser(query.userId, query, now);
  }

  async count(userId?: string): Promise<number> {
    const now = this.#now() ?? (await this.#firstNow());
    const keys =
      userId === undefined
        ? PARTITIONS.map((partition) => this.#keys.sessions(partition))
        : [this.#keys.userSessions(partitionOfUser(userId), userId)];
    const counts = await this.#commands.evalReads(
      COUNT_ACTIVE,
      this.#commands.together(keys, (key) => key).map((some) => ({ keys: some, args: [now] })),
    );
    return counts.reduce<number>((sum, count) => sum + Number(count), 0);
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
        const reply = await this.#run(SWEEP, partition, [], [SWEEP_BATCH_SIZE]);
        const [now, more, removed, healedNow] = reply as [Buffer, number, Buffer[], number];
        await this.#chosenIds.releaseRemoved(partition, removed.map(String), Number(now));
        isMore = more === 1;
        reclaimed += removed.length;
        healed += healedNow;
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
      const replies = await this.#commands.evalReads(
        READ_IN_CREATION_ORDER,
        stretches.map((stretch) => ({
          keys: stretch.partitions.map(keyOf),
          args: stretchArguments(query, stretch),
        })),
      );
      return replies.map((reply, i) => toEntries(reply as Buffer, stretches[i]?.partitions ?? []));
    });
    const found = await this.#readMany(entries);
    const sessions = entries.flatMap(({ id }, i) => listedSession(id, found[i] ?? [], query, now));
    return { sessions, ...(next && { next }) };
  }

  /** The hashes at many keys, whatever their state. */
  #readMany(keys: readonly SessionKey[]): Promise<readonly Fields[]> {
    return Promise.all(keys.map((key) => this.#reads.read(this.#keys.session(key))));
  }

  /** The time that decides what is active, or undefined before Redis was first asked. */
  #now(): number | undefined {
    return this.#fixedClock ? this.#fixedClock() : this.#clock.now();
  }

  async #firstNow(): Promise<number> {
    await this.#clock.sample();
    const now = this.#clock.now();
    if (now === undefined) throw storeUnavailable("the time of Redis is not known");
    return now;
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
          this.#runOnSession(REVOKE, key, [reason, createTimeMs]),
        ),
      );
    }
  }

  async #heal(partition: Partition, suspects: readonly Suspect[]): Promise<number> {
    const args = suspects.flatMap(({ id, userId = "" }) => [id, userId]);
    return Number(await this.#run(HEAL, partition, [], args));
  }

  #runOnSession(
    script: Script,
    key: SessionKey,
    args: readonly Argument[],
    isReplicated = false,
  ): Promise<unknown> {
    const keys = [this.#keys.session(key)];
    return this.#run(script, key.partition, keys, [key.id, ...args], isReplicated);
  }

  /** Runs a script on a partition, with the keys and arguments that all scripts share. */
  #run(
    script: Script,
    partition: Partition,
    keys: readonly string[],
    args: readonly Argument[],
    isReplicated = false,
  ): Promise<unknown> {
    const allKeys = [
      this.#keys.sessions(partition),
      this.#keys.sessionsByCreateTime(partition),
      this.#keys.sessionEvents(partition),
      ...keys,
    ];
    const allArgs = [
      this.#fixedClock?.() ?? "",
      this.#retentionMs,
      this.#keys.sessionPrefix(partition),
      this.#keys.userSessionsPrefix(partition),
      this.#keys.eventChannel(),
      partition,
      ...args,
    ];
    return isReplicated
      ? this.#commands.evalReplicated(script, allKeys, allArgs)
      : this.#commands.eval(script, allKeys, allArgs);
  }
}

/** ioredis takes bytes only as Buffers. */
function buffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
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
