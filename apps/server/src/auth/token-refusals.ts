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
