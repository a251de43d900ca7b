import { randomUUID } from "node:crypto";
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import type {
  CreateSessionRequestSchema,
  RevokeSessionRequestSchema,
  UpdateSessionRequestSchema,
} from "@sessiond/proto/sessiond/v1/session_service";
import { invalidArgument } from "../error.js";
import { known, type NamesOf } from "../known-names.js";
import { duration, narrowing, text, texts, timestamp } from "../rpc/fields.js";
import { credentialHashFrom } from "./credential.js";
import { jsonObject } from "./json.js";
import type { ClientInfo } from "./session.js";
import type { Fence, RevokeSessionOptions, UpdateSessionOptions } from "./session-options.js";
import { type PresentedToken, sendableToken } from "./session-token.js";

/** A session to create. The server has the limits of each field. */
export interface NewSession<Data extends object = JsonObject> {
  userId: string;

  /**
   * An id that the caller chooses, such as a JWT's `jti`. The call fails with
   * SESSION_ALREADY_EXISTS if it is taken. Default: the server makes one.
   */
  sessionId?: string;
  displayName?: string | undefined;
  roles?: readonly string[] | undefined;
  client?: Partial<ClientInfo> | undefined;
  data?: Data | undefined;

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

  /**
   * Moves a session of another system in, together with the credential that its user has: the
   * SHA-256 of the credential, as bytes or in base64url. `hashCredential` makes it. The server
   * then makes no token, and every method takes the credential as the token.
   *
   * The session's id follows from the hash, so there must be no `sessionId`. The call fails with
   * SESSION_ALREADY_EXISTS if the session has moved in already.
   */
  tokenHash?: Uint8Array | string;

  /** When a session that moves in began. `lifetimeMs` counts from this time. Default: now. */
  createTime?: Date | undefined;

  /** When the user of a session that moves in last proved their identity. Default: `createTime`. */
  authenticateTime?: Date | undefined;

  /**
   * When a session that moves in ends without further activity: in the future, and at most
   * `idleTimeoutMs` from now. Default: `idleTimeoutMs` from now.
   */
  expireTime?: Date | undefined;
}

/**
 * The changes of a session. All else stays as it is, also under concurrent updates. A plain name
 * replaces a field as a whole; `set…` and `delete…` change single entries of it. Use only one of
 * both for a field.
 */
export interface SessionUpdate<Data extends object = JsonObject> {
  displayName?: string | undefined;
  roles?: readonly string[] | undefined;

  /** Replaces all client information: the server forgets what is left out. */
  client?: Partial<ClientInfo> | undefined;

  /** Changes only the given client information. */
  setClient?: Partial<ClientInfo> | undefined;

  /** Replaces all data. */
  data?: Data | undefined;

  /** Sets single top-level keys of the data. Any string is a key, dots included. */
  setData?: Readonly<Partial<Data>> | undefined;

  /** Removes single top-level keys of the data. A missing key is no error. */
  deleteData?: readonly Extract<keyof Data, string>[] | undefined;
}

/** Names one session by its id or by its token. */
export type SessionTarget =
  | { readonly sessionId: string; readonly token?: undefined }
  | { readonly token: PresentedToken; readonly sessionId?: undefined };

const clientPaths = {
  ip: "client.ip",
  userAgent: "client.user_agent",
  device: "client.device",
} satisfies Record<keyof ClientInfo, string>;

const NEW_SESSION = {
  userId: true,
  sessionId: true,
  displayName: true,
  roles: true,
  client: true,
  data: true,
  idleTimeoutMs: true,
  lifetimeMs: true,
  requestId: true,
  tokenHash: true,
  createTime: true,
  authenticateTime: true,
  expireTime: true,
} satisfies NamesOf<NewSession>;

const UPDATE = {
  displayName: true,
  roles: true,
  client: true,
  setClient: true,
  data: true,
  setData: true,
  deleteData: true,
} satisfies NamesOf<SessionUpdate>;

const FENCE = { lock: true, token: true } satisfies NamesOf<Fence>;
const TARGET = { sessionId: true, token: true } satisfies NamesOf<SessionTarget>;

export function createRequest<Data extends object>(
  session: NewSession<Data>,
): MessageInitShape<typeof CreateSessionRequestSchema> {
  known(session, NEW_SESSION, { argument: "session" });
  const { client, data, idleTimeoutMs, lifetimeMs } = session;
  const { tokenHash, createTime, authenticateTime, expireTime } = session;
  return {
    userId: text(session.userId, "user_id"),
    sessionId: narrowing(session, "sessionId", "session_id"),
    displayName: text(session.displayName ?? "", "display_name"),
    roles: texts(session.roles ?? [], "roles"),
    client: given(client, (value) => clientFrom(value, "client")),
    data: given(data, (value) => jsonObject(value, "data")),
    idleTimeout: given(idleTimeoutMs, (value) => duration(value, "idle_timeout")),
    lifetime: given(lifetimeMs, (value) => duration(value, "lifetime")),
    requestId: requestIdFrom(session),
    // A hash that is missing by mistake must not make a session with a token.
    ...(Object.hasOwn(session, "tokenHash") && { tokenHash: credentialHashFrom(tokenHash) }),
    createTime: given(createTime, (value) => timestamp(value, "create_time")),
    authenticateTime: given(authenticateTime, (value) => timestamp(value, "authenticate_time")),
    expireTime: given(expireTime, (value) => timestamp(value, "expire_time")),
  };
}

