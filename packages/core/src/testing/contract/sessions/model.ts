import {
  REUSE_EVENT_INTERVAL_MS,
  REUSE_REASON,
  REUSE_TOLERANCE_MS,
} from "../../../sessions/replaced-tokens.js";
import type { StoredSession } from "../../../sessions/session-store.js";
import type { SessionEventType } from "../../../watch/session-event.js";
import { byCreation, type EventFacts, eventOf } from "./fixtures.js";

/** What an earlier request did. */
export interface ModelRequest {
  readonly userId: string;
  readonly record: Uint8Array;
  readonly sessionId: string;
  readonly createTimeMs: number;
  readonly evictedIds: readonly string[];
  readonly expireTimeMs: number;
}

/** A token that was replaced. */
export interface ModelToken {
  readonly hash: Uint8Array;
  readonly replaceTimeMs: number;
  readonly graceEndTimeMs: number;
}

/** What the contract says must be there: a plain list, walked through for every answer. */
export class Model {
  sessions: StoredSession[] = [];
  readonly requests = new Map<string, ModelRequest>();
  /** The replaced tokens of each session, newest first. */
  readonly #replaced = new Map<string, readonly ModelToken[]>();
  readonly #reuseEventTimesMs = new Map<string, number>();
  readonly events: EventFacts[] = [];
  #removedExpired = 0;
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  isActive = (session: StoredSession): boolean =>
    session.revokeTimeMs === undefined && this.#now() < session.expireTimeMs;

  active(userId?: string): StoredSession[] {
    return this.sessions
      .filter((session) => this.isActive(session) && (userId ?? session.userId) === session.userId)
      .toSorted(byCreation);
  }

  /** The request with this key that is recognised still. */
  request(key: string): ModelRequest | undefined {
    const request = this.requests.get(key);
    return request && this.#now() < request.expireTimeMs ? request : undefined;
  }

  change(id: string, change: Partial<StoredSession>): void {
    const index = this.sessions.findIndex((session) => session.id === id);
    const session = this.sessions[index];
    if (session) this.sessions[index] = { ...session, ...change };
  }

  log(type: SessionEventType, session: StoredSession, version: number, reason?: string): void {
    this.events.push(eventOf(type, session, version, this.#now(), reason));
  }

  add(session: StoredSession): void {
    this.sessions.push(session);
    this.log("created", session, 1);
  }

  replaceRecord(session: StoredSession, record: Uint8Array): void {
    this.change(session.id, { record, version: session.version + 1 });
    this.log("updated", session, session.version + 1);
  }

  revoke(session: StoredSession, revokeReason: string, type: SessionEventType = "revoked"): void {
    this.change(session.id, {
      revokeTimeMs: this.#now(),
      revokeReason,
      version: session.version + 1,
      tokenHash: new Uint8Array(),
    });
    this.log(type, session, session.version + 1, revokeReason);
  }

  rotate(session: StoredSession, tokenHash: Uint8Array, graceMs = 0): void {
    const now = this.#now();
    const token = { hash: session.tokenHash, replaceTimeMs: now, graceEndTimeMs: now + graceMs };
    const earlier = this.#replacedOf(session).map((one) =>
      graceMs === 0 && now < one.graceEndTimeMs
        ? { ...one, replaceTimeMs: now, graceEndTimeMs: now }
        : one,
    );
    this.#replaced.set(lifeOf(session), [token, ...earlier]);
    this.change(session.id, {
      ...this.activity(session),
      tokenHash,
      version: session.version + 1,
      tokenCreateTimeMs: now,
      ...(graceMs === 0 && { authenticateTimeMs: now }),
    });
    this.log("token_rotated", session, session.version + 1);
  }

  /** Answers whether this revokes the session. */
  reportReuse(session: StoredSession, token: ModelToken): boolean {
    const now = this.#now();
    if (!this.isActive(session) || now < token.graceEndTimeMs) return false;
    const lastMs = this.#reuseEventTimesMs.get(lifeOf(session)) ?? -Infinity;
    const isEventDue = now - lastMs >= REUSE_EVENT_INTERVAL_MS;
    const reported = { ...session, version: session.version + (isEventDue ? 1 : 0) };
    if (isEventDue) {
      this.#reuseEventTimesMs.set(lifeOf(session), now);
      this.change(session.id, reported);
      this.log("token_reused", session, reported.version);
    }
    const isTheft = now - token.replaceTimeMs > REUSE_TOLERANCE_MS;
    if (isTheft) this.revoke(reported, REUSE_REASON);
    return isTheft;
  }

  /** The nth newest of a session's replaced tokens. */
  replacedToken(session: StoredSession, nth: number): ModelToken | undefined {
    return this.#replacedOf(session)[nth];
  }

  #replacedOf(session: StoredSession): readonly ModelToken[] {
    return this.#replaced.get(lifeOf(session)) ?? [];
  }

  activity(session: StoredSession): Partial<StoredSession> {
    const idleDeadlineMs = this.#now() + session.idleTimeoutMs;
    return {
      lastAccessTimeMs: this.#now(),
      expireTimeMs: Math.min(idleDeadlineMs, session.absoluteExpireTimeMs),
    };
  }

  /** Removes what a sweep must remove. Answers how much that is. */
  sweep(retentionMs: number): number {
    const kept = this.sessions.filter(
      ({ revokeTimeMs, expireTimeMs }) =>
        this.#now() < (revokeTimeMs ?? expireTimeMs) + retentionMs,
    );
    const removed = this.sessions.filter((session) => !kept.includes(session));
    this.#removedExpired += removed.filter(this.#isExpired).length;
    this.sessions = kept;
    return removed.length;
  }

  #isExpired = (session: StoredSession): boolean =>
    session.revokeTimeMs === undefined && !this.isActive(session);

  /** How many sessions have expired so far. */
  get expired(): number {
    return this.#removedExpired + this.sessions.filter(this.#isExpired).length;
  }
}

/** Tells a session from an earlier one with the same chosen id. */
export function lifeOf({ id, createTimeMs }: StoredSession): string {
  return `${id} ${createTimeMs}`;
}
