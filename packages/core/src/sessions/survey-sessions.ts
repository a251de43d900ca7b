import { SessiondError, settle } from "../errors.js";
import { type Keyring, sealedKeyId } from "./keyring.js";
import { unsealContent } from "./session-record.js";
import type { ListPage, SessionStore, StoredSession } from "./session-store.js";

const SURVEY_PAGE_SIZE = 500;

/** The sessions under one key. */
export interface SealedSessions {
  readonly sessions: number;
  /** How many of them the keyring does not open. */
  readonly unreadable: number;
}

/** Which keys seal the sessions of a store. */
export interface SessionSurvey {
  /** How many sessions were looked at, ended ones included. */
  readonly seen: number;
  /** Whether these are all. */
  readonly isComplete: boolean;
  /** By the id of the key; "" for records that are damaged. */
  readonly keys: ReadonlyMap<string, SealedSessions>;
}

/** How many sessions are active in all namespaces. Throws STORE_UNAVAILABLE. */
export async function countSessions(store: SessionStore): Promise<number> {
  let count = 0;
  for (const name of await store.namespaces()) count += await store.namespace(name).count();
  return count;
}

/**
 * Looks which keys seal the sessions of all namespaces, in each from the newest on. Stops after the
 * first page that ends later than `budgetMs`. Only reads. Throws STORE_UNAVAILABLE.
 */
export async function surveySessions(
  store: SessionStore,
  keyring: Keyring,
  budgetMs: number,
): Promise<SessionSurvey> {
  const endMs = performance.now() + budgetMs;
  const keys = new Map<string, SealedSessions>();
  let seen = 0;
  for (const name of await store.namespaces()) {
    for await (const page of pagesOf(store.namespace(name))) {
      const sealing = keyring.forNamespace(name);
      for (const stored of page.sessions) await count(keys, sealing, stored);
      seen += page.sessions.length;
      if (performance.now() > endMs) return { seen, isComplete: false, keys };
    }
  }
  return { seen, isComplete: true, keys };
}

async function* pagesOf(store: SessionStore): AsyncGenerator<ListPage, void, undefined> {
  const query = { showExpired: true, showRevoked: true, order: "desc" } as const;
  let after: ListPage["next"];
  do {
    const page = await store.list({ ...query, limit: SURVEY_PAGE_SIZE, ...(after && { after }) });
    yield page;
    after = page.next;
  } while (after !== undefined);
}

async function count(
  keys: Map<string, SealedSessions>,
  keyring: Keyring,
  stored: StoredSession,
): Promise<void> {
  const keyId = sealedKeyId(stored.record) ?? "";
  const { sessions, unreadable } = keys.get(keyId) ?? { sessions: 0, unreadable: 0 };
  const content = await settle(() => unsealContent(keyring, stored));
  const isUnreadable = content instanceof SessiondError;
  keys.set(keyId, { sessions: sessions + 1, unreadable: unreadable + (isUnreadable ? 1 : 0) });
}
