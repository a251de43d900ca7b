import {
  isProof,
  judgeReuse,
  REUSE_REASON,
  withoutGraces,
  withReplacedToken,
  withReuseEvent,
} from "../sessions/replaced-tokens.js";
import {
  decodeRotationRequest,
  encodeRotationRequest,
  hashRequestKey,
  type RotationRequest,
} from "../sessions/rotation-request.js";
import type {
  OnceOnly,
  RepeatedRotation,
  SessionKey,
  StoredSession,
} from "../sessions/session-store.js";
import { hashesEqual } from "../sessions/session-token.js";
import type { SqliteEventLog } from "./sqlite-event-log.js";
import { firstColumn, type Statements } from "./statements.js";
import { findSession, toStoredSession } from "./stored-session.js";

const NO_REQUEST = new Uint8Array();

/** The tokens of a session: its own, and those it had. Every method is a step of a transaction. */
export class TokenRotation {
  readonly #statements: Statements;
  readonly #events: SqliteEventLog;
  readonly #in: { readonly namespace: string };

  constructor(statements: Statements, events: SqliteEventLog, namespace: string) {
    this.#statements = statements;
    this.#events = events;
    this.#in = { namespace };
  }

  /** Whether a token hash, if there is one, proves the session. */
  isProven(key: SessionKey, tokenHash: Uint8Array | undefined, now: number): boolean {
    if (tokenHash === undefined) return true;
    const session = this.#find(key, now);
    return session !== undefined && isProof(session, tokenHash, now);
  }

  /** `SessionStore.rotateToken`. */
  rotate(
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs: number,
    now: number,
    rotationRequest: Uint8Array = NO_REQUEST,
  ): StoredSession | undefined {
    const session = this.#find(key, now);
    if (session === undefined || !hashesEqual(session.tokenHash, tokenHash)) return undefined;
    const row = this.#statements.rotateToken.get({
      ...this.#in,
      ...key,
      now,
      newTokenHash,
      authenticateTimeMs: graceMs === 0 ? now : session.authenticateTimeMs,
      replacedTokens: withReplacedToken(session, now, graceMs),
      rotationRequest,
    });
    if (row === undefined) return undefined;
    const rotated = toStoredSession(row, now);
    this.#events.append("token_rotated", rotated, now);
    return rotated;
  }

  /** `SessionStore.rotateTokenOnce`. */
  rotateOnce(
    { key: requestKey, record, keptForMs }: OnceOnly,
    key: SessionKey,
    tokenHash: Uint8Array,
    newTokenHash: Uint8Array,
    graceMs: number,
    now: number,
  ): StoredSession | RepeatedRotation | undefined {
    const keyHash = hashRequestKey(requestKey);
    const request = this.#findRequest(key, keyHash, now);
    if (request !== undefined) {
      const session = this.#find(key, now);
      const known = [request.replacedHash, session?.tokenHash ?? NO_REQUEST];
      const isOwner = known.some((hash) => hashesEqual(hash, tokenHash));
      return session && isOwner ? { repeated: request.record, session } : undefined;
    }
    const encoded = encodeRotationRequest({
      expireTimeMs: now + keptForMs,
      keyHash,
      replacedHash: tokenHash,
      record,
    });
    return this.rotate(key, tokenHash, newTokenHash, graceMs, now, encoded);
  }

  /** The request of the newest rotation, within its time, if it has this key. */
  #findRequest(key: SessionKey, keyHash: Uint8Array, now: number): RotationRequest | undefined {
    const row = this.#statements.rotationRequest.get({ ...this.#in, ...key, now });
    const request = row && decodeRotationRequest(firstColumn(row) as Uint8Array);
    if (!request || now >= request.expireTimeMs) return undefined;
    return hashesEqual(request.keyHash, keyHash) ? request : undefined;
  }

  /** `SessionStore.reportReuse`. */
  reportReuse(key: SessionKey, tokenHash: Uint8Array, revokes: boolean, now: number): boolean {
    const session = this.#find(key, now);
    if (session === undefined) return false;
    const { isEventDue, isTheft } = judgeReuse(session.replacedTokens, tokenHash, now);
    if (isEventDue) {
      const replacedTokens = withReuseEvent(session.replacedTokens, now);
      const rows = this.#statements.recordReuse.all({ ...this.#in, ...key, now, replacedTokens });
      this.#events.appendAll("token_reused", rows, now);
    }
    if (!revokes || !isTheft) return false;
    const rows = this.#statements.revoke.all({
      ...this.#in,
      ...key,
      now,
      reason: REUSE_REASON,
      userId: null,
    });
    this.#events.appendAll("revoked", rows, now, REUSE_REASON);
    return rows.length === 1;
  }

  /** Ends the grace of all replaced tokens. */
  endGraces(key: SessionKey, now: number): void {
    const { replacedTokens } = this.#find(key, now) ?? {};
    if (!replacedTokens?.length) return;
    const ended = withoutGraces(replacedTokens, now);
    this.#statements.putReplacedTokens.run({ ...this.#in, ...key, now, replacedTokens: ended });
  }

  #find(key: SessionKey, now: number): StoredSession | undefined {
    return findSession(this.#statements, this.#in.namespace, key, now);
  }
}
