import {
  movedInTooLate,
  requestIdReused,
  sessionAlreadyExists,
  sessionLimitReached,
} from "../errors.js";
import type { Partition } from "../sessions/session-id.js";
import {
  type Creation,
  EVICTION_REASON,
  type NewSession,
  type OnceOnly,
  type RepeatedCreation,
  type SessionLimit,
} from "../sessions/session-store.js";
import type { SqliteEventLog } from "./sqlite-event-log.js";
import { firstColumn, type RequestRow, type Statements } from "./statements.js";
import { toStoredFacts, toStoredSession } from "./stored-session.js";

/** Adds sessions. Every method is a step of a transaction. */
export class SessionCreation {
  readonly #statements: Statements;
  readonly #events: SqliteEventLog;
  readonly #in: { readonly namespace: string };

  constructor(statements: Statements, events: SqliteEventLog, namespace: string) {
    this.#statements = statements;
    this.#events = events;
    this.#in = { namespace };
  }

  /** `SessionStore.create`. */
  create(session: NewSession, limit: SessionLimit, now: number): Creation {
    const { key, userId, record, tokenHash, idleTimeoutMs } = session;
    const times = timesOfNewSession(session, now);
    const isTaken = this.#statements.idIsTaken.get({ ...this.#in, id: key.id }) !== undefined;
    if (isTaken) throw sessionAlreadyExists();
    if (times.absoluteExpireTimeMs <= now) throw movedInTooLate("create_time");
    if (times.expireTimeMs <= now) throw movedInTooLate("expire_time");
    const evictedIds = this.#makeRoom(userId, limit, now);
    const content = { userId, record, tokenHash, idleTimeoutMs };
    const row = this.#statements.insert.get({ ...this.#in, ...key, ...content, ...times });
    if (row === undefined) throw new Error("an INSERT with RETURNING answered no row");
    const created = toStoredFacts(row, now);
    this.#events.append("created", created, now);
    return { session: created, evictedIds };
  }

  /** `SessionStore.createOnce`. */
  createOnce(
    { key, record, keptForMs }: OnceOnly,
    session: NewSession,
    limit: SessionLimit,
    now: number,
  ): Creation | RepeatedCreation {
    const { id, partition } = session.key;
    const earlier = this.#findRequest(key, partition, now);
    if (earlier !== undefined) return earlier;
    const creation = this.create(session, limit, now);
    const { storeTimeMs } = creation.session;
    const evictedIds = JSON.stringify(creation.evictedIds);
    const request = { key, partition, sessionId: id, storeTimeMs, record, evictedIds };
    this.#statements.insertRequest.run({ ...this.#in, ...request, now, keptForMs });
    return creation;
  }

  /** The result of an earlier call with this request, within its time. */
  #findRequest(key: string, partition: Partition, now: number): RepeatedCreation | undefined {
    const row = this.#statements.findRequest.get({ ...this.#in, key, now });
    if (row === undefined) return undefined;
    const [earlierPartition, id, storeTimeMs, record, evictedIds] = row as unknown as RequestRow;
    if (earlierPartition !== partition) throw requestIdReused();
    const values = { ...this.#in, id, partition, storeTimeMs };
    const session = this.#statements.sessionOfRequest.get(values);
    return {
      repeated: record,
      session: session && toStoredSession(session, now),
      evictedIds: JSON.parse(evictedIds) as string[],
    };
  }

  /** Evicts a user's oldest sessions until there is room for one more. Answers their ids. */
  #makeRoom(userId: string, limit: SessionLimit, now: number): string[] {
    const active = Number(
      firstColumn(this.#statements.countUser.get({ ...this.#in, userId, now })),
    );
    const tooMany = active + 1 - limit.maxSessionsPerUser;
    if (tooMany <= 0) return [];
    if (limit.policy === "reject") throw sessionLimitReached(limit.maxSessionsPerUser);
    const oldest = this.#statements.oldestOfUser.all({ ...this.#in, userId, now, count: tooMany });
    const ids = oldest.map((row) => String(firstColumn(row)));
    for (const id of ids) {
      const rows = this.#statements.evict.all({ ...this.#in, id, now, reason: EVICTION_REASON });
      this.#events.appendAll("evicted", rows, now, EVICTION_REASON);
    }
    return ids;
  }
}

/** The times of a new session, as the store's contract has them. */
function timesOfNewSession({ idleTimeoutMs, lifetimeMs, movedIn = {} }: NewSession, now: number) {
  const createTimeMs = Math.min(movedIn.createTimeMs ?? now, now);
  const authenticateTimeMs = Math.min(movedIn.authenticateTimeMs ?? createTimeMs, now);
  const idleDeadlineMs = Math.min(movedIn.expireTimeMs ?? Infinity, now + idleTimeoutMs);
  const absoluteExpireTimeMs = createTimeMs + lifetimeMs;
  return {
    createTimeMs,
    authenticateTimeMs: Math.max(createTimeMs, authenticateTimeMs),
    lastAccessTimeMs: Math.max(createTimeMs, idleDeadlineMs - idleTimeoutMs),
    expireTimeMs: Math.min(idleDeadlineMs, absoluteExpireTimeMs),
    absoluteExpireTimeMs,
    storeTimeMs: now,
  };
}
