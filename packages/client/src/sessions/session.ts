import type { JsonObject } from "@bufbuild/protobuf";
import { durationMs, timestampDate } from "@bufbuild/protobuf/wkt";
import {
  type Session as ProtoSession,
  SessionState as ProtoState,
  SessionSchema,
} from "@sessiond/proto/sessiond/v1/session";
import type {
  CreateSessionResponse,
  SessionResult as ProtoResult,
  UpdateSessionResponse,
} from "@sessiond/proto/sessiond/v1/session_service";
import { invalidArgument, malformedAnswer, type SessiondError } from "../error.js";
import { dateFrom, present } from "../rpc/fields.js";
import { errorFromStatus } from "../rpc/received-error.js";

/**
 * One login of one user, as it was when the server answered.
 *
 * `Data` is what the application promises to keep in `data`. Nobody checks the promise: a session
 * that another program or an earlier version created has the data that it was given.
 */
export interface Session<Data extends object = JsonObject> {
  /** Names the session. It is no credential, so it may appear in logs. */
  readonly id: string;
  readonly userId: string;
  readonly displayName: string;
  readonly roles: readonly string[];
  readonly client: ClientInfo;
  readonly data: Data;
  readonly createTime: Date;

  /**
   * When the user last proved their identity: at the creation, or when the token was rotated
   * without a grace.
   */
  readonly authenticateTime: Date;

  /** When the token was made: at the creation, or when the token was rotated. */
  readonly tokenCreateTime: Date;

  /** The last recorded activity. It may lag behind by a tenth of the idle timeout. */
  readonly lastAccessTime: Date;

  /** The session is active before this time and expired from it on. Activity moves it. */
  readonly expireTime: Date;

  /** When the session ends at the latest. Activity does not move it. */
  readonly absoluteExpireTime: Date;

  /** How long the session lives without activity, in milliseconds. */
  readonly idleTimeoutMs: number;
  readonly state: SessionState;

  /** For conditional updates. Every change but mere activity gives the session a new etag. */
  readonly etag: string;

  /** Only on a revoked session. */
  readonly revokeTime?: Date | undefined;

  /** Only on a revoked session whose revocation had a reason. */
  readonly revokeReason?: string | undefined;
}

export type SessionState = "active" | "expired" | "revoked";

/** Where a user logged in from. Unknown values are empty. */
export interface ClientInfo {
  /** An IPv4 or IPv6 address without a port. */
  readonly ip: string;
  readonly userAgent: string;
  readonly device: string;
}

/**
 * The result for one session of a batch: the session, or the error of a call for this session
 * alone, such as SESSION_NOT_FOUND.
 */
export type SessionResult<S = Session> =
  | { readonly session: S; readonly error?: undefined }
  | { readonly session?: undefined; readonly error: SessiondError };

/** A new session. */
export interface CreatedSession<Data extends object = JsonObject> {
  readonly session: Session<Data>;

  /**
   * The credential to hand to the user. The server keeps only its hash. Empty for a session that
   * moved in with a `tokenHash`: the user has the credential already.
   */
  readonly token: string;

  /** The user's other sessions that the server ended to stay within the limit. */
  readonly evictedSessionIds: readonly string[];

  /** What the server changed in the descriptions that it was given. */
  readonly notices: readonly Notice[];
}

/** A session after an update. */
export interface UpdatedSession<Data extends object = JsonObject> {
  readonly session: Session<Data>;

  /** What the server changed in the descriptions that it was given. */
  readonly notices: readonly Notice[];
}

/**
 * A change to what merely describes a session, which never fails a call: the server cuts a text to
 * its limit, and leaves an address empty that is none.
 */
export interface Notice {
  /** The field as the RPC contract names it, such as `client.user_agent`. */
  readonly field: string;

  /** For people. The wording may change. */
  readonly description: string;
}

/** A session with a new token. */
export interface RotatedSession<Data extends object = JsonObject> {
  readonly session: Session<Data>;

  /** The new credential. */
  readonly token: string;
}

/** One page of a list. */
export interface SessionPage<Data extends object = JsonObject> {
  readonly sessions: readonly Session<Data>[];

  /** Sessions that belong on this page but whose records the server cannot unseal. */
  readonly unreadableSessionIds: readonly string[];

  /** Where the next page begins. Undefined on the last page, and on no other. */
  readonly nextPageToken: string | undefined;
}

