import { PARTITIONS, type Partition, partitionOfUser } from "../../sessions/session-id.js";
import type {
  ListPage,
  ListQuery,
  SessionKey,
  StoredSession,
} from "../../sessions/session-store.js";
import type { ReadClock } from "../connection/redis-clock.js";
import type { RedisCommands } from "../connection/redis-commands.js";
import {
  byCreation,
  cursorOf,
  fromStoredCursor,
  stretchArguments,
  takeInCreationOrder,
  toEntries,
  toStoredCursor,
} from "./creation-order.js";
import { COUNT_ACTIVE, READ_IN_CREATION_ORDER } from "./index-scripts.js";
import type { SessionKeys } from "./session-keys.js";
import { fromStoredId } from "./stored-id.js";
import { activeSession, listedSession } from "./stored-session.js";

/** Reads sessions without scripts, and decides by an estimate of Redis's time what is active. */
export class SessionReads {
  readonly #commands: RedisCommands;
  readonly #keys: SessionKeys;
  readonly #clock: ReadClock;

  constructor(commands: RedisCommands, keys: SessionKeys, clock: ReadClock) {
    this.#commands = commands;
    this.#keys = keys;
    this.#clock = clock;
  }

  async get(key: SessionKey): Promise<StoredSession | undefined> {
    const now = this.#clock.now() ?? (await this.#clock.firstNow());
    return activeSession(key.id, await this.#commands.get(this.#keys.session(key)), now);
  }

  async getMany(keys: readonly SessionKey[]): Promise<readonly (StoredSession | undefined)[]> {
    return Promise.all(keys.map((key) => this.get(key)));
  }

  async list(query: ListQuery): Promise<ListPage> {
    const now = this.#clock.now() ?? (await this.#clock.firstNow());
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

  /** A user has few sessions, so we read and sort all of them. */
  async #listUser(userId: string, query: ListQuery, now: number): Promise<ListPage> {
    const partition = partitionOfUser(userId);
    const lowest = query.showRevoked || query.showExpired ? "-inf" : `(${now}`;
    const ids = await this.#commands.call((redis) =>
      redis.zrangebyscoreBuffer(this.#keys.userSessions(partition, userId), lowest, "+inf"),
    );
    const keys = ids.map((storedId) => ({ partition, id: fromStoredId(storedId) }));
    const sessions = (await this.#listed(keys, query, now))
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
    const { after: cursor, ...rest } = query;
    const stored = { ...rest, ...(cursor && { after: toStoredCursor(cursor) }) };
    const { entries, next } = await takeInCreationOrder(stored, groups, (stretches) =>
      Promise.all(
        stretches.map(async (stretch) => {
          const args = stretchArguments(query, stretch);
          const moreKeys = stretch.partitions.map(keyOf);
          const call = { keys: {}, args, moreKeys };
          const reply = await this.#commands.runRead(READ_IN_CREATION_ORDER, call);
          return toEntries(reply, stretch.partitions);
        }),
      ),
    );
    const keys = entries.map(({ partition, ...entry }) => ({
      partition,
      id: fromStoredCursor(entry).id,
    }));
    const sessions = await this.#listed(keys, query, now);
    return { sessions, ...(next && { next: fromStoredCursor(next) }) };
  }

  /** The sessions at keys, without those that the query does not ask for. */
  async #listed(
    keys: readonly SessionKey[],
    query: ListQuery,
    now: number,
  ): Promise<readonly StoredSession[]> {
    const found = await Promise.all(keys.map((key) => this.#commands.get(this.#keys.session(key))));
    return keys.flatMap(({ id }, i) => listedSession(id, found[i] ?? null, query, now));
  }
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
