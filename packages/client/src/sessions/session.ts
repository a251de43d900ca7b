import type { JsonObject } from "@bufbuild/protobuf";
import { durationMs, timestampDate } from "@bufbuild/protobuf/wkt";
import type { Session as WireSession } from "@sessiond/proto/sessiond/v1/session";
import { SessionState as WireState } from "@sessiond/proto/sessiond/v1/session";
import type { SessionResult as WireResult } from "@sessiond/proto/sessiond/v1/session_service";
import { invalidArgument, malformedAnswer, type SessiondError } from "../error.js";
import { dateFrom, present } from "../rpc/fields.js";
import { errorFromStatus } from "../rpc/received-error.js";

/** One login of one user, as it was when the server answered. */
export interface Session {
  /** Names the session; never a credential, so it may stand in logs. */
  readonly id: string;
  readonly userId: string;
  readonly displayName: string;
  readonly roles: readonly string[];
  readonly client: ClientInfo;
  readonly data: JsonObject;
  readonly createTime: Date;

  /** When the user last proved who they are: at creation or when the token was rotated. */
  readonly authenticateTime: Date;

  /** The last activity recorded; it may lag behind by a tenth of the idle timeout. */
  readonly lastAccessTime: Date;

  /** The session is alive before this moment and gone from it on, unless activity moves it. */
  readonly expireTime: Date;

  /** When the session ends whatever happens. */
  readonly absoluteExpireTime: Date;

  /** How long the session lives without activity, in milliseconds. */
  readonly idleTimeoutMs: number;
  readonly state: SessionState;

  /** Changes with every change but mere activity; for conditional updates. */
  readonly etag: string;

  /** Set on a revoked session only. */
  readonly revokeTime?: Date | undefined;

  /** Set on a revoked session only, if a reason was given. */
  readonly revokeReason?: string | undefined;
}

export type SessionState = "active" | "expired" | "revoked";

/** Where a user logged in from. What is not known is empty. */
export interface ClientInfo {
  /** An IPv4 or IPv6 address without a port. */
  readonly ip: string;
  readonly userAgent: string;
  readonly device: string;
}

/**
 * The outcome for one session of a batch: either the session or the error that
 * the call for this session alone would have met, such as SESSION_NOT_FOUND.
 */
export type SessionResult<S = Session> =
  | { readonly session: S; readonly error?: undefined }
  | { readonly session?: undefined; readonly error: SessiondError };

/** A session just created. */
export interface CreatedSession {
  readonly session: Session;

  /** The credential to hand to the user; the server keeps only a hash of it. */
  readonly token: string;

  /** The sessions of the same user that had to go to stay within the limit. */
  readonly evictedSessionIds: readonly string[];
}

/** A session whose token was just replaced. */
export interface RotatedSession {
  readonly session: Session;

  /** The new credential; the old one is refused from now on. */
  readonly token: string;
}

/** One page of a list. */
export interface SessionPage {
  readonly sessions: readonly Session[];

  /** Sessions that belong on this page but whose records cannot be unsealed. */
  readonly unreadableSessionIds: readonly string[];

  /** Where the next page begins; undefined on the last page, which alone ends the list. */
  readonly nextPageToken: string | undefined;
}

/** How each field is read from the wire. */
const readers = {
  id: (session) => session.id,
  userId: (session) => session.userId,
  displayName: (session) => session.displayName,
  roles: (session) => session.roles,
  client: ({ client }) => ({
    ip: client?.ip ?? "",
    userAgent: client?.userAgent ?? "",
    device: client?.device ?? "",
  }),
  data: (session) => session.data ?? {},
  createTime: (session) => dateFrom(session.createTime, "create_time"),
  authenticateTime: (session) => dateFrom(session.authenticateTime, "authenticate_time"),
  lastAccessTime: (session) => dateFrom(session.lastAccessTime, "last_access_time"),
  expireTime: (session) => dateFrom(session.expireTime, "expire_time"),
  absoluteExpireTime: (session) => dateFrom(session.absoluteExpireTime, "absolute_expire_time"),
  idleTimeoutMs: (session) => durationMs(present(session.idleTimeout, "idle_timeout")),
  state: (session) => stateFrom(session.state),
  etag: (session) => session.etag,
  revokeTime: (session) =>
    session.revokeTime === undefined ? undefined : timestampDate(session.revokeTime),
  revokeReason: (session) => (session.revokeReason === "" ? undefined : session.revokeReason),
} satisfies { [F in keyof Required<Session>]: (session: WireSession) => Session[F] };

/** A field of a session, such as `roles`. */
export type SessionField = keyof typeof readers;

/** How the wire names each field. */
const wireNames = {
  id: "id",
  userId: "user_id",
  displayName: "display_name",
  roles: "roles",
  client: "client",
  data: "data",
  createTime: "create_time",
  authenticateTime: "authenticate_time",
  lastAccessTime: "last_access_time",
  expireTime: "expire_time",
  absoluteExpireTime: "absolute_expire_time",
  idleTimeoutMs: "idle_timeout",
  state: "state",
  etag: "etag",
  revokeTime: "revoke_time",
  revokeReason: "revoke_reason",
} satisfies Record<SessionField, string>;

/** The read mask that asks for these fields alone. Throws INVALID_ARGUMENT for any other name. */
export function readMask(fields: readonly SessionField[]): { paths: string[] } {
  for (const field of fields) {
    if (!Object.hasOwn(wireNames, field)) {
      throw invalidArgument("read_mask", "expected names of a session's fields");
    }
  }
  return { paths: fields.map((field) => wireNames[field]) };
}

const ALL_FIELDS = Object.keys(readers) as SessionField[];

/**
 * The session of an answer, with the fields that were asked for, or all of them.
 * Throws INTERNAL if one is missing that a server always sends.
 */
export function sessionFrom(session: WireSession | undefined): Session;
export function sessionFrom<F extends SessionField>(
  session: WireSession | undefined,
  fields: readonly F[] | undefined,
): Pick<Session, F>;
export function sessionFrom(
  session: WireSession | undefined,
  fields: readonly SessionField[] = ALL_FIELDS,
): unknown {
  const source = present(session, "session");
  return Object.fromEntries(fields.map((field) => [field, readers[field](source)]));
}

/**
 * The results of a batch, one per session asked for and in the same order.
 * Throws INTERNAL if their number differs: an answer that cannot be matched to
 * the questions must not vouch for any session.
 */
export function resultsFrom<F extends SessionField = SessionField>(
  results: readonly WireResult[],
  expected: number,
  fields?: readonly F[],
): SessionResult<Pick<Session, F>>[] {
  if (results.length !== expected) {
    throw malformedAnswer(`${results.length} results for ${expected} sessions`);
  }
  return results.map(({ result }) => {
    switch (result.case) {
      case "session":
        return { session: sessionFrom(result.value, fields) };
      case "error":
        return { error: errorFromStatus(result.value) };
      default:
        throw malformedAnswer("a result with neither session nor error");
    }
  });
}

/** A state this package does not know must not pass for an active session. */
function stateFrom(state: WireState): SessionState {
  switch (state) {
    case WireState.ACTIVE:
      return "active";
    case WireState.EXPIRED:
      return "expired";
    case WireState.REVOKED:
      return "revoked";
    default:
      throw malformedAnswer(`session state ${state} is not known`);
  }
}
