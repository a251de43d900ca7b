import { create } from "@bufbuild/protobuf";
import { durationFromMs, type FieldMask, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type CreateSession,
  type Fence,
  invalidArgument,
  type JsonObject,
  type JsonValue,
  type ListSessions,
  parseSessionToken,
  type Session,
  type SessionClient,
  SessiondError,
  type SessionEvent,
  type SessionEventType,
  type SessionState,
  type SessionTarget,
  type SessionUpdate,
  type WatchMessage,
} from "@sessiond/core";
import * as pb from "@sessiond/proto/sessiond/v1/session";
import * as rpc from "@sessiond/proto/sessiond/v1/session_service";
import { toStatus } from "./rpc-error.js";
import { fromDuration, fromTimestamp } from "./wire-time.js";

// Pure conversions between the messages of the contract and the domain. An empty
// string on the wire is an absent value in the domain.

const STATES = {
  active: pb.SessionState.ACTIVE,
  expired: pb.SessionState.EXPIRED,
  revoked: pb.SessionState.REVOKED,
} as const satisfies Record<SessionState, pb.SessionState>;

const EVENT_TYPES = {
  created: rpc.SessionEventType.CREATED,
  updated: rpc.SessionEventType.UPDATED,
  token_rotated: rpc.SessionEventType.TOKEN_ROTATED,
  revoked: rpc.SessionEventType.REVOKED,
  evicted: rpc.SessionEventType.EVICTED,
} as const satisfies Record<SessionEventType, rpc.SessionEventType>;

export function toSessionMessage(session: Session): pb.Session {
  return create(pb.SessionSchema, {
    id: session.id,
    userId: session.userId,
    displayName: session.displayName,
    roles: [...session.roles],
    client: session.client,
    data: session.data,
    createTime: timestampFromMs(session.createTimeMs),
    authenticateTime: timestampFromMs(session.authenticateTimeMs),
    lastAccessTime: timestampFromMs(session.lastAccessTimeMs),
    expireTime: timestampFromMs(session.expireTimeMs),
    absoluteExpireTime: timestampFromMs(session.absoluteExpireTimeMs),
    idleTimeout: durationFromMs(session.idleTimeoutMs),
    state: STATES[session.state],
    etag: session.etag,
    ...(session.revokeTimeMs !== undefined && {
      revokeTime: timestampFromMs(session.revokeTimeMs),
    }),
    ...(session.revokeReason !== undefined && { revokeReason: session.revokeReason }),
  });
}

export function toResultMessage(result: Session | SessiondError): rpc.SessionResult {
  return create(rpc.SessionResultSchema, {
    result:
      result instanceof SessiondError
        ? { case: "error", value: toStatus(result) }
        : { case: "session", value: toSessionMessage(result) },
  });
}

export function toWatchMessage(message: WatchMessage): rpc.WatchSessionsResponse {
  const { resumeToken } = message;
  return create(rpc.WatchSessionsResponseSchema, { resumeToken, message: toWatchPart(message) });
}

export function fromCreateRequest(
  request: rpc.CreateSessionRequest,
  caller: string,
): CreateSession {
  const { userId, sessionId, displayName, roles, requestId } = request;
  const { client, data, idleTimeout, lifetime } = request;
  return {
    caller,
    userId,
    displayName,
    roles,
    ...(sessionId !== "" && { sessionId }),
    ...(requestId !== "" && { requestId }),
    ...(client && { client: fromClient(client) }),
    ...(data && { data: data as JsonObject }),
    ...(idleTimeout && { idleTimeoutMs: fromDuration("idle_timeout", idleTimeout) }),
    ...(lifetime && { lifetimeMs: fromDuration("lifetime", lifetime) }),
  };
}

export function fromListRequest(request: rpc.ListSessionsRequest): ListSessions {
  const { userId, showExpired, showRevoked, filter, orderBy, pageSize, pageToken } = request;
  return {
    showExpired,
    showRevoked,
    pageSize,
    order: fromOrderBy(orderBy),
    ...(userId !== "" && { userId }),
    ...(pageToken !== "" && { pageToken }),
    ...(filter && fromFilter(filter)),
  };
}

