import { SessiondError, settle } from "../errors.js";
import { type Keyring, sealedKeyId } from "./keyring.js";
import { partitionOfUser } from "./session-id.js";
import { resealRecord } from "./session-record.js";
import type { ListPage, ListQuery, SessionStore, StoredSession } from "./session-store.js";

const RESEAL_PAGE_SIZE = 500;
/**
 * How often one page is read, because its sessions change meanwhile. A change under the active key
 * settles its session, so only a server that still seals under an old key exhausts these attempts.
 */
const MAX_RESEAL_ATTEMPTS = 10;

/** The result for one page of `resealSessions`. */
export interface ResealedPage {
  readonly resealed: number;
  /** How many were already under the active key. */
  readonly current: number;
  readonly unreadableSessionIds: readonly string[];
  /** Sessions that another server kept changing under an old key. */
  readonly busySessionIds: readonly string[];
}

type ResealOutcome = "resealed" | "current" | "unreadable";

/**
 * Seals every session of all namespaces under the active key, ended sessions too. Goes through each
 * namespace by creation time, so sessions that are created meanwhile come last. Yields after each page and may be abandoned there: the next
 * run passes over finished sessions quickly. Throws STORE_UNAVAILABLE.
 */
export async function* resealSessions(
  store: SessionStore,
  keyring: Keyring,
): AsyncGenerator<ResealedPage, void, undefined> {
  for (const name of await store.namespaces()) {
    yield* resealNamespace(store.namespace(name), keyring.forNamespace(name));
  }
}

async function* resealNamespace(
  store: SessionStore,
  keyring: Keyring,
): AsyncGenerator<ResealedPage, void, undefined> {
  const query = {
    showExpired: true,
    showRevoked: true,
    order: "asc",
    limit: RESEAL_PAGE_SIZE,
  } as const;
  let after: ListPage["next"];
  do {
    const { page, next } = await resealPage(store, keyring, { ...query, ...(after && { after }) });
    yield page;
    after = next;
  } while (after !== undefined);
}

async function resealPage(
  store: SessionStore,
  keyring: Keyring,
  query: ListQuery,
): Promise<{ readonly page: ResealedPage; readonly next: ListPage["next"] }> {
  const settled = new Map<string, ResealOutcome>();
  for (let attempt = 1; ; attempt++) {
    const { sessions, next } = await store.list(query);
    const open = sessions.filter(({ id }) => !settled.has(id));
    const outcomes = await Promise.all(open.map((stored) => resealOne(store, keyring, stored)));
    const busySessionIds: string[] = [];
    for (const [i, { id }] of open.entries()) {
      const outcome = outcomes[i];
      if (outcome === undefined) busySessionIds.push(id);
      else settled.set(id, outcome);
    }
    if (busySessionIds.length === 0 || attempt === MAX_RESEAL_ATTEMPTS) {
      return { page: toResealedPage(settled, busySessionIds), next };
    }
  }
}

/** Undefined if the session has changed since it was read. */
async function resealOne(
  store: SessionStore,
  keyring: Keyring,
  stored: StoredSession,
): Promise<ResealOutcome | undefined> {
  if (sealedKeyId(stored.record) === keyring.activeKeyId) return "current";
  const resealed = await settle(() => resealRecord(keyring, stored));
  if (resealed instanceof SessiondError) return "unreadable";
  const key = { id: stored.id, partition: partitionOfUser(stored.userId) };
  return (await store.reseal(key, stored.record, resealed)) ? "resealed" : undefined;
}

function toResealedPage(
  settled: ReadonlyMap<string, ResealOutcome>,
  busySessionIds: readonly string[],
): ResealedPage {
  const idsOf = (wanted: ResealOutcome) =>
    [...settled].filter(([, outcome]) => outcome === wanted).map(([id]) => id);
  return {
    resealed: idsOf("resealed").length,
    current: idsOf("current").length,
    unreadableSessionIds: idsOf("unreadable"),
    busySessionIds,
  };
}
