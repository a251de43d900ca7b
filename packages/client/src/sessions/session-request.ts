import { randomUUID } from "node:crypto";
import type { JsonObject, JsonValue, MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type {
  CreateSessionRequestSchema,
  ListSessionsRequestSchema,
  UpdateSessionRequestSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import { invalidArgument } from "../error.js";
import { duration, int32, narrowing, text, texts } from "../rpc/fields.js";
import { jsonObject } from "./json.js";
import type { ClientInfo } from "./session.js";
import type { UpdateSessionOptions } from "./session-options.js";

/** A session to create. The server has the limits of each field. */
export interface NewSession {
  userId: string;

  /**
   * An id that the caller chooses, such as a JWT's `jti`. The call fails with
   * SESSION_ALREADY_EXISTS if it is taken. Default: the server makes one.
   */
  sessionId?: string;
  displayName?: string | undefined;
  roles?: readonly string[] | undefined;
  client?: Partial<ClientInfo> | undefined;
  data?: JsonObject | undefined;

  /** How long the session lives without activity, in milliseconds. Default: the server's. */
  idleTimeoutMs?: number | undefined;

  /** How long the session lives at most, in milliseconds. Default: the server's. */
  lifetimeMs?: number | undefined;

  /**
   * Names this creation. Within 10 minutes, another creation with the same id and contents
   * answers the same session and token; one with other contents fails with REQUEST_ID_REUSED.
   *
   * Default: a new UUID, which is enough for the attempts of one call. Choose an id to be safe
   * across calls too, as for a job that may run again.
   */
  requestId?: string | undefined;
}

/**
 * The changes of a session. All else stays as it is, also under concurrent updates. A plain name
 * replaces a field as a whole; `set…` and `delete…` change single entries of it. Use only one of
 * both for a field.
 */
export interface SessionUpdate {
  displayName?: string | undefined;
  roles?: readonly string[] | undefined;

  /** Replaces all client information: the server forgets what is left out. */
  client?: Partial<ClientInfo> | undefined;

  /** Changes only the given client information. */
  setClient?: Partial<ClientInfo> | undefined;

  /** Replaces all data. */
  data?: JsonObject | undefined;

  /** Sets single top-level keys of the data. Any string is a key, dots included. */
  setData?: Readonly<Record<string, JsonValue>> | undefined;

  /** Removes single top-level keys of the data. A missing key is no error. */
  deleteData?: readonly string[] | undefined;
}

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

/** Names one session by its id or by its token. */
export type SessionTarget =
  | { readonly sessionId: string; readonly token?: undefined }
  | { readonly token: string; readonly sessionId?: undefined };

const orders = {
  "newest-first": "create_time desc",
  "oldest-first": "create_time",
} satisfies Record<NonNullable<SessionQuery["order"]>, string>;

const clientPaths = {
  ip: "client.ip",
  userAgent: "client.user_agent",
  device: "client.device",
} satisfies Record<keyof ClientInfo, string>;

export function createRequest(
  session: NewSession,
): MessageInitShape<typeof CreateSessionRequestSchema> {
  const { client, data, idleTimeoutMs, lifetimeMs } = session;
  return {
    userId: text(session.userId, "user_id"),
    sessionId: narrowing(session, "sessionId", "session_id"),
    displayName: text(session.displayName ?? "", "display_name"),
    roles: texts(session.roles ?? [], "roles"),
    client: client ? clientFrom(client) : undefined,
    data: data ? jsonObject(data, "data") : undefined,
    idleTimeout: idleTimeoutMs === undefined ? undefined : duration(idleTimeoutMs, "idle_timeout"),
    lifetime: lifetimeMs === undefined ? undefined : duration(lifetimeMs, "lifetime"),
    requestId: requestId(session.requestId ?? randomUUID()),
  };
}

/** The new values, and the mask that names them. */
export function updateRequest(
  update: SessionUpdate,
): Pick<MessageInitShape<typeof UpdateSessionRequestSchema>, "session" | "updateMask"> {
  const { displayName, roles } = update;
  const client = clientUpdate(update);
  const data = dataUpdate(update);
  const paths = [
    ...(displayName === undefined ? [] : ["display_name"]),
    ...(roles === undefined ? [] : ["roles"]),
    ...client.paths,
    ...data.paths,
  ];
  if (paths.length === 0) throw invalidArgument("update_mask", "expected something to update");
  return {
    session: {
      displayName: text(displayName ?? "", "display_name"),
      roles: texts(roles ?? [], "roles"),
      client: client.value,
      data: data.value,
    },
    updateMask: { paths },
  };
}

export function listRequest(
  query: SessionQuery,
  pageToken: string,
): MessageInitShape<typeof ListSessionsRequestSchema> {
  const { showExpired = false, showRevoked = false, filter = {}, pageSize = 0 } = query;
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
    orderBy: orders[query.order ?? "newest-first"],
    pageSize: int32(pageSize, "page_size"),
    pageToken: text(pageToken, "page_token"),
  };
}

/** The oneof of the contract that names a session. */
export function targetFrom(
  target: SessionTarget,
): { case: "sessionId"; value: string } | { case: "token"; value: string } {
  if ((target.sessionId === undefined) === (target.token === undefined)) {
    throw invalidArgument("target", "expected either sessionId or token");
  }
  return target.token === undefined
    ? { case: "sessionId", value: text(target.sessionId, "session_id") }
    : { case: "token", value: text(target.token, "token") };
}

/** Refuses an empty id: the contract reads it as no id, so the call would not be repeatable. */
function requestId(value: string): string {
  if (value === "") {
    throw invalidArgument("request_id", "expected an id; leave `requestId` out to have one made");
  }
  return text(value, "request_id");
}

/** A time that narrows a list. Follows the rule of `narrowing`. */
function moment(
  filter: SessionFilter,
  key: "createTimeFrom" | "createTimeTo" | "lastAccessTimeFrom" | "lastAccessTimeTo",
  field: string,
): Timestamp | undefined {
  if (!Object.hasOwn(filter, key)) return undefined;
  const value: unknown = filter[key];
  if (!(value instanceof Date) || Number.isNaN(value.getTime())) {
    throw invalidArgument(field, `expected a valid Date; leave \`${key}\` out to do without`);
  }
  return timestampFromDate(value);
}

function clientFrom(client: Partial<ClientInfo>): ClientInfo {
  return {
    ip: text(client.ip ?? "", clientPaths.ip),
    userAgent: text(client.userAgent ?? "", clientPaths.userAgent),
    device: text(client.device ?? "", clientPaths.device),
  };
}

function clientUpdate({ client, setClient }: SessionUpdate): {
  paths: string[];
  value: ClientInfo;
} {
  if (client !== undefined && setClient !== undefined) {
    throw invalidArgument("client", "expected either client or setClient");
  }
  const keys = Object.keys(clientPaths) as (keyof ClientInfo)[];
  const paths =
    client === undefined
      ? keys.filter((key) => setClient?.[key] !== undefined).map((key) => clientPaths[key])
      : ["client"];
  return { paths, value: clientFrom(client ?? setClient ?? {}) };
}

function dataUpdate({ data, setData, deleteData }: SessionUpdate): {
  paths: string[];
  value: JsonObject;
} {
  if (data !== undefined) {
    if (setData !== undefined || deleteData !== undefined) {
      throw invalidArgument("data", "expected either data or setData and deleteData");
    }
    return { paths: ["data"], value: jsonObject(data, "data") };
  }
  const value = jsonObject({ ...setData }, "data");
  const deleted = texts(deleteData ?? [], "data");
  const both = deleted.find((key) => Object.hasOwn(value, key));
  if (both !== undefined) {
    throw invalidArgument(`data.${both}`, "expected to be either set or deleted");
  }
  return { paths: [...Object.keys(value), ...deleted].map((key) => `data.${key}`), value };
}

/** Follows the rule of `narrowing`: to ignore a fence without a value would lift the fence. */
export function fenceFrom(options: UpdateSessionOptions) {
  if (!Object.hasOwn(options, "fence")) return {};
  const { lock, token } = options.fence ?? {};
  if (typeof lock !== "string" || lock === "") {
    throw invalidArgument("fence.lock", "expected the name of a lock");
  }
  if (token === undefined || !Number.isSafeInteger(token)) {
    throw invalidArgument("fence.token", "expected a fencing token");
  }
  return { fence: { lock: text(lock, "fence.lock"), token: BigInt(token) } };
}