export function fromUpdateRequest(request: rpc.UpdateSessionRequest): SessionUpdate {
  const { session = create(pb.SessionSchema), updateMask } = request;
  const { client, data = {} } = session;
  const paths = updateMask?.paths ?? [];
  if (paths.length === 0) {
    throw invalidArgument("update_mask", `expected at least one of ${UPDATE_PATHS}`);
  }

  const dataKeys = new Map<string, JsonValue | undefined>();
  let update: Omit<SessionUpdate, "dataKeys"> = {};
  for (const path of paths) {
    if (path.startsWith(DATA_PREFIX) && path.length > DATA_PREFIX.length) {
      const key = path.slice(DATA_PREFIX.length);
      dataKeys.set(key, Object.hasOwn(data, key) ? (data as JsonObject)[key] : undefined);
      continue;
    }
    update = { ...update, ...fromUpdatePath(path, session, client, update) };
  }
  if (update.data === undefined) checkDataKeysNamed(data, dataKeys);
  return { ...update, dataKeys };
}

/** The fence of an update. A token that no acquisition can have had is left for the domain to refuse. */
export function fromFence(fence: rpc.Fence | undefined): Fence | undefined {
  return fence && { lock: fence.lock, token: Number(fence.token) };
}

/** The session that a request names by id or proves by token. */
export function fromTarget(
  target: rpc.RefreshSessionRequest["target"] | rpc.RevokeSessionRequest["target"],
): SessionTarget {
  switch (target.case) {
    case "sessionId":
      return { sessionId: target.value };
    case "token":
      return { token: target.value };
    default:
      throw invalidArgument("session_id", "expected a session_id or a token");
  }
}

/** The id of a target's session. That in a token proves nothing until the token has been accepted. */
export function sessionIdOfTarget(target: SessionTarget): string | undefined {
  return "sessionId" in target ? target.sessionId : parseSessionToken(target.token)?.sessionId;
}

/** An optional text: empty on the wire where it is absent. */
export function fromText(text: string): string | undefined {
  return text === "" ? undefined : text;
}

/**
 * Makes a function that keeps the fields a read mask names. Throws
 * INVALID_ARGUMENT for a path that Session does not have.
 */
export function readMaskOf(mask: FieldMask | undefined): (session: pb.Session) => pb.Session {
  const paths = mask?.paths ?? [];
  if (paths.length === 0) return (session) => session;
  const unknown = paths.find((path) => !READ_PATHS.has(path));
  if (unknown !== undefined) {
    throw invalidArgument("read_mask", `Session has no field ${quote(unknown)}`);
  }
  return (session) => {
    const masked = create(pb.SessionSchema);
    for (const path of paths) copyPath(path, session, masked);
    return masked;
  };
}

function toWatchPart(message: WatchMessage): rpc.WatchSessionsResponse["message"] {
  switch (message.kind) {
    case "events": {
      const events = message.events.map(toEventMessage);
      return { case: "events", value: create(rpc.SessionEventsSchema, { events }) };
    }
    case "checkpoint": {
      const time = timestampFromMs(message.timeMs);
      return { case: "checkpoint", value: create(rpc.WatchCheckpointSchema, { time }) };
    }
    case "reset": {
      const { reason } = message;
      return { case: "reset", value: create(rpc.WatchResetSchema, { reason }) };
    }
  }
}

function toEventMessage(event: SessionEvent): rpc.SessionEvent {
  return create(rpc.SessionEventSchema, {
    type: EVENT_TYPES[event.type],
    sessionId: event.sessionId,
    userId: event.userId,
    time: timestampFromMs(event.timeMs),
    version: BigInt(event.version),
    ...(event.reason !== undefined && { reason: event.reason }),
  });
}

const MAX_QUOTED_LENGTH = 64;
const DATA_PREFIX = "data.";
const CLIENT_PREFIX = "client.";
const UPDATE_PATHS =
  "display_name, roles, client, client.ip, client.user_agent, client.device, data, data.<key>";

