import { lockNotHeld, SessiondError, sessionNotFound, storeUnavailable } from "../errors.js";
import { KeyedQueue } from "./keyed-queue.js";
import type { Keyring } from "./keyring.js";
import { type Session, sessionEtag } from "./session.js";
import { sealContent, toSession, unsealContent } from "./session-record.js";
import type { Fence, SessionKey, SessionStore, StoredSession } from "./session-store.js";
import { applyUpdate, type SessionUpdate } from "./session-update.js";

/**
 * How often an update is tried when other servers keep changing the session in
 * between. Each failed try is another server's success, so this is reached only
 * where dozens of servers update one session at the same moment.
 */
const MAX_UPDATE_ATTEMPTS = 50;
/**
 * How long after it was asked for an update may still be tried. While the store is
 * slow or gone, those that wait for their turn outlive their callers; made later, they would
 * overwrite what has come since, and keep the next ones waiting.
 */
const UPDATE_BUDGET_MS = 1_500;
/** What an update must find for it to be made. */
export interface UpdateConditions {
  /** Whose session it must be. */
  readonly userId?: string | undefined;
  readonly etag?: string | undefined;
  /** Refuses the update where a later holder of the lock has made one. */
  readonly fence?: Fence | undefined;
}

/**
 * Changes the sealed content of sessions, which no store can do by itself: reads it, changes it
 * and replaces it if the session is still at the same version, or else starts over.
 */
export class SessionUpdates {
  readonly #store: SessionStore;
  readonly #keyring: Keyring;
  /**
   * One server's updates of one session wait for each other here; only the updates
   * of other servers are left to meet at the store.
   */
  readonly #queue = new KeyedQueue();

  constructor(store: SessionStore, keyring: Keyring) {
    this.#store = store;
    this.#keyring = keyring;
  }

  /**
   * Updates the active session at the key that `locate` finds. Throws SESSION_NOT_FOUND,
   * ETAG_MISMATCH, LOCK_NOT_HELD, OVERLOADED and STORE_UNAVAILABLE as `Sessions.update` says.
   */
  async update(
    locate: () => Promise<SessionKey>,
    update: SessionUpdate,
    conditions: UpdateConditions,
  ): Promise<Session> {
    const latestMs = performance.now() + UPDATE_BUDGET_MS;
    const key = await locate();
    return this.#queue.run(key.id, () => this.#compareAndSet(key, update, conditions, latestMs));
  }

  async #compareAndSet(
    key: SessionKey,
    update: SessionUpdate,
    { userId, etag, fence }: UpdateConditions,
    /** On the monotonic clock. */
    latestMs: number,
  ): Promise<Session> {
    for (let attempt = 0; attempt < MAX_UPDATE_ATTEMPTS; attempt++) {
      // At once where there is no time left, so that it does not keep the next one
      // waiting, and once more before the change is sent.
      checkTime(latestMs);
      const stored = await findActive(this.#store, key, userId);
      checkTime(latestMs);
      if (etag !== undefined && etag !== sessionEtag(stored)) {
        throw new SessiondError("ETAG_MISMATCH", "etag: the session has changed since it was read");
      }
      const content = applyUpdate(unsealContent(this.#keyring, stored), update);
      const record = sealContent(this.#keyring, stored, content);
      const replaced = await this.#store.replaceRecord(key, stored.version, record, fence);
      if (replaced === undefined) throw sessionNotFound();
      if (replaced === "fenced") throw lockNotHeld("a later holder has updated the session");
      if (replaced !== "version_mismatch") return toSession(replaced, content);
    }
    throw new SessiondError("OVERLOADED", "too many concurrent updates of this session");
  }
}

/** The active session at a key. Throws SESSION_NOT_FOUND, also where it is not `userId`'s. */
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

/** Throws once it is later than `latestMs` on the monotonic clock. */
function checkTime(latestMs: number): void {
  if (performance.now() > latestMs) throw storeUnavailable("the update took too long");
}
