import { isDeepStrictEqual } from "node:util";
import {
  lockNotHeld,
  overloaded,
  SessiondError,
  sessionNotFound,
  storeUnavailable,
} from "../errors.js";
import type { Notice } from "./descriptions.js";
import { KeyedQueue } from "./keyed-queue.js";
import type { Keyring } from "./keyring.js";
import { type Session, sessionEtag } from "./session.js";
import { sealContent, toSession, unsealContent } from "./session-record.js";
import type { Fence, SessionKey, SessionStore, StoredSession } from "./session-store.js";
import { applyUpdate, prepareUpdate, type SessionUpdate } from "./session-update.js";

/**
 * How often an update is tried while other servers change the session. Each failed try is another
 * server's success, so only dozens of servers at the same moment exhaust these attempts.
 */
const MAX_UPDATE_ATTEMPTS = 50;
/**
 * How long after the request an update may still be tried. While the store is slow, queued updates
 * outlive their callers: made later, they would overwrite newer changes and delay the next updates.
 */
const UPDATE_BUDGET_MS = 1_500;

/** The conditions of an update. */
export interface UpdateConditions {
  /** The user whose session it must be. */
  readonly userId?: string | undefined;
  readonly etag?: string | undefined;
  /** Refuses the update if a later holder of the lock has made one. */
  readonly fence?: Fence | undefined;
}

/** The result of an update. */
export interface UpdatedSession {
  readonly session: Session;
  /** What was changed in the update's descriptions. */
  readonly notices: readonly Notice[];
}

/**
 * Changes the sealed content of sessions, which stores cannot read: reads it, changes it, and
 * replaces it if the session is still at the same version. Otherwise starts over.
 */
export class SessionUpdates {
  readonly #keyring: Keyring;
  /**
   * This server's updates of one session wait for each other. Only other servers' updates compete.
   */
  readonly #queue = new KeyedQueue();

  constructor(keyring: Keyring) {
    this.#keyring = keyring;
  }

  /**
   * Updates the active session of a store at the key that `locate` finds. Throws INVALID_ARGUMENT,
   * SESSION_NOT_FOUND, ETAG_MISMATCH, LOCK_NOT_HELD, OVERLOADED and STORE_UNAVAILABLE as
   * `Sessions.update` says.
   */
  async update(
    store: SessionStore,
    locate: () => Promise<SessionKey>,
    sent: SessionUpdate,
    conditions: UpdateConditions,
  ): Promise<UpdatedSession> {
    const latestMs = performance.now() + UPDATE_BUDGET_MS;
    const { update, notices } = prepareUpdate(sent);
    const key = await locate();
    const session = await this.#queue.run(key.id, () =>
      this.#compareAndSet(store, key, update, conditions, latestMs),
    );
    return { session, notices };
  }

  async #compareAndSet(
    store: SessionStore,
    key: SessionKey,
    update: SessionUpdate,
    { userId, etag, fence }: UpdateConditions,
    /** On the monotonic clock. */
    latestMs: number,
  ): Promise<Session> {
    for (let attempt = 0; attempt < MAX_UPDATE_ATTEMPTS; attempt++) {
      // Before the read, so that a late update does not delay the next one, and before the write.
      checkTime(latestMs);
      const stored = await findActive(store, key, userId);
      checkTime(latestMs);
      if (etag !== undefined && etag !== sessionEtag(stored)) {
        throw new SessiondError("ETAG_MISMATCH", "etag: the session has changed since it was read");
      }
      const before = unsealContent(this.#keyring, stored);
      const content = applyUpdate(before, update);
      const record = sealContent(this.#keyring, stored, content);
      // Who has a replaced token must not get new roles with it.
      const endsGrace = !isDeepStrictEqual(content.roles, before.roles);
      const { version } = stored;
      const replaced = await store.replaceRecord(key, version, record, fence, endsGrace);
      if (replaced === undefined) throw sessionNotFound();
      if (replaced === "fenced") throw lockNotHeld("a later holder has updated the session");
      if (replaced !== "version_mismatch") return toSession(replaced, content);
    }
    throw overloaded("update_conflicts", "too many concurrent updates of this session");
  }
}

/** The active session at a key. Throws SESSION_NOT_FOUND, also if it is not `userId`'s. */
export async function findActive(
  store: SessionStore,
  key: SessionKey,
  userId: string | undefined,
): Promise<StoredSession> {
  const stored = await store.get(key);
  if (stored === undefined) throw sessionNotFound();
  if (userId !== undefined && stored.userId !== userId) throw sessionNotFound();
  return stored;
}

/** `latestMs` is on the monotonic clock. */
function checkTime(latestMs: number): void {
  if (performance.now() > latestMs) throw storeUnavailable("the update took too long");
}
