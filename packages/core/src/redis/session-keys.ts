import type { Partition } from "../session-id.js";
import type { SessionKey } from "../session-store.js";

/**
 * The names of the keys in Redis. `{p}` is the partition and the cluster hash
 * tag, so that everything of one user is in one slot.
 */
export class SessionKeys {
  readonly #prefix: string;

  /** `prefix` stands before every key; it must contain no `{`. */
  constructor(prefix: string) {
    if (prefix.includes("{")) throw new Error(`a key prefix must not contain "{": "${prefix}"`);
    this.#prefix = prefix;
  }

  /** HASH: a session, its sealed record and its deadlines. */
  session({ partition, id }: SessionKey): string {
    return this.sessionPrefix(partition) + id;
  }

  sessionPrefix(partition: Partition): string {
    return `${this.#prefix}session:{${partition}}:`;
  }

  /** ZSET: ids of a user's sessions by deadline. */
  userSessions(partition: Partition, userId: string): string {
    return this.userSessionsPrefix(partition) + userId;
  }

  userSessionsPrefix(partition: Partition): string {
    return `${this.#prefix}user_sessions:{${partition}}:`;
  }

  /** ZSET: ids of all sessions of a partition by deadline. */
  sessions(partition: Partition): string {
    return `${this.#prefix}sessions:{${partition}}`;
  }

  /** ZSET: ids of all sessions of a partition by creation time. */
  sessionsByCreateTime(partition: Partition): string {
    return `${this.#prefix}sessions_by_create_time:{${partition}}`;
  }

  /** STRING: the partition of an id that a caller chose. */
  sessionRef(chosenId: string): string {
    return `${this.#prefix}session_ref:${chosenId}`;
  }
}