export function updateRequest<Data extends object>(
  sessionId: string,
  update: SessionUpdate<Data>,
  options: UpdateSessionOptions = {},
): MessageInitShape<typeof UpdateSessionRequestSchema> {
  return {
    sessionId: text(sessionId, "session_id"),
    userId: narrowing(options, "userId", "user_id"),
    etag: narrowing(options, "etag", "etag"),
    ...fenceFrom(options),
    ...changesFrom(update),
  };
}

/** The new values, and the mask that names the fields to replace. */
function changesFrom<Data extends object>(
  update: SessionUpdate<Data>,
): Pick<
  MessageInitShape<typeof UpdateSessionRequestSchema>,
  "session" | "updateMask" | "setData" | "deleteData"
> {
  known(update, UPDATE, { argument: "update" });
  const { displayName, roles, data } = update;
  const client = clientUpdate(update);
  const { setData, deleteData } = dataUpdate(update);
  const paths = [
    ...(displayName === undefined ? [] : ["display_name"]),
    ...(roles === undefined ? [] : ["roles"]),
    ...client.paths,
    ...(data === undefined ? [] : ["data"]),
  ];
  if (paths.length + Object.keys(setData).length + deleteData.length === 0) {
    throw invalidArgument("update_mask", "expected something to update");
  }
  return {
    session: {
      displayName: text(displayName ?? "", "display_name"),
      roles: texts(roles ?? [], "roles"),
      client: client.value,
      data: given(data, (value) => jsonObject(value, "data")),
    },
    updateMask: { paths },
    setData,
    deleteData,
  };
}

type RequestTarget = { case: "sessionId"; value: string } | { case: "token"; value: string };

/** The oneof of the contract that names a session, or undefined if it can be no session's token. */
export function targetFrom(target: SessionTarget): RequestTarget | undefined {
  const { sessionId, token } = known(target, TARGET, { argument: "target" });
  if (sessionId === undefined ? !Object.hasOwn(target, "token") : token !== undefined) {
    throw invalidArgument("target", "expected either sessionId or token");
  }
  if (sessionId !== undefined) return { case: "sessionId", value: text(sessionId, "session_id") };
  const value = sendableToken(token, "token");
  return value === undefined ? undefined : { case: "token", value };
}

/** Undefined if the target can be no session's token. */
export function revokeRequest(
  target: SessionTarget,
  options: RevokeSessionOptions,
): MessageInitShape<typeof RevokeSessionRequestSchema> | undefined {
  const named = targetFrom(target);
  const userId = narrowing(options, "userId", "user_id");
  if (userId !== "" && named?.case !== "sessionId") {
    throw invalidArgument("user_id", "expected only with a sessionId");
  }
  return named && { target: named, userId, reason: text(options.reason ?? "", "reason") };
}

/** Refuses an empty id: the contract reads it as no id, so the call would not be repeatable. */
export function requestIdFrom({ requestId = randomUUID() }: { requestId?: string | undefined }) {
  if (requestId === "") {
    throw invalidArgument("request_id", "expected an id; leave `requestId` out to have one made");
  }
  return text(requestId, "request_id");
}

/** What `read` makes of a value, or undefined if there is none. */
function given<T, R>(value: T | undefined, read: (value: T) => R): R | undefined {
  return value === undefined ? undefined : read(value);
}

function clientFrom(client: Partial<ClientInfo>, argument: string): ClientInfo {
  known(client, clientPaths, { argument, prefix: `${argument}.` });
  return {
    ip: text(client.ip ?? "", clientPaths.ip),
    userAgent: text(client.userAgent ?? "", clientPaths.userAgent),
    device: text(client.device ?? "", clientPaths.device),
  };
}

function clientUpdate(update: Pick<SessionUpdate, "client" | "setClient">): {
  paths: string[];
  value: ClientInfo;
} {
  const { client, setClient = {} } = update;
  if (client !== undefined && update.setClient !== undefined) {
    throw invalidArgument("client", "expected either client or setClient");
  }
  if (client !== undefined) return { paths: ["client"], value: clientFrom(client, "client") };
  const keys = Object.keys(clientPaths) as (keyof ClientInfo)[];
  const paths = keys.filter((key) => setClient[key] !== undefined).map((key) => clientPaths[key]);
  return { paths, value: clientFrom(setClient, "setClient") };
}

function dataUpdate<Data extends object>(
  update: SessionUpdate<Data>,
): { setData: JsonObject; deleteData: string[] } {
  const { data, setData = {}, deleteData = [] } = update;
  if (data !== undefined && (update.setData !== undefined || update.deleteData !== undefined)) {
    throw invalidArgument("data", "expected either data or setData and deleteData");
  }
  const changes = {
    setData: jsonObject(setData, "set_data"),
    deleteData: texts(deleteData, "delete_data"),
  };
  const both = changes.deleteData.find((key) => Object.hasOwn(changes.setData, key));
  if (both === undefined) return changes;
  throw invalidArgument(`delete_data.${both}`, "expected to be either set or deleted");
}

/** Follows the rule of `narrowing`: to ignore a fence without a value would lift the fence. */
function fenceFrom(options: UpdateSessionOptions) {
  if (!Object.hasOwn(options, "fence")) return {};
  const { fence = {} } = options;
  const { lock, token }: Partial<Fence> = known(fence, FENCE, {
    argument: "fence",
    prefix: "fence.",
  });
  if (typeof lock !== "string" || lock === "") {
    throw invalidArgument("fence.lock", "expected the name of a lock");
  }
  if (token === undefined || !Number.isSafeInteger(token)) {
    throw invalidArgument("fence.token", "expected a fencing token");
  }
  return { fence: { lock: text(lock, "fence.lock"), token: BigInt(token) } };
}
