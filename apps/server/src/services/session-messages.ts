import { create } from "@bufbuild/protobuf";
import {
  type CreateSession,
  type Fence,
  invalidArgument,
  type JsonObject,
  type ListSessions,
  type MovedInTimes,
  type RotateToken,
  type Session,
  SessiondError,
  type SessionEvent,
  type SessionEventType,
  type SessionState,
  type SessionTarget,
  sessionIdOfToken,
  type WatchMessage,
} from "@sessiond/core";
import * as pb from "@sessiond/proto/sessiond/v1/session";
import * as rpc from "@sessiond/proto/sessiond/v1/session_service";
import { fromClient } from "./field-masks.js";
import { fromDuration, fromTimestamp, toDuration, toTimestamp } from "./protobuf-time.js";
import { toStatus } from "./rpc-error.js";

// Pure conversions between the messages of SessionService and the domain. An empty string in a
// message is an absent value in the domain.

const STATES = {
  active: pb.SessionState.ACTIVE,
  expired: pb.SessionState.EXPIRED,
  revoked: pb.SessionState.REVOKED,
} as const satisfies Record<SessionState, pb.SessionState>;

const EVENT_TYPES = {
  created: rpc.SessionEventType.CREATED,
  updated: rpc.SessionEventType.UPDATED,
  token_rotated: rpc.SessionEventType.TOKEN_ROTATED,
  token_reused: rpc.SessionEventType.TOKEN_REUSED,
  revoked: rpc.SessionEventType.REVOKED,
  evicted: rpc.SessionEventType.EVICTED,
} as const satisfies Record<SessionEventType, rpc.SessionEventType>;

/** What `create` would make. It is written out, because each verify makes one. */
export function toSessionMessage(session: Session): pb.Session {
  const { ip, userAgent, device } = session.client;
  const { revokeTimeMs, revokeReason = "" } = session;
  return {
    $typeName: "sessiond.v1.Session",
    id: session.id,
    userId: session.userId,
    displayName: session.displayName,
    roles: [...session.roles],
    client: { $typeName: "sessiond.v1.Client", ip, userAgent, device },
    data: session.data,
    createTime: toTimestamp(session.createTimeMs),
    authenticateTime: toTimestamp(session.authenticateTimeMs),
    lastAccessTime: toTimestamp(session.lastAccessTimeMs),
    expireTime: toTimestamp(session.expireTimeMs),
    absoluteExpireTime: toTimestamp(session.absoluteExpireTimeMs),
    tokenCreateTime: toTimestamp(session.tokenCreateTimeMs),
    idleTimeout: toDuration(session.idleTimeoutMs),
    state: STATES[session.state],
    etag: session.etag,
    ...(revokeTimeMs !== undefined && { revokeTime: toTimestamp(revokeTimeMs) }),
    revokeReason,
  };
}

export function toResultMessage(result: Session | SessiondError): rpc.SessionResult {
  return {
    $typeName: "sessiond.v1.SessionResult",
    result:
      result instanceof SessiondError
        ? { case: "error", value: toStatus(result) }
        : { case: "session", value: toSessionMessage(result) },
  };
}

/** Messages that were converted for one watcher, for the others. */
const watchMessages = new WeakMap<WatchMessage, rpc.WatchSessionsResponse>();

/** The same frozen message for the same `message`: hundreds of watchers may get it. */
export function toWatchMessage(message: WatchMessage): rpc.WatchSessionsResponse {
  const known = watchMessages.get(message);
  if (known !== undefined) return known;
  const { resumeToken } = message;
  const init = { resumeToken, message: toWatchPart(message) };
  const made = Object.freeze(create(rpc.WatchSessionsResponseSchema, init));
  watchMessages.set(message, made);
  return made;
}

export function fromCreateRequest(
  request: rpc.CreateSessionRequest,
  caller: string,
): CreateSession {
  const { userId, sessionId, displayName, roles, requestId } = request;
  const { client, data, idleTimeout, lifetime, tokenHash } = request;
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
    ...(tokenHash.length > 0 && { tokenHash }),
    ...fromMovedIn(request),
  };
}

function fromMovedIn(request: rpc.CreateSessionRequest): { movedIn?: MovedInTimes } {
  const { createTime, authenticateTime, expireTime } = request;
  if (!createTime && !authenticateTime && !expireTime) return {};
  const movedIn = {
    ...(createTime && { createTimeMs: fromTimestamp("create_time", createTime) }),
    ...(authenticateTime && {
      authenticateTimeMs: fromTimestamp("authenticate_time", authenticateTime),
    }),
    ...(expireTime && { expireTimeMs: fromTimestamp("expire_time", expireTime) }),
  };
  return { movedIn };
}

export function fromRotateRequest(
  { requestId, grace }: rpc.RotateSessionTokenRequest,
  caller: string,
): RotateToken {
  return {
    caller,
    requestId: fromText(requestId),
    ...(grace && { graceMs: fromDuration("grace", grace) }),
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

/** The fence of an update. The domain refuses impossible tokens. */
export function fromFence(fence: rpc.Fence | undefined): Fence | undefined {
  return fence && { lock: fence.lock, token: Number(fence.token) };
}

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

/** A target's session id. The id in a token proves nothing until the store accepts the token. */
export function sessionIdOfTarget(target: SessionTarget): string | undefined {
  return "sessionId" in target ? target.sessionId : sessionIdOfToken(target.token);
}

/** An optional text. */
export function fromText(text: string): string | undefined {
  return text === "" ? undefined : text;
}

function toWatchPart(message: WatchMessage): rpc.WatchSessionsResponse["message"] {
  switch (message.kind) {
    case "events": {
      const events = message.events.map(toEventMessage);
      return { case: "events", value: create(rpc.SessionEventsSchema, { events }) };
    }
    case "checkpoint": {
      const time = toTimestamp(message.timeMs);
      return { case: "checkpoint", value: create(rpc.WatchCheckpointSchema, { time }) };
    }
    case "reset":
      return { case: "reset", value: create(rpc.WatchResetSchema, { reason: message.reason }) };
  }
}

function toEventMessage(event: SessionEvent): rpc.SessionEvent {
  return create(rpc.SessionEventSchema, {
    type: EVENT_TYPES[event.type],
    sessionId: event.sessionId,
    userId: event.userId,
    time: toTimestamp(event.timeMs),
    version: BigInt(event.version),
    ...(event.reason !== undefined && { reason: event.reason }),
    changedBy: event.changedBy,
  });
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
