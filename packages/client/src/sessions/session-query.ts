import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { ListSessionsRequestSchema } from "@sessiond/proto/sessiond/v1/session_service";
import { invalidArgument } from "../error.js";
import { known, type NamesOf } from "../known-names.js";
import { int32, narrowing, text, timestamp } from "../rpc/fields.js";

/** Which sessions to list. Default: the active sessions of all users. */
export interface SessionQuery {
  /** The user whose sessions to list. Default: all users. */
  userId?: string;

  /** Also list sessions whose deadline passed a short while ago. */
  showExpired?: boolean | undefined;

  /** Also list sessions that were revoked a short while ago. */
  showRevoked?: boolean | undefined;

  /** Conditions that must all hold. */
  filter?: SessionFilter | undefined;

  /** By time of creation. Default: newest first. */
  order?: "newest-first" | "oldest-first" | undefined;

  /** Sessions per page, at most 1000. Default: the server's, 50. */
  pageSize?: number | undefined;
}

/** As `SessionQuery`, from the page that a `nextPageToken` names. Default: the first page. */
export interface SessionPageQuery extends SessionQuery {
  pageToken?: string | undefined;
}

/** Each range includes its beginning and excludes its end. */
export interface SessionFilter {
  /** Sessions that have this role. */
  role?: string;

  /** Sessions whose client has this IP address. */
  ip?: string;
  createTimeFrom?: Date;
  createTimeTo?: Date;
  lastAccessTimeFrom?: Date;
  lastAccessTimeTo?: Date;
}

const orders = {
  "newest-first": "create_time desc",
  "oldest-first": "create_time",
} satisfies Record<NonNullable<SessionQuery["order"]>, string>;

export const QUERY = {
  userId: true,
  showExpired: true,
  showRevoked: true,
  filter: true,
  order: true,
  pageSize: true,
} satisfies NamesOf<SessionQuery>;
const PAGE_QUERY = { ...QUERY, pageToken: true } satisfies NamesOf<SessionPageQuery>;

const FILTER = {
  role: true,
  ip: true,
  createTimeFrom: true,
  createTimeTo: true,
  lastAccessTimeFrom: true,
  lastAccessTimeTo: true,
} satisfies NamesOf<SessionFilter>;

export function listRequest(
  query: SessionPageQuery,
): MessageInitShape<typeof ListSessionsRequestSchema> {
  known(query, PAGE_QUERY, { argument: "query" });
  const { showExpired = false, showRevoked = false, filter = {}, pageSize = 0 } = query;
  known(filter, FILTER, { argument: "filter", prefix: "filter." });
  return {
    userId: narrowing(query, "userId", "user_id"),
    showExpired,
    showRevoked,
    filter: {
      role: narrowing(filter, "role", "filter.role"),
      ip: narrowing(filter, "ip", "filter.ip"),
      createTimeFrom: moment(filter, "createTimeFrom", "filter.create_time_from"),
      createTimeTo: moment(filter, "createTimeTo", "filter.create_time_to"),
      lastAccessTimeFrom: moment(filter, "lastAccessTimeFrom", "filter.last_access_time_from"),
      lastAccessTimeTo: moment(filter, "lastAccessTimeTo", "filter.last_access_time_to"),
    },
    orderBy: orderFrom(query.order),
    pageSize: int32(pageSize, "page_size"),
    pageToken: text(query.pageToken ?? "", "page_token"),
  };
}

function orderFrom(order: SessionQuery["order"] = "newest-first"): string {
  if (Object.hasOwn(orders, order)) return orders[order];
  throw invalidArgument("order_by", `expected ${Object.keys(orders).join(" or ")}`);
}

/** A time that narrows a list. Follows the rule of `narrowing`. */
function moment(
  filter: SessionFilter,
  key: "createTimeFrom" | "createTimeTo" | "lastAccessTimeFrom" | "lastAccessTimeTo",
  field: string,
): Timestamp | undefined {
  if (!Object.hasOwn(filter, key)) return undefined;
  return timestamp(filter[key] as Date, field);
}
