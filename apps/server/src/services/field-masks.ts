import { create } from "@bufbuild/protobuf";
import type { FieldMask } from "@bufbuild/protobuf/wkt";
import {
  invalidArgument,
  type JsonObject,
  type JsonValue,
  quote,
  type SessionClient,
  type SessionUpdate,
} from "@sessiond/core";
import * as pb from "@sessiond/proto/sessiond/v1/session";
import type * as rpc from "@sessiond/proto/sessiond/v1/session_service";

// Masks say which fields an update sets, and which fields an answer has.

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

/** Throws INVALID_ARGUMENT if the mask has no path, or a path that cannot be set. */
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

/**
 * Makes a function that keeps only the fields of a read mask. Throws INVALID_ARGUMENT for a path
 * that Session does not have.
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
 * Refuses data keys that a mask with single keys does not name. JSON changes the spelling of a path
 * with capitals, so we would silently lose its value. The message does not repeat the key: messages
 * are logged, data is not.
 */
function checkDataKeysNamed(data: object, named: ReadonlyMap<string, JsonValue | undefined>): void {
  if (named.size === 0 || Object.keys(data).every((key) => named.has(key))) return;
  throw invalidArgument(
    "update_mask",
    "session.data has a key that no path names; " +
      "in JSON, replace data as a whole if a key has capitals",
  );
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

export function fromClient({ ip, userAgent, device }: pb.Client): SessionClient {
  return { ip, userAgent, device };
}