const SESSION_FIELDS = new Map(pb.SessionSchema.fields.map((field) => [field.name, field]));
const CLIENT_FIELDS = new Map(pb.ClientSchema.fields.map((field) => [field.name, field]));
const READ_PATHS: ReadonlySet<string> = new Set([
  ...SESSION_FIELDS.keys(),
  ...[...CLIENT_FIELDS.keys()].map((name) => CLIENT_PREFIX + name),
]);

function fromUpdatePath(
  path: string,
  session: pb.Session,
  client: pb.Client | undefined,
  update: SessionUpdate,
): SessionUpdate {
  switch (path) {
    case "display_name":
      return { displayName: session.displayName };
    case "roles":
      return { roles: session.roles };
    case "data":
      return { data: (session.data ?? {}) as JsonObject };
    case "client":
      return { client: fromClient(client ?? create(pb.ClientSchema)) };
    case "client.ip":
      return { client: { ...update.client, ip: client?.ip ?? "" } };
    case "client.user_agent":
      return { client: { ...update.client, userAgent: client?.userAgent ?? "" } };
    case "client.device":
      return { client: { ...update.client, device: client?.device ?? "" } };
    default:
      throw invalidArgument("update_mask", `unknown path ${quote(path)}; expected ${UPDATE_PATHS}`);
  }
}

/**
 * Refuses data that the mask does not name where it names single keys: over JSON
 * a key with capitals arrives in another spelling, and would be lost in silence.
 * The message does not repeat the key, since messages are logged and data is not.
 */
function checkDataKeysNamed(data: object, named: ReadonlyMap<string, JsonValue | undefined>): void {
  if (named.size === 0 || Object.keys(data).every((key) => named.has(key))) return;
  throw invalidArgument(
    "update_mask",
    "session.data has a key that no path names; " +
      "in JSON, replace data as a whole if a key has capitals",
  );
}

/**
 * A caller's text within a message. Cut, because gRPC carries messages in a
 * header, and one that is too long for the client ends its whole connection.
 */
function quote(text: string): string {
  const cut = text.length > MAX_QUOTED_LENGTH ? `${text.slice(0, MAX_QUOTED_LENGTH)}…` : text;
  return JSON.stringify(cut.toWellFormed());
}

function copyPath(path: string, from: pb.Session, to: pb.Session): void {
  if (!path.startsWith(CLIENT_PREFIX)) {
    copyField(SESSION_FIELDS.get(path)?.localName, from, to);
    return;
  }
  to.client ??= create(pb.ClientSchema);
  const field = CLIENT_FIELDS.get(path.slice(CLIENT_PREFIX.length));
  copyField(field?.localName, from.client ?? create(pb.ClientSchema), to.client);
}

function copyField<T extends object>(name: string | undefined, from: T, to: T): void {
  Object.assign(to, { [name ?? ""]: from[name as keyof T] });
}

function fromClient({ ip, userAgent, device }: pb.Client): SessionClient {
  return { ip, userAgent, device };
}

function fromOrderBy(orderBy: string): "asc" | "desc" {
  switch (orderBy.trim().replace(/\s+/g, " ")) {
    case "":
    case "create_time desc":
      return "desc";
    case "create_time":
    case "create_time asc":
      return "asc";
    default:
      throw invalidArgument("order_by", 'expected "create_time" or "create_time desc"');
  }
}

function fromFilter(filter: rpc.SessionFilter): ListSessions {
  const { role, ip, createTimeFrom, createTimeTo, lastAccessTimeFrom, lastAccessTimeTo } = filter;
  return {
    ...(role !== "" && { role }),
    ...(ip !== "" && { ip }),
    ...(createTimeFrom && {
      createTimeFromMs: fromTimestamp("filter.create_time_from", createTimeFrom),
    }),
    ...(createTimeTo && { createTimeToMs: fromTimestamp("filter.create_time_to", createTimeTo) }),
    ...(lastAccessTimeFrom && {
      lastAccessTimeFromMs: fromTimestamp("filter.last_access_time_from", lastAccessTimeFrom),
    }),
    ...(lastAccessTimeTo && {
      lastAccessTimeToMs: fromTimestamp("filter.last_access_time_to", lastAccessTimeTo),
    }),
  };
}
