import type { Interceptor } from "@connectrpc/connect";
import { SessiondError } from "@sessiond/core";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import { type Caller, callerKey } from "../auth/caller.js";

const BEARER = /^bearer +(\S+) *$/i;

/** Lets only calls with a valid access token pass, and notes whose it is. */
export function authenticate(verifier: AccessTokenVerifier): Interceptor {
  return (next) => async (request) => {
    const verified = callerOf(request.header, verifier);
    // A remembered token is answered at once; no turn of the event loop for it.
    const caller = verified instanceof Promise ? await verified : verified;
    request.contextValues.set(callerKey, caller);
    return next(request);
  };
}

/** Whose access token a request carries. Throws, or rejects, as `AccessTokenVerifier.verify`. */
export function callerOf(header: Headers, verifier: AccessTokenVerifier): Caller | Promise<Caller> {
  return verifier.verify(bearerToken(header.get("authorization")));
}

/** The token of an `authorization` header (RFC 6750, 2.1). */
function bearerToken(header: string | null): string {
  if (header === null) {
    throw new SessiondError(
      "UNAUTHENTICATED",
      "an access token is missing: expected the header authorization: Bearer <token>",
    );
  }
  const token = BEARER.exec(header)?.[1];
  if (token === undefined) {
    throw new SessiondError(
      "UNAUTHENTICATED",
      "the authorization header is malformed: expected Bearer <token>",
    );
  }
  return token;
}
