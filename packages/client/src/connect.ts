import type { JsonObject } from "@bufbuild/protobuf";
import {
  type ContextKey,
  type ContextValues,
  createContextKey,
  type Interceptor,
} from "@connectrpc/connect";
import type { Session } from "./sessions/session.js";
import {
  createUserVerifier,
  noSession,
  type UserSessionsOptions,
} from "./user-sessions/verify-user.js";

export type { UserSessionsOptions } from "./user-sessions/verify-user.js";

/** The sessions of the users for whom other services call, in a service on Connect. */
export interface UserSessions<Data extends object = JsonObject> {
  /**
   * Verifies the user's token of each call before the handler runs, and of each stream when it
   * begins.
   *
   * A call without a valid token fails with UNAUTHENTICATED, unless its method is `optional`. If
   * sessiond cannot answer, calls with a token fail with UNAVAILABLE, also of methods that are
   * `optional`: the user may be logged in. Both have the SDK's reason in their
   * `google.rpc.ErrorInfo`.
   */
  readonly interceptor: Interceptor;

  /** Where the context values of a call have the session. */
  readonly key: ContextKey<Session<Data> | undefined>;

  /**
   * The session of a call.
   *
   * @throws ConnectError UNAUTHENTICATED if it has none
   */
  require(values: ContextValues): Session<Data>;

  /** The header with the user's token, for the calls that a handler makes for its user. */
  forward(context: { readonly requestHeader: Headers }): Record<string, string>;
}

/**
 * Makes the interceptor of a service that other services call for their users:
 *
 * ```ts
 * const users = userSessions({ client });
 * const handler = connectNodeAdapter({ interceptors: [users.interceptor], routes });
 * // In a handler:
 * const { userId } = users.require(context.values);
 * ```
 *
 * @throws SessiondError INVALID_ARGUMENT that names a wrong option
 */
export function userSessions<Data extends object>(
  options: UserSessionsOptions<Data>,
): UserSessions<Data> {
  const { header, verify } = createUserVerifier(options);
  const key = createContextKey<Session<Data> | undefined>(undefined);
  return {
    key,
    interceptor: (next) => async (call) => {
      const path = `/${call.service.typeName}/${call.method.name}`;
      const credential = call.header.get(header);
      const session = await verify({ path, credential, signal: call.signal });
      call.contextValues.set(key, session);
      return next(call);
    },
    require(values) {
      const session = values.get(key);
      if (session === undefined) throw noSession();
      return session;
    },
    forward({ requestHeader }) {
      const credential = requestHeader.get(header);
      return credential === null ? {} : { [header]: credential };
    },
  };
}
