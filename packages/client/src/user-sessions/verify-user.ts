import { create, type JsonObject } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "@sessiond/proto/google/rpc/error_details";
import type { SessionClient } from "../client.js";
import { invalidArgument, SessiondError } from "../error.js";
import { known, type NamesOf } from "../known-names.js";
import type { Session } from "../sessions/session.js";
import { sessionNotFound } from "../sessions/session-token.js";

/**
 * Where a call carries its user's token. Not in `authorization`, which has the access token of the
 * calling service: the two must not be mistaken for each other.
 */
const DEFAULT_HEADER = "session-token";

/** A name that HTTP/2 and gRPC carry. Those that end with `-bin` have binary values. */
const HEADER_NAME = /^(?!grpc-)[a-z0-9._-]+(?<!-bin)$/;

/** `RetryInfo` if sessiond named no time: a server that restarts is back by then. */
const DEFAULT_RETRY_DELAY_MS = 1_000;

/** Options of `userSessions`, for Connect and for grpc-js. */
export interface UserSessionsOptions<Data extends object = JsonObject> {
  /** The SDK's client, from `createSessionClient`. It needs the permission `sessions:read`. */
  readonly client: SessionClient<Data>;

  /**
   * The header that has the user's session token. In `authorization`, the token comes after
   * `Bearer`; in any other header, the whole value is the token. Default: `session-token`, because
   * the `authorization` of a call between services has the access token of the calling service.
   */
  readonly header?: string | undefined;

  /**
   * Whether a method also serves calls without a valid session. It gets the path of the method,
   * such as `/shop.v1.CatalogService/ListProducts`. Default: no method does.
   */
  readonly optional?: ((path: string) => boolean) | undefined;

  /** Receives the error of each verification that got no answer, for the log. Default: nobody. */
  readonly onError?: ((error: SessiondError) => void) | undefined;
}

const OPTIONS = {
  client: true,
  header: true,
  optional: true,
  onError: true,
} satisfies NamesOf<UserSessionsOptions>;

/** A call of which nobody knows the user yet. */
export interface IncomingCall {
  /** Such as `/shop.v1.CatalogService/ListProducts`. */
  readonly path: string;

  /** The value of the header that has the user's token. Null if there is none. */
  readonly credential: string | null;

  /** Aborts when the client has gone, or at the call's deadline. */
  readonly signal: AbortSignal;
}

/** Finds out who the user of a call is. */
export interface UserVerifier<Data extends object> {
  /** The header that has the user's token, in small letters. */
  readonly header: string;

  /**
   * The session of the call's user. Undefined if there is none and the method does without.
   *
   * @throws ConnectError UNAUTHENTICATED if there is none, UNAVAILABLE if sessiond cannot answer,
   * and INTERNAL for a fault of this service
   */
  verify(call: IncomingCall): Promise<Session<Data> | undefined>;
}

/** @throws SessiondError INVALID_ARGUMENT that names a wrong option */
export function createUserVerifier<Data extends object>(
  options: UserSessionsOptions<Data>,
): UserVerifier<Data> {
  const { client, optional = () => false, onError } = known(options, OPTIONS);
  const header = (options.header ?? DEFAULT_HEADER).toLowerCase();
  if (typeof client?.verifySession !== "function") {
    throw invalidArgument("client", "expected a client of createSessionClient");
  }
  if (!HEADER_NAME.test(header)) {
    throw invalidArgument("header", "expected the name of a header with a text, such as x-user");
  }
  return {
    header,
    async verify({ path, credential, signal }) {
      const token = header === "authorization" ? bearerToken(credential) : credential;
      const session = await client.verifySession(token, { signal }).catch((error: unknown) => {
        // The call has ended: nobody waits for this answer, and it is no fault of sessiond.
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof SessiondError)) throw error;
        onError?.(error);
        throw refusal(error);
      });
      if (session !== undefined || optional(path)) return session;
      throw noSession(token ? undefined : `session not found: the call has no ${header}`);
    },
  };
}

/** The error of a call that needs a user's session and has none. */
export function noSession(message?: string): ConnectError {
  return refusal(sessionNotFound(), message);
}

function bearerToken(value: string | null): string | undefined {
  return /^Bearer +(\S+)$/i.exec(value ?? "")?.[1];
}

/**
 * What a caller of the service is told when its user's session cannot be verified: the SDK's reason,
 * and nothing else of the error, which is about what stands behind the service. That sessiond
 * refuses the service itself is a fault of the service, and never UNAUTHENTICATED.
 */
function refusal(
  { reason, httpStatus, retryAfterMs }: SessiondError,
  notFound = "session not found",
): ConnectError {
  const info = create(ErrorInfoSchema, { reason, domain: "sessiond" });
  const details = [{ desc: ErrorInfoSchema, value: info }];
  if (httpStatus === 401) {
    return new ConnectError(notFound, Code.Unauthenticated, undefined, details);
  }
  if (httpStatus !== 503 && httpStatus !== 504) {
    return new ConnectError("internal error", Code.Internal, undefined, details);
  }
  const retryDelay = durationFromMs(Math.ceil(retryAfterMs ?? DEFAULT_RETRY_DELAY_MS));
  const message = "the session cannot be verified at the moment";
  return new ConnectError(message, Code.Unavailable, undefined, [
    ...details,
    { desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) },
  ]);
}
