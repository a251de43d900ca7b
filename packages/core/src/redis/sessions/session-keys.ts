import { isNamespace } from "../../namespace.js";
import type { Partition } from "../../sessions/session-id.js";
import type { SessionKey } from "../../sessions/session-store.js";
import { keyPrefixOf } from "../connection/key-prefix.js";
import { toStoredId } from "./stored-id.js";

/** The key of a session, or of an index of all sessions or of a user's sessions. */
export type ParsedKey = { readonly namespace: string; readonly partition: Partition } & (
  | { readonly kind: "session"; readonly storedId: Buffer }
  | { readonly kind: "index"; readonly userId?: string }
);

const SESSION_OR_INDEX = /^(?:ns:([a-z0-9._-]+):)?([a-z_]+):\{([0-9a-f]{2})\}(?::(.+))?$/s;

/**
 * The keys of a namespace in Redis. The partition is the hash tag, so everything of one user is in
 * one slot.
 */
export class SessionKeys {
  readonly namespace: string;
  readonly #storePrefix: string;
  readonly #prefix: string;

  /** `storePrefix` stands before every key of the store; it must contain no `{`. */
  constructor(storePrefix: string, namespace = "") {
    this.namespace = namespace;
    this.#storePrefix = storePrefix;
    this.#prefix = keyPrefixOf(storePrefix, namespace);
  }

  /** SET: the other namespaces than "" that have sessions or events in a partition. */
  namespaces(partition: Partition): string {
    return `${this.#storePrefix}namespaces:{${partition}}`;
  }

  /** STRING: a session, as `stored-session.ts` has it. */
  session({ partition, id }: SessionKey): Buffer {
    return Buffer.concat([Buffer.from(this.sessionPrefix(partition)), toStoredId(id)]);
  }

  sessionPrefix(partition: Partition): string {
    return `${this.#prefix}session:{${partition}}:`;
  }

  /** ZSET: stored ids of a user's sessions by deadline. */
  userSessions(partition: Partition, userId: string): string {
    return this.userSessionsPrefix(partition) + userId;
  }

  userSessionsPrefix(partition: Partition): string {
    return `${this.#prefix}user_sessions:{${partition}}:`;
  }

  /** ZSET: stored ids of all sessions of a partition by deadline. */
  sessions(partition: Partition): string {
    return `${this.#prefix}sessions:{${partition}}`;
  }

  /** ZSET: stored ids of all sessions of a partition by creation time. */
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

  /** STRING: the partition of a request to create a session. */
  requestRef(request: string): string {
    return `${this.#prefix}request_ref:${request}`;
  }

  /** STRING: the partition of an id that a caller chose. */
  sessionRef(chosenId: string): string {
    return `${this.#prefix}session_ref:${chosenId}`;
  }

  /**
   * A pattern of SCAN for the sessions and indexes of all namespaces. Some other keys may match too.
   */
  pattern(): string {
    return `${this.#storePrefix.replace(/[\\*?[\]]/g, "\\$&")}*session*:{??}*`;
  }

  /** Parses the key of a session or an index of any namespace. Undefined for any other key. */
  parse(name: Buffer): ParsedKey | undefined {
    const prefix = Buffer.from(this.#storePrefix);
    if (!name.subarray(0, prefix.length).equals(prefix)) return undefined;
    // In latin1, no byte of an id is lost.
    const match = SESSION_OR_INDEX.exec(name.toString("latin1", prefix.length));
    const [, namespace = "", kind, partition = "", rest] = match ?? [];
    const place = { namespace, partition };
    if (!isNamespace(namespace)) return undefined;
    if (kind === "session" && rest !== undefined) {
      return { ...place, kind, storedId: Buffer.from(rest, "latin1") };
    }
    if (kind === "user_sessions" && rest !== undefined) {
      return { ...place, kind: "index", userId: Buffer.from(rest, "latin1").toString() };
    }
    if (kind === "sessions" || kind === "sessions_by_create_time") {
      return { ...place, kind: "index" };
    }
    return undefined;
  }
}
