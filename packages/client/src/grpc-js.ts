import type { JsonObject } from "@bufbuild/protobuf";
import { Metadata, ServerInterceptingCall, type ServerInterceptor } from "@grpc/grpc-js";
import { statusOf } from "@sessiond/connect-grpc-js";
import type { Session } from "./sessions/session.js";
import {
  createUserVerifier,
  noSession,
  type UserSessionsOptions,
} from "./user-sessions/verify-user.js";

export type { UserSessionsOptions } from "./user-sessions/verify-user.js";

/** The part of a call of grpc-js by which its session is found. */
export interface CallWithMetadata {
  readonly metadata: Metadata;
}

/** The sessions of the users for whom other services call, in a service on grpc-js. */
export interface UserSessions<Data extends object = JsonObject> {
  /**
   * Verifies the user's token of each call before the handler runs, and of each stream when it
   * begins. Interceptors that come after it must pass the metadata on as it is, and not a copy: the
   * session is found by it.
   *
   * A call without a valid token fails with UNAUTHENTICATED, unless its method is `optional`. If
   * sessiond cannot answer, calls with a token fail with UNAVAILABLE, also of methods that are
   * `optional`: the user may be logged in. Both have the SDK's reason in their
   * `google.rpc.ErrorInfo`.
   */
  readonly interceptor: ServerInterceptor;

  /** The session of a call. Undefined if it has none, as calls of `optional` methods may. */
  get(call: CallWithMetadata): Session<Data> | undefined;

  /**
   * The session of a call.
   *
   * @throws Error with the status UNAUTHENTICATED if it has none, for the callback of the handler
   */
  require(call: CallWithMetadata): Session<Data>;

  /** Metadata with the user's token, for the calls that a handler makes for its user. */
  forward(call: CallWithMetadata): Metadata;
}

/**
 * Makes the interceptor of a service that other services call for their users:
 *
 * ```ts
 * const users = userSessions({ client });
 * const server = new Server({ interceptors: [users.interceptor] });
 * // In a handler:
 * const { userId } = users.require(call);
 * ```
 *
 * @throws SessiondError INVALID_ARGUMENT that names a wrong option
 */
export function userSessions<Data extends object>(
  options: UserSessionsOptions<Data>,
): UserSessions<Data> {
  const { header, verify } = createUserVerifier(options);
  // An interceptor and a handler of grpc-js have nothing else in common.
  const sessions = new WeakMap<Metadata, Session<Data>>();
  const get = ({ metadata }: CallWithMetadata) => sessions.get(metadata);
  return {
    get,
    interceptor({ path }, call) {
      const gone = new AbortController();
      const identify = async (metadata: Metadata) => {
        const credential = credentialIn(metadata, header);
        const session = await verify({ path, credential, signal: gone.signal });
        if (session !== undefined) sessions.set(metadata, session);
      };
      return new ServerInterceptingCall(call, {
        start: (next) =>
          next({
            onReceiveMetadata(metadata, pass) {
              // Two handlers of one promise, so that an error thrown by `pass` is not answered.
              identify(metadata).then(
                () => pass(metadata),
                (error: unknown) => call.sendStatus(statusOf(error)),
              );
            },
            onCancel: () => gone.abort(),
          }),
      });
    },
    require(call) {
      const session = get(call);
      if (session !== undefined) return session;
      const status = statusOf(noSession());
      throw Object.assign(new Error(status.details), status);
    },
    forward(call) {
      const forwarded = new Metadata();
      const credential = credentialIn(call.metadata, header);
      if (credential !== null) forwarded.set(header, credential);
      return forwarded;
    },
  };
}

/** As HTTP joins the values of a repeated header. No token is like that. */
function credentialIn(metadata: Metadata, header: string): string | null {
  const values = metadata.get(header);
  return values.length === 0 ? null : values.join(", ");
}
