import { tooManyFences } from "../../errors.js";
import { REUSE_REASON } from "../../sessions/replaced-tokens.js";
import { hashRequestKey } from "../../sessions/rotation-request.js";
import { type Partition, partitionOfUser } from "../../sessions/session-id.js";
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
import { type Author, NOBODY } from "../../watch/author.js";
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
import type { ChosenIds } from "./chosen-ids.js";
import { ClaimedRequests } from "./claimed-requests.js";
import type { RevokedSession } from "./create-scripts.js";
import type { PartitionScripts } from "./partition-scripts.js";
import { RedisEventLog } from "./redis-event-log.js";
import { SessionCreation } from "./session-creation.js";
import type { SessionKeys } from "./session-keys.js";
import { SessionReads } from "./session-reads.js";
import { toStoredId } from "./stored-id.js";
import { type RedisSessionStoreOptions, WholeStore } from "./whole-store.js";

/**
 * Sessions in Redis 7 or newer: standalone, behind Sentinel, or a Cluster.
 *
 * A read is a part of one MGET. A change is one script in one slot. Only creating a session with a chosen id
 * or a request id needs another step, on the key that keeps the id unique.
 */
export class RedisSessionStore implements SessionStore {
  readonly events: RedisEventLog;
  readonly #whole: WholeStore;
  readonly #keys: SessionKeys;
  readonly #author: Author;
  readonly #scripts: PartitionScripts;
  readonly #reads: SessionReads;
  readonly #chosenIds: ChosenIds;
  readonly #creation: SessionCreation;

  /** Opens a store, or makes a view of a whole store. */
  constructor(
    given: RedisSessionStoreOptions | WholeStore,
    namespace = "",
    author: Author = NOBODY,
  ) {
    const whole = given instanceof WholeStore ? given : new WholeStore(given);
    const { commands, retentionMs } = whole;
    const { keys, scripts, chosenIds } = whole.partsOf(namespace, author);
    const requests = new ClaimedRequests(commands, keys);
    const isReplicated = whole.durability === "replicated";
    this.#whole = whole;
    this.#keys = keys;
    this.#author = author;
    this.#scripts = scripts;
    this.#reads = new SessionReads(commands, keys, whole.clock);
    this.#chosenIds = chosenIds;
    this.#creation = new SessionCreation({ scripts, keys, chosenIds, requests, isReplicated });
    this.events = new RedisEventLog(commands, keys, retentionMs);
  }

  namespace(name: string, author = NOBODY): RedisSessionStore {
    if (name === this.#keys.namespace && author === this.#author) return this;
    return new RedisSessionStore(this.#whole, name, author);
  }

  namespaces(): Promise<readonly string[]> {
    return this.#whole.namespaces();
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
      args: { id: toStoredId(key.id), knownVersion: knownVersion ?? "" },
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
        id: toStoredId(key.id),
        record: toBuffer(record),
        version,
        lock: fence?.lock ?? "",
        fencingToken: fence?.token ?? "",
        endsGrace: endsGrace ? "1" : "",
      },
    };
    const isReplicated = this.#whole.durability === "replicated";
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
    const isReplicated = await this.#whole.revocationsAreReplicated();
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
      keys,
      args: {
        ...args,
        requestHash: hashRequestKey(request.key),
        requestRecord: toBuffer(request.record),
        requestKeptForMs: request.keptForMs,
      },
    };
    const isReplicated = await this.#whole.revocationsAreReplicated();
    return this.#scripts.run(ROTATE_TOKEN_ONCE, key.partition, call, isReplicated);
  }

  async reportReuse(key: SessionKey, tokenHash: Uint8Array, revokes: boolean): Promise<boolean> {
    const call = {
      keys: { key: this.#keys.session(key) },
      args: { id: toStoredId(key.id), tokenHash: toBuffer(tokenHash), revokes: revokes ? "1" : "" },
    };
    // Anyone can have a token reported, so a report that ends nothing waits for no replica.
    const storeTimeMs = await this.#scripts.run(REPORT_REUSE, key.partition, call);
    if (storeTimeMs === undefined) return false;
    this.#remember(key.partition, [{ id: key.id, storeTimeMs }], REUSE_REASON);
    // It has ended already, and this waits for a replica.
    await this.revoke(key, REUSE_REASON);
    return true;
  }

  async revoke(
    key: SessionKey,
    reason: string,
    tokenHash?: Uint8Array,
    userId = "",
  ): Promise<boolean> {
    const call = {
      keys: { key: this.#keys.session(key) },
      args: { id: toStoredId(key.id), reason, storeTimeMs: "", userId },
      moreArgs: tokenHash && [toBuffer(tokenHash)],
    };
    const isReplicated = await this.#whole.revocationsAreReplicated();
    const remember = (storeTimeMs: number | undefined) => {
      if (storeTimeMs === undefined) return;
      this.#remember(key.partition, [{ id: key.id, storeTimeMs }], reason);
    };
    const revoked = await this.#scripts.run(REVOKE, key.partition, call, isReplicated, remember);
    return revoked !== undefined;
  }

  async revokeUser(userId: string, reason: string, exceptId = ""): Promise<number | undefined> {
    const partition = partitionOfUser(userId);
    const call = {
      keys: { userKey: this.#keys.userSessions(partition, userId) },
      args: { reason, exceptId: exceptId && toStoredId(exceptId) },
    };
    const isReplicated = await this.#whole.revocationsAreReplicated();
    const remember = (revoked: readonly RevokedSession[] = []) =>
      this.#remember(partition, revoked, reason);
    const revoked = await this.#scripts.run(REVOKE_USER, partition, call, isReplicated, remember);
    return revoked?.length;
  }

  list(query: ListQuery): Promise<ListPage> {
    return this.#reads.list(query);
  }

  count(userId?: string): Promise<number> {
    return this.#reads.count(userId);
  }

  sweep(limit: number): Promise<SweepResult> {
    return this.#whole.sweep(limit);
  }

  check(): Promise<undefined> {
    return this.#whole.check();
  }

  async close(): Promise<void> {
    this.#whole.close();
  }

  #rotation(key: SessionKey, tokenHash: Uint8Array, newTokenHash: Uint8Array, graceMs: number) {
    return {
      keys: { key: this.#keys.session(key) },
      args: {
        id: toStoredId(key.id),
        tokenHash: toBuffer(tokenHash),
        newTokenHash: toBuffer(newTokenHash),
        graceMs,
      },
    };
  }

  /** Remembers revocations as soon as they are made, because a failover may undo them. */
  #remember(partition: Partition, revoked: readonly RevokedSession[], reason: string): void {
    this.#whole.remember(this.#keys.namespace, partition, revoked, reason);
  }
}