/** `CreatedSession` from an answer. Throws INTERNAL if the answer breaks the contract. */
export function createdFrom<Data extends object>(
  answer: CreateSessionResponse,
): CreatedSession<Data> {
  const { token, evictedSessionIds } = answer;
  return { ...updatedFrom<Data>(answer), token, evictedSessionIds };
}

/** `UpdatedSession` from an answer. Throws INTERNAL if the answer breaks the contract. */
export function updatedFrom<Data extends object>({
  session,
  notices,
}: Pick<UpdateSessionResponse, "session" | "notices">): UpdatedSession<Data> {
  return {
    session: sessionFrom<Data>(session),
    notices: notices.map(({ field, description }) => ({ field, description })),
  };
}

/** Reads each field from a protobuf message. */
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
  // A server without token_create_time moves authenticate_time at every rotation.
  tokenCreateTime: ({ tokenCreateTime, authenticateTime }) =>
    dateFrom(tokenCreateTime ?? authenticateTime, "token_create_time"),
  lastAccessTime: (session) => dateFrom(session.lastAccessTime, "last_access_time"),
  expireTime: (session) => dateFrom(session.expireTime, "expire_time"),
  absoluteExpireTime: (session) => dateFrom(session.absoluteExpireTime, "absolute_expire_time"),
  idleTimeoutMs: (session) => durationMs(present(session.idleTimeout, "idle_timeout")),
  state: (session) => stateFrom(session.state),
  etag: (session) => session.etag,
  revokeTime: ({ revokeTime }) => revokeTime && timestampDate(revokeTime),
  revokeReason: ({ revokeReason }) => (revokeReason === "" ? undefined : revokeReason),
} satisfies { [F in keyof Required<Session>]: (session: ProtoSession) => Session[F] };

/** A field of a session, such as `roles`. */
export type SessionField = keyof typeof readers;

const ALL_FIELDS = Object.keys(readers) as SessionField[];

/** The read mask for these fields. Throws INVALID_ARGUMENT for any other name. */
export function readMask(fields: readonly SessionField[]): { paths: string[] } {
  if (!fields.every((field) => Object.hasOwn(readers, field))) {
    throw invalidArgument("read_mask", "expected names of a session's fields");
  }
  const paths = fields.map((field) => {
    const { name } = SessionSchema.field[field === "idleTimeoutMs" ? "idleTimeout" : field];
    return name;
  });
  return { paths };
}

/**
 * The session of an answer with the fields that the caller asked for, by default all of them. Its
 * data has the type that the caller promised. Throws INTERNAL if a field is missing that a server
 * always sends.
 */
export function sessionFrom<Data extends object = JsonObject>(
  session: ProtoSession | undefined,
): Session<Data>;
export function sessionFrom<F extends SessionField, Data extends object = JsonObject>(
  session: ProtoSession | undefined,
  fields: readonly F[] | undefined,
): Pick<Session<Data>, F>;
export function sessionFrom(
  session: ProtoSession | undefined,
  fields: readonly SessionField[] = ALL_FIELDS,
): unknown {
  const source = present(session, "session");
  // On the path of every verify: a loop costs half of Object.fromEntries.
  const read: Partial<Record<SessionField, unknown>> = {};
  for (const field of fields) read[field] = readers[field](source);
  return read;
}

/**
 * The results of a batch, one for each requested session and in the same order. Throws INTERNAL
 * if the number differs: an answer that does not match the request must not vouch for a session.
 */
export function resultsFrom<F extends SessionField, Data extends object>(
  results: readonly ProtoResult[],
  expected: number,
  fields?: readonly F[],
): SessionResult<Pick<Session<Data>, F>>[] {
  if (results.length !== expected) {
    throw malformedAnswer(`${results.length} results for ${expected} sessions`);
  }
  return results.map(({ result }) => {
    switch (result.case) {
      case "session":
        return { session: sessionFrom<F, Data>(result.value, fields) };
      case "error":
        return { error: errorFromStatus(result.value) };
      default:
        throw malformedAnswer("a result with neither session nor error");
    }
  });
}

const states: Readonly<Partial<Record<ProtoState, SessionState>>> = {
  [ProtoState.ACTIVE]: "active",
  [ProtoState.EXPIRED]: "expired",
  [ProtoState.REVOKED]: "revoked",
};

/** An unknown state must not pass for active, so it throws INTERNAL. */
function stateFrom(state: ProtoState): SessionState {
  const known = states[state];
  if (known === undefined) throw malformedAnswer(`session state ${state} is not known`);
  return known;
}
