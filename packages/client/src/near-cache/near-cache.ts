import { hash } from "node:crypto";
import type { Session } from "../sessions/session.js";
import type { WatchMessage } from "../sessions/watch.js";
import { freezeSession } from "./freeze-session.js";
import { type Clocks, Freshness } from "./freshness.js";
import { type CallUnderWay, RecentChanges } from "./recent-changes.js";
import { type Entry, SessionMemory } from "./session-memory.js";

/** How large a near cache may get, and how old. */
export interface NearCacheLimits {
  readonly maxStaleMs: number;
  readonly maxSessions: number;
}

/** What a near cache did, since its client was made, and what it has. All 0 without a near cache. */
export interface NearCacheStats {
  /** Verifies that were answered from memory. */
  readonly hits: number;

  /** Verifies that asked the server. */
  readonly misses: number;

  /** Sessions in memory. */
  readonly entries: number;

  /** About how many bytes they take. */
  readonly bytes: number;

  /**
   * How old the memory may be at most, in milliseconds: the age of the last checkpoint. Undefined
   * while there is none: then every verify asks the server.
   */
  readonly ageMs: number | undefined;

  /** How often the memory was emptied because the watch broke or events were missing. */
  readonly resets: number;
}

/** What has changed: one session, the session of a token, or all sessions of a user. */
export type Change =
  | { readonly sessionId: string }
  | { readonly key: string }
  | { readonly userId: string };

/** What the reader of the stream has to do: read on, open it again after this message, or from now. */
export type Next = "read on" | "renew" | "restart";

/**
 * A replaced token may be valid for so long: the contract's limit of a grace. Nothing tells of the
 * end of a grace, so nothing is kept before it is over.
 */
const MAX_GRACE_MS = 60_000;

/** A token's name in the cache, of 32 bytes. The token itself is never kept. */
export function keyOf(token: string): string {
  return hash("sha256", token, "latin1");
}

/**
 * The sessions of recent verifies, as long as nobody has changed them. A machine without timers and
 * connections: it is told what happens, and answers.
 *
 * A session is given out only while
 * - the stream's last checkpoint is younger than `maxStaleMs` (`Freshness`), so every change that was
 *   acknowledged earlier is known, and
 * - the session's own deadline has not passed.
 *
 * It is kept only if the call for it began while the stream was read, and no change of it came during
 * the call (`RecentChanges`). That a token is not valid is never kept.
 */
export class NearCache {
  readonly #clocks: Clocks;
  readonly #memory: SessionMemory;
  readonly #freshness: Freshness;
  readonly #changes = new RecentChanges();
  /** Whether every change from now on will be told. */
  #isTold = false;
  #hits = 0;
  #misses = 0;
  #resets = 0;

  constructor({ maxStaleMs, maxSessions }: NearCacheLimits, clocks: Clocks) {
    this.#clocks = clocks;
    this.#memory = new SessionMemory(maxSessions);
    this.#freshness = new Freshness(maxStaleMs, clocks);
  }

  stats(): NearCacheStats {
    return {
      hits: this.#hits,
      misses: this.#misses,
      entries: this.#memory.size,
      bytes: this.#memory.bytes,
      ageMs: this.#freshness.ageMs(),
      resets: this.#resets,
    };
  }

  /** A session that may be given out at this time of the monotonic clock. */
  get(key: string, nowMs: number): Entry | undefined {
    const entry = this.#memory.use(key, nowMs);
    if (entry !== undefined && this.#freshness.isFresh(nowMs)) {
      this.#hits++;
      return entry;
    }
    this.#misses++;
    return undefined;
  }

  /** Whether a hit is to be reported as activity. */
  takeTouch(entry: Entry, nowMs: number): boolean {
    return this.#memory.takeTouch(entry, nowMs);
  }

  /** A call is about to be sent. Each must `end`. */
  begin(): CallUnderWay {
    return this.#changes.begin(this.#clocks.monotonicMs());
  }

  end(): void {
    this.#changes.end();
  }

