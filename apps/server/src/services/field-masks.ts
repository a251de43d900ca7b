import { create } from "@bufbuild/protobuf";
import type { FieldMask } from "@bufbuild/protobuf/wkt";
import {
  invalidArgument,
  type JsonObject,
  quote,
  type SessionClient,
  type SessionUpdate,
  withoutSecrets,
} from "@sessiond/core";
import * as pb from "@sessiond/proto/sessiond/v1/session";
import type * as rpc from "@sessiond/proto/sessiond/v1/session_service";

// Masks say which fields an update sets, and which fields an answer has.

const DATA_PREFIX = "data.";
const CLIENT_PREFIX = "client.";
const UPDATE_PATHS =
  "display_name, roles, client, client.ip, client.user_agent, client.device, data";

const SESSION_FIELDS = new Map(pb.SessionSchema.fields.map((field) => [field.name, field]));
const CLIENT_FIELDS = new Map(pb.ClientSchema.fields.map((field) => [field.name, field]));
const READ_PATHS: ReadonlySet<string> = new Set([
  ...SESSION_FIELDS.keys(),
  ...[...CLIENT_FIELDS.keys()].map((name) => CLIENT_PREFIX + name),
]);

/** Throws INVALID_ARGUMENT if the request changes nothing, or the mask has a path of no field. */
export function fromUpdateRequest(request: rpc.UpdateSessionRequest): SessionUpdate {
  const { session = create(pb.SessionSchema), updateMask, setData, deleteData } = request;
  const paths = updateMask?.paths ?? [];
  if (paths.length === 0 && setData === undefined && deleteData.length === 0) {
    const expected = `expected at least one of ${UPDATE_PATHS}; or set_data, or delete_data`;
    throw invalidArgument("update_mask", expected);
  }
  let update: SessionUpdate = {
    ...(setData && { setData: setData as JsonObject }),
    ...(deleteData.length > 0 && { deleteData }),
  };
  for (const path of paths) {
    update = { ...update, ...fromUpdatePath(path, session, session.client, update) };
  }
  return update;
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
    throw invalidArgument("read_mask", `Session has no field ${quote(withoutSecrets(unknown))}`);
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
      throw invalidArgument("update_mask", unknownPath(path));
  }
}

/** Does not repeat a key of data: messages are logged, data is not. */
function unknownPath(path: string): string {
  return path.startsWith(DATA_PREFIX)
    ? "unknown path below data; set single keys with set_data, delete them with delete_data"
    : `unknown path ${quote(withoutSecrets(path))}; expected ${UPDATE_PATHS}`;
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
