import { randomUUID } from "node:crypto";
import type { JsonObject, JsonValue, MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type {
  CreateSessionRequestSchema,
  ListSessionsRequestSchema,
  UpdateSessionRequestSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import { invalidArgument } from "../error.js";
import { duration, narrowing, text, texts } from "../rpc/fields.js";
import { checkJsonObject } from "./json.js";
import type { ClientInfo } from "./session.js";
import type { UpdateSessionOptions } from "./session-options.js";

/** A session to create. The limits of each field are the server's. */
export interface NewSession {
  userId: string;

  /**
   * An id of the caller's choice, such as a JWT's `jti`; SESSION_ALREADY_EXISTS
   * if it is taken. Made by the server when left out.
   */
  sessionId?: string;
  displayName?: string | undefined;
  roles?: readonly string[] | undefined;
  client?: Partial<ClientInfo> | undefined;
  data?: JsonObject | undefined;

  /** How long it lives without activity, in milliseconds. The server's default when left out. */
  idleTimeoutMs?: number | undefined;

  /** How long it lives at most, in milliseconds. The server's default when left out. */
  lifetimeMs?: number | undefined;

  /**
   * Names this creation: another one with the same id and contents within 10
   * minutes answers the same session and token, and one with other contents fails
   * with REQUEST_ID_REUSED. A new UUID when left out, which is enough for the
   * attempts of one call; give one to be safe across calls, too, as when a job
   * may run again.
   */
  requestId?: string | undefined;
}

/**
 * What to change about a session; all else stays as it is, also under concurrent
 * updates. A plain name replaces a field as a whole, `set…` and `delete…` change
 * single entries of it. One of both at a time.
 */
export interface SessionUpdate {
  displayName?: string | undefined;
  roles?: readonly string[] | undefined;

  /** Replaces everything known of the client: what is left out is forgotten. */
  client?: Partial<ClientInfo> | undefined;

  /** Changes only what is given. */
  setClient?: Partial<ClientInfo> | undefined;

  /** Replaces all data. */
  data?: JsonObject | undefined;

  /** Sets single top-level keys of the data. Any string is a key, dots included. */
  setData?: Readonly<Record<string, JsonValue>> | undefined;

  /** Removes single top-level keys of the data; a key that is not there is no error. */
  deleteData?: readonly string[] | undefined;
}

/** Which sessions to list. Active ones of all users unless narrowed or widened. */
export interface SessionQuery {
  /** The user whose sessions to list. All users when left out. */
  userId?: string;

  /** Also list sessions whose deadline passed a short while ago. */
  showExpired?: boolean | undefined;

  /** Also list sessions that were revoked a short while ago. */
  showRevoked?: boolean | undefined;

  /** Conditions that must all hold. */
  filter?: SessionFilter | undefined;

  /** By time of creation; newest first by default. */
  order?: "newest-first" | "oldest-first" | undefined;

  /** Sessions per page, at most 1000. The server's default (50) when left out. */
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

/** Names one session: by its id, or by its token. */
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
  return {
    userId: text(session.userId, "user_id"),
    sessionId: narrowing(session, "sessionId", "session_id"),
    displayName: text(session.displayName ?? "", "display_name"),
    roles: texts(session.roles ?? [], "roles"),
    ...(session.client && { client: clientFrom(session.client, "client") }),
    ...(session.data && { data: json(session.data, "data") }),
    ...(session.idleTimeoutMs !== undefined && {
      idleTimeout: duration(session.idleTimeoutMs, "idle_timeout"),
    }),
    ...(session.lifetimeMs !== undefined && {
      lifetime: duration(session.lifetimeMs, "lifetime"),
    }),
    requestId: requestId(session.requestId ?? randomUUID()),
  };
}

/** The new values and the mask that names them. */
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
  if (paths.length === 0) {
    throw invalidArgument("update_mask", "expected something to update");
  }
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
  if (!Number.isInteger(pageSize) || Math.abs(pageSize) > 0x7fff_ffff) {
    throw invalidArgument("page_size", "expected an integer");
  }
  return {
    userId: narrowing(query, "userId", "user_id"),
    showExpired,
    showRevoked,
    filter: {
      role: narrowing(filter, "role", "filter.role"),
      ip: narrowing(filter, "ip", "filter.ip"),
      ...moment(filter, "createTimeFrom", "filter.create_time_from"),
      ...moment(filter, "createTimeTo", "filter.create_time_to"),
      ...moment(filter, "lastAccessTimeFrom", "filter.last_access_time_from"),
      ...moment(filter, "lastAccessTimeTo", "filter.last_access_time_to"),
    },
    orderBy: orders[query.order ?? "newest-first"],
    pageSize,
    pageToken: text(pageToken, "page_token"),
  };
}

/** The oneof that names a session. */
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

/** An empty one would be none, and the call not safe to make again. */
function requestId(value: string): string {
  if (value === "") {
    throw invalidArgument("request_id", "expected an id; leave `requestId` out to have one made");
  }
  return text(value, "request_id");
}

/** A point in time that narrows a list, under the same rule as `narrowing`. */
function moment<K extends string>(
  options: { readonly [key in K]?: Date },
  key: K,
  field: string,
): { [key in K]?: Timestamp } {
  if (!Object.hasOwn(options, key)) {
    return {};
  }
  const value: unknown = options[key];
  if (!(value instanceof Date) || Number.isNaN(value.getTime())) {
    throw invalidArgument(field, `expected a valid Date; leave \`${key}\` out to do without`);
  }
  return { [key]: timestampFromDate(value) } as { [key in K]?: Timestamp };
}

function json(value: JsonObject, field: string): JsonObject {
  checkJsonObject(value, field);
  return value;
}

function clientFrom(client: Partial<ClientInfo>, field: string): ClientInfo {
  return {
    ip: text(client.ip ?? "", `${field}.ip`),
    userAgent: text(client.userAgent ?? "", `${field}.user_agent`),
    device: text(client.device ?? "", `${field}.device`),
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
  return { paths, value: clientFrom(client ?? setClient ?? {}, "client") };
}

function dataUpdate({ data, setData, deleteData }: SessionUpdate): {
  paths: string[];
  value: JsonObject;
} {
  if (data !== undefined) {
    if (setData !== undefined || deleteData !== undefined) {
      throw invalidArgument("data", "expected either data or setData and deleteData");
    }
    return { paths: ["data"], value: json(data, "data") };
  }
  const value = json({ ...setData }, "data");
  const deleted = texts(deleteData ?? [], "data");
  const both = deleted.find((key) => Object.hasOwn(value, key));
  if (both !== undefined) {
    throw invalidArgument(`data.${both}`, "expected to be either set or deleted");
  }
  return { paths: [...Object.keys(value), ...deleted].map((key) => `data.${key}`), value };
}

/** Refused where it is there but says nothing, as `narrowing` does: to ignore it would lift the fence. */
export function fenceFrom(options: UpdateSessionOptions) {
  if (!Object.hasOwn(options, "fence")) {
    return {};
  }
  const { lock, token } = options.fence ?? {};
  if (typeof lock !== "string" || lock === "") {
    throw invalidArgument("fence.lock", "expected the name of a lock");
  }
  if (token === undefined || !Number.isSafeInteger(token)) {
    throw invalidArgument("fence.token", "expected a fencing token");
  }
  return { fence: { lock: text(lock, "fence.lock"), token: BigInt(token) } };
}
