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

/**
 * Refuses a token that names an accepted issuer, and says for the log what the token claims. Anybody
 * can claim it: only a signature that was right would prove it. The caller gets none of this.
 */
export class RefusedToken extends SessiondError {
  /** One of the accepted issuers. */
  readonly claimedIssuer: string;
  /** The id of the key that the token names, without what may be a secret. */
  readonly claimedKid: string | undefined;

  constructor(refusal: SessiondError, claimedIssuer: string, claimedKid: string | undefined) {
    const { reason, message, metadata, detail } = refusal;
    super(reason, message, { metadata, ...(detail !== undefined && { detail }) });
    this.claimedIssuer = claimedIssuer;
    this.claimedKid = claimedKid;
  }
}

/** What a refused token claims, as fields of a line of the log or the audit. */
export function claimedFields(error: unknown): {
  readonly claimed_issuer?: string;
  readonly claimed_kid?: string;
} {
  if (!(error instanceof RefusedToken)) return {};
  const { claimedIssuer: claimed_issuer, claimedKid: claimed_kid } = error;
  return { claimed_issuer, ...(claimed_kid !== undefined && { claimed_kid }) };
}

/** The message about a token that cannot be read. */
export const MALFORMED_TOKEN = "the access token is malformed: expected a signed JWT";

/** Refuses a token for a claim that is not of its type. */
export function malformedClaim(claim: string): SessiondError {
  return unauthenticated("claim", `the access token's claim "${claim}" is malformed`);
}
