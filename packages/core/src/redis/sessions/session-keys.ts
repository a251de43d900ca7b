import type { Partition } from "../../sessions/session-id.js";
import type { SessionKey } from "../../sessions/session-store.js";

/** The key of a session, or of an index of all sessions or of a user's sessions. */
export type ParsedKey =
  | { readonly kind: "session"; readonly partition: Partition; readonly id: string }
  | { readonly kind: "index"; readonly partition: Partition; readonly userId?: string };

const SESSION_OR_INDEX = /^([a-z_]+):\{([0-9a-f]{2})\}(?::(.+))?$/s;

/** The keys in Redis. The partition is the hash tag, so everything of one user is in one slot. */
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

  /** STREAM: the newest changes of a partition's sessions. */
  sessionEvents(partition: Partition): string {
    return `${this.#prefix}session_events:{${partition}}`;
  }

  /** Pub/Sub channel: the partitions whose streams have grown. */
  eventChannel(): string {
    return `${this.#prefix}session_events`;
  }

  /** HASH: the result of a request to create a session. */
  request(partition: Partition, request: string): string {
    return `${this.#prefix}request:{${partition}}:${request}`;
  }

  /** HASH: the result of a request to rotate a session's token. */
  rotation({ partition, id }: SessionKey, request: string): string {
    return `${this.#prefix}rotation:{${partition}}:${id}:${request}`;
  }

  /** STRING: the partition of a request to create a session. */
  requestRef(request: string): string {
    return `${this.#prefix}request_ref:${request}`;
  }

  /** STRING: the partition of an id that a caller chose. */
  sessionRef(chosenId: string): string {
    return `${this.#prefix}session_ref:${chosenId}`;
  }

  /** A pattern of SCAN for sessions and indexes. Some other keys may match too. */
  pattern(): string {
    return `${this.#prefix.replace(/[\\*?[\]]/g, "\\$&")}*session*:{??}*`;
  }

  /** Parses the key of a session or an index. Undefined for any other key. */
  parse(name: string): ParsedKey | undefined {
    if (!name.startsWith(this.#prefix)) return undefined;
    const match = SESSION_OR_INDEX.exec(name.slice(this.#prefix.length));
    const [, kind, partition = "", rest] = match ?? [];
    if (kind === "session" && rest !== undefined) return { kind, partition, id: rest };
    if (kind === "user_sessions" && rest !== undefined) {
      return { kind: "index", partition, userId: rest };
    }
    if (kind === "sessions" || kind === "sessions_by_create_time") {
      return { kind: "index", partition };
    }
    return undefined;
  }
}
