import { invalidArgument, SessiondError, settle } from "../errors.js";
import { checkText, LIMITS } from "../validation.js";
import { canonicalIp } from "./ip-address.js";
import type { Keyring } from "./keyring.js";
import { formatPageToken, parsePageToken } from "./page-token.js";
import type { Session } from "./session.js";
import { checkUserId, parseIp } from "./session-checks.js";
import { unsealSession } from "./session-record.js";
import type { ListQuery, SessionStore } from "./session-store.js";

/** What `Sessions.list` takes. */
export interface ListSessions {
  readonly userId?: string;
  readonly showExpired?: boolean;
  readonly showRevoked?: boolean;
  readonly role?: string;
  readonly ip?: string;
  readonly createTimeFromMs?: number;
  readonly createTimeToMs?: number;
  readonly lastAccessTimeFromMs?: number;
  readonly lastAccessTimeToMs?: number;
  /** By creation time. `desc`, newest first, by default. */
  readonly order?: "asc" | "desc";
  /** 50 by default. */
  readonly pageSize?: number;
  readonly pageToken?: string;
}

/** A page of sessions. The last page has no `nextPageToken`. */
export interface SessionPage {
  readonly sessions: readonly Session[];
  readonly unreadableSessionIds: readonly string[];
  readonly nextPageToken?: string;
}

const DEFAULT_PAGE_SIZE = 50;
/** After this many reads from the store a page ends early. */
const MAX_READS_PER_PAGE = 10;
/** How many sessions a filtered list reads from the store at a time. */
const SCAN_BATCH_SIZE = 500;

/**
 * A page of sessions in the order of creation. With a filter on sealed fields or on activity a page
 * may end early and still have a token for the next page.
 */
export async function listSessions(
  store: SessionStore,
  keyring: Keyring,
  namespace: string,
  request: ListSessions,
): Promise<SessionPage> {
  checkListRequest(request);
  const { pageSize: requestedSize, pageToken, ...filters } = request;
  const pageSize = requestedSize || DEFAULT_PAGE_SIZE;
  const { showExpired = false, showRevoked = false, order = "desc" } = filters;
  const ip = filters.ip === undefined ? {} : { ip: parseIp("filter.ip", filters.ip) };
  const query = { ...filters, ...ip, showExpired, showRevoked, order };
  const filtered = hasContentFilter(query);
  const tokenQuery = { ...query, ...(namespace !== "" && { namespace }) };
  const storeQuery = toStoreQuery(query, filtered ? SCAN_BATCH_SIZE : pageSize);

  const sessions: Session[] = [];
  const unreadableSessionIds: string[] = [];
  let after = pageToken ? parsePageToken(tokenQuery, pageToken) : undefined;
  let reads = 0;
  do {
    reads++;
    const page = await store.list({ ...storeQuery, ...(after && { after }) });
    after = page.next;
    for (const stored of page.sessions) {
      const session = await settle(() => unsealSession(keyring, stored));
      if (session instanceof SessiondError) unreadableSessionIds.push(stored.id);
      else if (matches(session, query)) sessions.push(session);
      if (sessions.length + unreadableSessionIds.length === pageSize) {
        const isLast = stored === page.sessions.at(-1) && page.next === undefined;
        after = isLast ? undefined : { createTimeMs: stored.createTimeMs, id: stored.id };
        break;
      }
    }
  } while (
    after !== undefined &&
    sessions.length + unreadableSessionIds.length < pageSize &&
    reads < MAX_READS_PER_PAGE
  );
  return {
    sessions,
    unreadableSessionIds,
    ...(after && { nextPageToken: formatPageToken(tokenQuery, after) }),
  };
}

function checkListRequest(request: ListSessions): void {
  const { userId, role, pageSize = 0, pageToken } = request;
  if (userId !== undefined) checkUserId("user_id", userId);
  if (role !== undefined) checkText("filter.role", role, LIMITS.roleBytes);
  if (!Number.isInteger(pageSize) || pageSize < 0 || pageSize > LIMITS.pageSize) {
    throw invalidArgument("page_size", `expected 0 to ${LIMITS.pageSize}, got ${pageSize}`);
  }
  if (pageToken !== undefined) checkText("page_token", pageToken, LIMITS.pageTokenBytes);
}

function toStoreQuery(
  query: ListSessions & Pick<ListQuery, "showExpired" | "showRevoked" | "order">,
  limit: number,
): Omit<ListQuery, "after"> {
  return {
    showExpired: query.showExpired,
    showRevoked: query.showRevoked,
    order: query.order,
    limit,
    ...(query.userId !== undefined && { userId: query.userId }),
    ...(query.createTimeFromMs !== undefined && { createTimeFromMs: query.createTimeFromMs }),
    ...(query.createTimeToMs !== undefined && { createTimeToMs: query.createTimeToMs }),
  };
}

/** Whether only the unsealed session can answer the filter. */
function hasContentFilter(query: ListSessions): boolean {
  return (
    query.role !== undefined ||
    query.ip !== undefined ||
    query.lastAccessTimeFromMs !== undefined ||
    query.lastAccessTimeToMs !== undefined
  );
}

function matches(session: Session, query: ListSessions): boolean {
  const { role, ip, lastAccessTimeFromMs = -Infinity, lastAccessTimeToMs = Infinity } = query;
  return (
    (role === undefined || session.roles.includes(role)) &&
    (ip === undefined || hasIp(session, ip)) &&
    session.lastAccessTimeMs >= lastAccessTimeFromMs &&
    session.lastAccessTimeMs < lastAccessTimeToMs
  );
}

/** `ip` is in its one form. Older servers stored addresses as they were sent. */
function hasIp({ client }: Session, ip: string): boolean {
  return client.ip === ip || canonicalIp(client.ip) === ip;
}