  /**
   * Takes the answer to a call, before the call ends, and keeps it if it may. Freezes it in any case,
   * so that callers need not know whether a session comes from memory.
   */
  keep(key: string, session: Session<object>, call: CallUnderWay, isTouch: boolean): void {
    const nowMs = this.#clocks.monotonicMs();
    const bytes = freezeSession(session);
    if (!this.#mayKeep(key, session, call)) return;
    const { expireTime, lastAccessTime, idleTimeoutMs } = session;
    const touchIntervalMs = idleTimeoutMs / 10;
    // The second bound is for a session whose clock is another than that of the checkpoints, as in a
    // cluster of Redis whose clocks are apart.
    const untilMs = Math.min(
      this.#freshness.localMs(expireTime.getTime(), nowMs),
      call.startMs + (expireTime.getTime() - lastAccessTime.getTime()),
    );
    const touchDueMs = isTouch ? nowMs + touchIntervalMs : nowMs;
    this.#memory.set({ key, session, bytes, untilMs, touchIntervalMs, touchDueMs }, nowMs);
  }

  /** Something has changed, or may have: it is not given out again, nor kept if a call has it. */
  forget(change: Change): void {
    this.#changes.add(nameOf(change));
    if ("sessionId" in change) this.#memory.delete(change.sessionId);
    else if ("key" in change) this.#forgetToken(change.key);
    else this.#memory.deleteUser(change.userId);
  }

  /** The stream is about to be asked for. */
  streamOpens(): void {
    this.#freshness.streamOpens();
  }

  /** The stream has broken, or tells no more. */
  streamLost(): void {
    if (this.#isTold) this.#resets++;
    this.#isTold = false;
    this.#changes.startEpoch();
    this.#freshness.forget();
    this.#memory.clear();
  }

  /** Takes a message of the stream. */
  receive(message: WatchMessage): Next {
    switch (message.type) {
      case "events":
        for (const { type, sessionId } of message.events) {
          // A login is mostly followed by a verify, whose answer this would drop. An id that is used
          // again belonged to a session that has ended long ago.
          if (type !== "created") this.forget({ sessionId });
        }
        return "read on";
      case "reset":
        return "restart";
      case "checkpoint":
        return this.#checkpoint(message.time.getTime());
    }
  }

  #checkpoint(serverMs: number): Next {
    switch (this.#freshness.checkpoint(serverMs)) {
      case "ahead":
        return "restart";
      case "moved":
        // Deadlines were by a clock that is wrong now.
        this.#resets++;
        this.#memory.clear();
        return "read on";
      case "late":
      case "due":
        this.#follow();
        return "renew";
      case "fine":
        this.#follow();
        return "read on";
    }
  }

  /** From now on every change is told. Answers to earlier calls may miss one that was not. */
  #follow(): void {
    if (!this.#isTold) this.#changes.startEpoch();
    this.#isTold = true;
  }

  #mayKeep(key: string, session: Session<object>, call: CallUnderWay): boolean {
    const { id, userId, state, createTime, tokenCreateTime } = session;
    const names = [nameOf({ key }), nameOf({ sessionId: id }), nameOf({ userId })];
    if (!this.#isTold || !this.#changes.areUnchanged(names, call)) return false;
    const wasRotated = tokenCreateTime.getTime() !== createTime.getTime();
    const graceEndMs = tokenCreateTime.getTime() + MAX_GRACE_MS;
    if (wasRotated && this.#freshness.serverReachedMs < graceEndMs) return false;
    return state === "active";
  }

  #forgetToken(key: string): void {
    const sessionId = this.#memory.peek(key)?.session.id;
    if (sessionId === undefined) return;
    // Also for calls that are under way with another token of the session.
    this.#changes.add(nameOf({ sessionId }));
    this.#memory.delete(sessionId);
  }
}

function nameOf(change: Change): string {
  if ("sessionId" in change) return `session ${change.sessionId}`;
  if ("key" in change) return `token ${change.key}`;
  return `user ${change.userId}`;
}
