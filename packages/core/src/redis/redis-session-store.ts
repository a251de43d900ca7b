import { randomBytes } from "node:crypto";
import type { Cluster, Redis } from "ioredis";
import { sessionAlreadyExists, sessionLimitReached, storeUnavailable } from "../errors.js";
import { isGeneratedId, PARTITIONS, type Partition, partitionOfUser } from "../session-id.js";
import {
  EVICTION_REASON,
  type ListPage,
  type ListQuery,
  type NewSession,
  type SessionKey,
  type SessionLimit,
  type SessionStore,
  type StoredSession,
  type SweepResult,
} from "../session-store.js";
import { byCreation, cursorOf, takeInCreationOrder } from "./creation-order.js";
import { ReadBatch, type SendReads } from "./read-batch.js";
import { RedisClock } from "./redis-clock.js";
import { fromRedisError, isNoScript } from "./redis-errors.js";
import {
  CLAIM_ID,
  CREATE,
  RECLAIM_SLACK_MS,
  RELEASE_ID,
  REPLACE_RECORD,
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

/** Options of `RedisSessionStore`. */
export interface RedisSessionStoreOptions {
  /**
   * The connection, made by `connectRedis` or with the same care: ioredis must
   * not replay commands by itself. The store closes it.
   */
  readonly redis: Redis | Cluster;
  /** How long ended sessions stay listed and their ids taken. 10 minutes by default. */
  readonly retentionMs?: number;
  /** What every key starts with. Nothing by default. */
  readonly keyPrefix?: string;
  /**
   * The clock, in ms since the Unix epoch. By default the time of Redis, so that
   * servers whose clocks disagree decide alike; tests bring one they can move.
   */
  readonly now?: () => number;
}

const DEFAULT_RETENTION_MS = 600_000;
/**
 * How old another user's claim on an id must be, with no session to show for it,
 * to be taken for abandoned. Whoever made the claim must be done within half of
 * it, so that clocks of cluster nodes may differ by the other half.
 */
const CLAIM_GRACE_MS = 10_000;
/** How often an id that is being claimed by others at the same time is tried for. */
const MAX_CLAIM_ATTEMPTS = 5;
/** How many sessions of a partition one run of the sweep script removes. */
const SWEEP_BATCH_SIZE = 100;

/** A claim on a chosen id, as `CLAIM_ID` writes it. */
interface IdClaim {
  readonly text: string;
  readonly partition: Partition;
  readonly timeMs: number;
}

/** One argument of a command. */
type Argument = string | number | Buffer;
type Command = readonly [name: string, key: string, ...args: Argument[]];
/** What became of a command in a pipeline. */
type Settled = readonly [error: Error | null, reply: unknown];

/**
 * Sessions in Redis 7 or newer: standalone, behind Sentinel, or a Cluster.
 *
 * A read is one HMGET; a change is one script, in one slot. Only a session with
 * a chosen id costs a second step, on the key that keeps such ids unique.
 */
export class RedisSessionStore implements SessionStore {
  readonly #redis: Redis | Cluster;
  readonly #keys: SessionKeys;
  readonly #retentionMs: number;
  readonly #fixedClock: (() => number) | undefined;
  readonly #clock: RedisClock;
  readonly #reads = new ReadBatch<Fields>((reads) => this.#sendReads(reads));
  /** The partition that the next sweep starts with. */
  #sweepFrom = 0;

  constructor(options: RedisSessionStoreOptions) {
    this.#redis = options.redis;
    this.#keys = new SessionKeys(options.keyPrefix ?? "");
    this.#retentionMs = options.retentionMs ?? DEFAULT_RETENTION_MS;
    this.#fixedClock = options.now;
    this.#clock = new RedisClock(() => this.#readTime());
    if (options.now === undefined) this.#clock.start();
  }

  async create(
    session: NewSession,
    limit: SessionLimit,
  ): Promise<{ readonly session: StoredSession; readonly evictedIds: readonly string[] }> {
    const { key, userId } = session;
    const claim = isGeneratedId(key.id) ? undefined : await this.#claimId(session);
    const reply = await this.#run(
      CREATE,
      key.partition,
      [this.#keys.session(key), this.#keys.userSessions(key.partition, userId)],
      [
        key.id,
        userId,
        buffer(session.record),
        buffer(session.tokenHash),
        session.idleTimeoutMs,
        session.lifetimeMs,
        limit.maxSessionsPerUser,
        limit.policy,
        EVICTION_REASON,
        claim ? claim.timeMs + CLAIM_GRACE_MS / 2 : "",
      ],
    );
    const [outcome, now, fields, evicted] = reply as [Buffer, Buffer, Fields, Buffer[]];
    switch (outcome.toString()) {
      case "created":
        return {
          session: toStoredSession(key.id, fields, Number(now)),
          evictedIds: evicted.map(String),
        };
      case "exists":
        throw sessionAlreadyExists();
      case "limit":
        if (claim) await this.#releaseId(key.id, claim);
        throw sessionLimitReached(limit.maxSessionsPerUser);
      default:
        throw storeUnavailable("creating the session took too long");
    }
  }

  async partitionOf(chosenId: string): Promise<Partition | undefined> {
    const value = await this.#call((redis) => redis.get(this.#keys.sessionRef(chosenId)));
    return value?.slice(0, 2);
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
  ): Promise<StoredSession | "version_mismatch" | undefined> {
    const reply = await this.#runOnSession(REPLACE_RECORD, key, [buffer(record), version]);
    if (Array.isArray(reply) && reply.length === 0) return "version_mismatch";
    return repliedSession(key.id, reply);
  }

  async rotateToken(
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
  ): Promise<StoredSession | undefined> {
    const hashes = [buffer(tokenHash), buffer(newTokenHash)];
    return repliedSession(key.id, await this.#runOnSession(ROTATE_TOKEN, key, hashes));
  }

  async revoke(key: SessionKey, reason: string, tokenHash?: Uint8Array): Promise<boolean> {
    const args = tokenHash ? [reason, buffer(tokenHash)] : [reason];
    return (await this.#runOnSession(REVOKE, key, args)) === 1;
  }

  async revokeUser(userId: string, reason: string, exceptId = ""): Promise<number> {
    const partition = partitionOfUser(userId);
    const keys = [this.#keys.userSessions(partition, userId)];
    return Number(await this.#run(REVOKE_USER, partition, keys, [reason, exceptId]));
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
    const counts = await this.#callMany(keys.map((key) => ["zcount", key, `(${now}`, "+inf"]));
    return counts.reduce<number>((sum, count) => sum + Number(count), 0);
  }

  async sweep(limit: number): Promise<SweepResult> {
    let reclaimed = 0;
    // Each sweep goes on where the last one stopped, so that no partition waits
    // behind a busy one.
    for (let visited = 0; visited < PARTITIONS.length; visited++) {
      const partition = PARTITIONS[this.#sweepFrom] ?? "00";
      let seen = SWEEP_BATCH_SIZE;
      while (seen === SWEEP_BATCH_SIZE) {
        if (reclaimed >= limit) return { reclaimed, more: true };
        const reply = await this.#run(SWEEP, partition, [], [SWEEP_BATCH_SIZE]);
        const [now, looked, removed] = reply as [Buffer, number, Buffer[]];
        await this.#releaseIds(partition, removed.map(String), Number(now));
        seen = looked;
        reclaimed += removed.length;
      }
      this.#sweepFrom = (this.#sweepFrom + 1) % PARTITIONS.length;
    }
    return { reclaimed, more: false };
  }

  async check(): Promise<void> {
    await this.#call((redis) => redis.ping());
  }

  async close(): Promise<void> {
    this.#clock.stop();
    this.#redis.disconnect();
  }

  /** Makes sure that nobody else has the chosen id, or throws SESSION_ALREADY_EXISTS. */
  async #claimId({ key, lifetimeMs }: NewSession): Promise<IdClaim> {
    const ref = this.#keys.sessionRef(key.id);
    const ttlMs = lifetimeMs + this.#retentionMs + RECLAIM_SLACK_MS;
    const nonce = randomBytes(6).toString("base64url");
    let abandoned = "";
    for (let attempt = 0; attempt < MAX_CLAIM_ATTEMPTS; attempt++) {
      const now = this.#fixedClock?.() ?? "";
      const reply = await this.#eval(
        CLAIM_ID,
        [ref],
        [now, key.partition, ttlMs, nonce, abandoned],
      );
      const [isClaimed, text, claimedNow] = reply as [number, Buffer, Buffer];
      const claim = parseClaim(text.toString());
      if (isClaimed === 1) return claim;

      if (Number(claimedNow) - claim.timeMs < CLAIM_GRACE_MS) throw sessionAlreadyExists();
      const holder = this.#keys.session({ partition: claim.partition, id: key.id });
      if (await this.#call((redis) => redis.exists(holder))) throw sessionAlreadyExists();
      abandoned = claim.text;
    }
    throw sessionAlreadyExists();
  }

  /** Gives back an id, unless somebody has claimed it anew. */
  async #releaseId(id: string, claim: IdClaim): Promise<void> {
    await this.#eval(RELEASE_ID, [this.#keys.sessionRef(id)], [claim.text]);
  }

  /** Gives back those of the ids of removed sessions that callers chose. */
  async #releaseIds(partition: Partition, ids: readonly string[], now: number): Promise<void> {
    const chosen = ids.filter((id) => !isGeneratedId(id));
    const claims = await this.#callMany(chosen.map((id) => ["get", this.#keys.sessionRef(id)]));
    await Promise.all(
      claims.map(async (text, i) => {
        const claim = text === null ? undefined : parseClaim(String(text));
        // A younger claim may be that of a new session under way.
        if (claim?.partition !== partition || now - claim.timeMs < CLAIM_GRACE_MS) return;
        await this.#releaseId(chosen[i] ?? "", claim);
      }),
    );
  }

  /** A user has few sessions, so they are read and sorted here. */
  async #listUser(userId: string, query: ListQuery, now: number): Promise<ListPage> {
    const partition = partitionOfUser(userId);
    const lowest = query.showRevoked ? "-inf" : query.showExpired ? 0 : `(${now}`;
    const ids = await this.#call((redis) =>
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
    const command = query.order === "asc" ? "zrangebyscore" : "zrevrangebyscore";
    const { entries, next } = await takeInCreationOrder(query, PARTITIONS, async (ranges) => {
      const replies = await this.#callMany(
        ranges.map(({ partition, min, max, count }) => {
          const [first, last] = query.order === "asc" ? [min, max] : [max, min];
          const key = this.#keys.sessionsByCreateTime(partition);
          return [command, key, first, last, "WITHSCORES", "LIMIT", 0, count];
        }),
      );
      return replies as readonly (readonly Buffer[])[];
    });
    const found = await this.#readMany(entries);
    const sessions = entries.flatMap(({ id }, i) => listedSession(id, found[i] ?? [], query, now));
    return { sessions, ...(next && { next }) };
  }

  /** The hashes at many keys, whatever their state. */
  async #readMany(keys: readonly SessionKey[]): Promise<readonly Fields[]> {
    const replies = await this.#callMany(
      keys.map((key) => ["hmget", this.#keys.session(key), ...SESSION_FIELDS]),
    );
    return replies as readonly Fields[];
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
    const [seconds, microseconds] = await this.#call((redis) => redis.time());
    return Number(seconds) * 1000 + Number(microseconds) / 1000;
  }

  #runOnSession(script: Script, key: SessionKey, args: readonly Argument[]): Promise<unknown> {
    return this.#run(script, key.partition, [this.#keys.session(key)], [key.id, ...args]);
  }

  /** Runs a script on a partition, with the keys and arguments that all scripts share. */
  #run(
    script: Script,
    partition: Partition,
    keys: readonly string[],
    args: readonly Argument[],
  ): Promise<unknown> {
    return this.#eval(
      script,
      [this.#keys.sessions(partition), this.#keys.sessionsByCreateTime(partition), ...keys],
      [
        this.#fixedClock?.() ?? "",
        this.#retentionMs,
        this.#keys.sessionPrefix(partition),
        this.#keys.userSessionsPrefix(partition),
        ...args,
      ],
    );
  }

  #eval(script: Script, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    return this.#call(async (redis) => {
      try {
        return await redis.callBuffer("evalsha", script.sha1, keys.length, ...keys, ...args);
      } catch (error) {
        // Redis forgot the script, or never had it; it did not run.
        if (!isNoScript(error)) throw error;
        return redis.callBuffer("eval", script.source, keys.length, ...keys, ...args);
      }
    });
  }

  /** Sends the hot reads of one turn, and settles each by itself. */
  async #sendReads(reads: Parameters<SendReads<Fields>>[0]): Promise<void> {
    const commands = reads.map(({ key }): Command => ["hmget", key, ...SESSION_FIELDS]);
    const settled = await this.#settleMany(commands);
    for (const [i, { resolve, reject }] of reads.entries()) {
      const [error, reply] = settled[i] ?? [];
      if (error) reject(fromRedisError(error));
      else resolve(reply as Fields);
    }
  }

  /** Sends commands that read. Rejects where one of them fails. */
  async #callMany(commands: readonly Command[]): Promise<readonly unknown[]> {
    const settled = await this.#settleMany(commands);
    return settled.map(([error, reply]) => {
      if (error) throw fromRedisError(error);
      return reply;
    });
  }

  /** Sends commands that read, in as few round trips as the topology allows. */
  async #settleMany(commands: readonly Command[]): Promise<readonly Settled[]> {
    const settled: Settled[] = [];
    await Promise.all(
      this.#pipelines(commands).map(async (indexes) => {
        const pipeline = this.#redis.pipeline();
        for (const i of indexes) pipeline.callBuffer(...(commands[i] as Command));
        try {
          const results = (await pipeline.exec()) ?? [];
          for (const [n, i] of indexes.entries()) settled[i] = results[n] ?? NOT_SENT;
        } catch (error) {
          for (const i of indexes) settled[i] = [error as Error, undefined];
        }
      }),
    );
    return settled;
  }

  /**
   * Which commands go together: all of them, or in a cluster those whose keys
   * share a hash tag, since ioredis sends a pipeline to one node.
   */
  #pipelines(commands: readonly Command[]): readonly (readonly number[])[] {
    if (!this.#redis.isCluster) return commands.length > 0 ? [[...commands.keys()]] : [];
    const groups = new Map<string, number[]>();
    for (const [i, [, key]] of commands.entries()) {
      const tag = key.slice(key.indexOf("{"), key.indexOf("}"));
      const group = groups.get(tag);
      if (group) group.push(i);
      else groups.set(tag, [i]);
    }
    return [...groups.values()];
  }

  async #call<T>(send: (redis: Redis | Cluster) => Promise<T>): Promise<T> {
    try {
      return await send(this.#redis);
    } catch (error) {
      throw fromRedisError(error);
    }
  }
}

function parseClaim(text: string): IdClaim {
  const [partition = "", time] = text.split(" ");
  return { text, partition, timeMs: Number(time) };
}

const NOT_SENT: Settled = [new Error("the command was not sent"), undefined];

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
