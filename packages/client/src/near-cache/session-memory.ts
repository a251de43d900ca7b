import { LRUCache } from "lru-cache";
import type { Session } from "../sessions/session.js";

/**
 * What a session may take on average: three times what one without much data takes. So 100,000
 * sessions take at most 300 MB, however large their data.
 */
const MAX_AVERAGE_BYTES = 3_000;

/** A session in memory. All times are on our monotonic clock. */
export interface Entry {
  readonly session: Session<object>;
  readonly bytes: number;
  /** The session's deadline. */
  readonly untilMs: number;
  /** A tenth of the idle timeout. */
  readonly touchIntervalMs: number;
  /** A hit from then on is reported as activity. */
  touchDueMs: number;
  /** A hit from then on moves the entry among the recently used. */
  useDueMs: number;
}

/** How exactly recency is known: to move an entry costs as much as to find it. */
const USE_INTERVAL_MS = 1_000;

/** Sessions by the hash of their token, bounded in number and bytes: the least recently used go. */
export class SessionMemory {
  readonly #entries: LRUCache<string, Entry>;
  /** The hash of each session's token. A session has one token at a time. */
  readonly #keys = new Map<string, string>();

  constructor(maxSessions: number) {
    this.#entries = new LRUCache({
      max: maxSessions,
      maxSize: maxSessions * MAX_AVERAGE_BYTES,
      sizeCalculation: ({ bytes }) => bytes,
      dispose: ({ session }, key) => {
        if (this.#keys.get(session.id) === key) this.#keys.delete(session.id);
      },
    });
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#entries.calculatedSize;
  }

  /** On the path of every hit. */
  get(key: string, nowMs: number): Entry | undefined {
    const entry = this.#entries.peek(key);
    if (entry !== undefined && nowMs >= entry.useDueMs) {
      entry.useDueMs = nowMs + USE_INTERVAL_MS;
      this.#entries.get(key);
    }
    return entry;
  }

  /** The session of a token, by the token's hash. This is no use. */
  sessionIdOf(key: string): string | undefined {
    return this.#entries.peek(key)?.session.id;
  }

  set(key: string, entry: Entry): void {
    const { id } = entry.session;
    this.deleteSession(id);
    this.#entries.set(key, entry);
    // A session that is larger than the whole memory is not kept.
    if (this.#entries.has(key)) this.#keys.set(id, key);
  }

  /** Drops the session of a token, by the token's hash. */
  delete(key: string): void {
    this.#entries.delete(key);
  }

  deleteSession(sessionId: string): void {
    const key = this.#keys.get(sessionId);
    if (key !== undefined) this.#entries.delete(key);
  }

  /** Looks at every session: only for what is rare. */
  deleteUser(userId: string): void {
    for (const key of this.#keys.values()) {
      if (this.#entries.peek(key)?.session.userId === userId) this.#entries.delete(key);
    }
  }

  clear(): void {
    this.#entries.clear();
  }
}
