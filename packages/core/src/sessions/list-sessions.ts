import { invalidArgument, SessiondError, settle } from "../errors.js";
import { Slices } from "../slices.js";
import { checkText, LIMITS } from "../validation.js";
import { canonicalIp } from "./ip-address.js";
import type { Keyring } from "./keyring.js";
import { formatPageToken, parsePageToken } from "./page-token.js";
import type { Session } from "./session.js";
import { checkUserId, parseIp } from "./session-checks.js";
import { unsealSession } from "./session-record.js";
import type { ListCursor, ListQuery, SessionStore, StoredSession } from "./session-store.js";

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
  /**
   * How many bytes a session takes in the caller's answer. A page ends before they are more than
   * `MAX_PAGE_BYTES`. By default only the number of sessions bounds a page.
   */
  readonly sizeOf?: (session: Session) => number;
}

/** A page of sessions. The last page has no `nextPageToken`. */
export interface SessionPage {
  readonly sessions: readonly Session[];
  readonly unreadableSessionIds: readonly string[];
  readonly nextPageToken?: string;
}

const DEFAULT_PAGE_SIZE = 50;
/** A page has at least one session, however large. gRPC clients refuse answers of more than 4 MiB. */
const MAX_PAGE_BYTES = 3 * 1024 * 1024;
/** How many sessions a list without a filter reads from the store at a time: at most 4 MB. */
const READ_BATCH_SIZE = 200;
/** After this many reads from the store a page ends early. */
const MAX_READS_PER_PAGE = 10;
/** How many sessions a filtered list reads from the store at a time. */
const SCAN_BATCH_SIZE = 500;

/**
 * A page of sessions in the order of creation. With large sessions, or with a filter on sealed fields
 * or on activity, a page may end early and still have a token for the next page.
 */
export async function listSessions(
  store: SessionStore,
  keyring: Keyring,
  namespace: string,
  request: ListSessions,
): Promise<SessionPage> {
  checkListRequest(request);
  const { pageSize: requestedSize, pageToken, sizeOf = () => 0, ...filters } = request;
  const pageSize = requestedSize || DEFAULT_PAGE_SIZE;
  const { showExpired = false, showRevoked = false, order = "desc" } = filters;
  const ip = filters.ip === undefined ? {} : { ip: parseIp("filter.ip", filters.ip) };
  const query = { ...filters, ...ip, showExpired, showRevoked, order };
  const filtered = hasContentFilter(query);
  const tokenQuery = { ...query, ...(namespace !== "" && { namespace }) };
  const storeQuery = toStoreQuery(
    query,
    filtered ? SCAN_BATCH_SIZE : Math.min(pageSize, READ_BATCH_SIZE),
  );

  const sessions: Session[] = [];
  const unreadableSessionIds: string[] = [];
  let after = pageToken ? parsePageToken(tokenQuery, pageToken) : undefined;
  let reads = 0;
  let bytes = 0;
  let isFull = false;
  const slices = new Slices();
  do {
    reads++;
    const page = await store.list({ ...storeQuery, ...(after && { after }) });
    const from: ListCursor | undefined = after;
    after = page.next;
    for (const [i, stored] of page.sessions.entries()) {
      if (slices.isOver) await slices.next();
      const session = await settle(() => unsealSession(keyring, stored));
      if (session instanceof SessiondError) {
        unreadableSessionIds.push(stored.id);
      } else if (matches(session, query)) {
        bytes += sizeOf(session);
        isFull = bytes > MAX_PAGE_BYTES && sessions.length > 0;
        if (isFull) {
          after = cursorOf(page.sessions[i - 1]) ?? from;
          break;
        }
        sessions.push(session);
      }
      if (sessions.length + unreadableSessionIds.length === pageSize) {
        const isLast = stored === page.sessions.at(-1) && page.next === undefined;
        after = isLast ? undefined : cursorOf(stored);
        break;
      }
    }
  } while (
    after !== undefined &&
    !isFull &&
    sessions.length + unreadableSessionIds.length < pageSize &&
    reads < MAX_READS_PER_PAGE
  );
  return {
    sessions,
    unreadableSessionIds,
    ...(after && { nextPageToken: formatPageToken(tokenQuery, after) }),
  };
}

function cursorOf(stored: StoredSession): ListCursor;
function cursorOf(stored: StoredSession | undefined): ListCursor | undefined;
function cursorOf(stored: StoredSession | undefined): ListCursor | undefined {
  return stored && { createTimeMs: stored.createTimeMs, id: stored.id };
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
