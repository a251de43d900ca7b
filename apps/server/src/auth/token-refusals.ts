import { SessiondError } from "@sessiond/core";

/** Why an access token is refused: the `detail` of UNAUTHENTICATED. */
export const TOKEN_REFUSALS = [
  "missing",
  "malformed",
  "unknown_issuer",
  "unknown_key",
  "algorithm",
  "signature",
  "expired",
  "not_yet_valid",
  "audience",
  "type",
  "claim",
  "namespace",
] as const;

/** The `detail` of OVERLOADED if too many tokens are being verified. */
export const TOKENS_PENDING = "access_tokens" as const;

/** Refuses an access token. Has no cause: jose's errors carry claims, which must not reach the log. */
export function unauthenticated(
  detail: (typeof TOKEN_REFUSALS)[number],
  message: string,
): SessiondError {
  return new SessiondError("UNAUTHENTICATED", message, { detail });
}

/** The message about a token that cannot be read. */
export const MALFORMED_TOKEN = "the access token is malformed: expected a signed JWT";

/** Refuses a token for a claim that is not of its type. */
export function malformedClaim(claim: string): SessiondError {
  return unauthenticated("claim", `the access token's claim "${claim}" is malformed`);
}
