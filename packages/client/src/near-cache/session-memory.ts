import { LRUCache } from "lru-cache";
import type { Session } from "../sessions/session.js";

/**
 * What a session may take on average: three times what one without much data takes. So 100,000
 * sessions take at most 300 MB, however large their data.
 */
const MAX_AVERAGE_BYTES = 3_000;

/** What is kept of a session. All times are on our monotonic clock. */
export interface NewEntry {
  /** The hash of the token. */
  readonly key: string;
  readonly session: Session<object>;
  /** About how many bytes the session takes. */
  readonly bytes: number;
  /** The session's deadline. */
  readonly untilMs: number;
  /** A tenth of the idle timeout. */
  readonly touchIntervalMs: number;
  /** A hit from then on is reported as activity. */
  readonly touchDueMs: number;
}

/** A session in memory. */
export interface Entry extends NewEntry {
  /** The session as a hit gives it out. One promise for all is cheaper than one for each. */
  readonly answer: Promise<Session<object>>;
  touchDueMs: number;
  /** A hit from then on moves the entry among the recently used. */
  useDueMs: number;
  /**
   * Before this time a hit has nothing to do: the earliest of the times above. So a hit reads one
   * number, and a whole one, which V8 keeps inside the object.
   */
  quietUntilMs: number;
}

/** How exactly recency is known: to move an entry costs as much as to find it. */
const USE_INTERVAL_MS = 1_000;

/** Sessions, bounded in number and bytes: the least recently used go. */
export class SessionMemory {
  /** By the hash of the token. A hit looks only here, which is faster than an LRUCache. */
  readonly #byToken = new Map<string, Entry>();
  /** By session id: a session has one token at a time. */
  readonly #bySession: LRUCache<string, Entry>;

  constructor(maxSessions: number) {
    this.#bySession = new LRUCache({
      max: maxSessions,
      maxSize: maxSessions * MAX_AVERAGE_BYTES,
      sizeCalculation: ({ bytes }) => bytes,
      dispose: ({ key }) => this.#byToken.delete(key),
    });
  }

  get size(): number {
    return this.#bySession.size;
  }

  get bytes(): number {
    return this.#bySession.calculatedSize;
  }

  /** The entry of a token, unless its deadline has passed. On the path of every hit. */
  use(key: string, nowMs: number): Entry | undefined {
    const entry = this.#byToken.get(key);
    if (entry === undefined || nowMs < entry.quietUntilMs) return entry;
    if (nowMs >= entry.untilMs) {
      this.delete(entry.session.id);
      return undefined;
    }
    if (nowMs >= entry.useDueMs) {
      entry.useDueMs = nowMs + USE_INTERVAL_MS;
      this.#bySession.get(entry.session.id);
    }
    setQuiet(entry);
    return entry;
  }

  /** Whether a hit is to be reported as activity now. After true, not for a tenth of the idle timeout. */
  takeTouch(entry: Entry, nowMs: number): boolean {
    if (nowMs < entry.touchDueMs) return false;
    entry.touchDueMs = nowMs + entry.touchIntervalMs;
    setQuiet(entry);
    return true;
  }

  /** The entry of a token. */
  peek(key: string): Entry | undefined {
    return this.#byToken.get(key);
  }

  set(fresh: NewEntry, nowMs: number): void {
    const answer = Promise.resolve(fresh.session);
    const entry: Entry = { ...fresh, answer, useDueMs: nowMs + USE_INTERVAL_MS, quietUntilMs: 0 };
    setQuiet(entry);
    const { id } = entry.session;
    this.#bySession.delete(id);
    this.#bySession.set(id, entry);
    // A session that is larger than the whole memory is not kept.
    if (this.#bySession.has(id)) this.#byToken.set(entry.key, entry);
  }

  delete(sessionId: string): void {
    this.#bySession.delete(sessionId);
  }

  /** Looks at every session: only for what is rare. */
  deleteUser(userId: string): void {
    for (const { session } of this.#byToken.values()) {
      if (session.userId === userId) this.#bySession.delete(session.id);
    }
  }

  clear(): void {
    this.#bySession.clear();
  }
}

function setQuiet(entry: Entry): void {
  const { untilMs, touchDueMs, useDueMs } = entry;
  entry.quietUntilMs = Math.floor(Math.min(untilMs, touchDueMs, useDueMs));
}
