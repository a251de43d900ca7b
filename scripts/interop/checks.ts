/** What the client of every language prints. */
export const CHECKS: readonly string[] = [
  "created ann",
  "verified ann editor light",
  "verified with a far deadline",
  "updated Ann",
  "wrong session token: SESSION_NOT_FOUND",
  "no access token: UNAUTHENTICATED",
  "no user: user_id",
  "watched SESSION_EVENT_TYPE_CREATED SESSION_EVENT_TYPE_UPDATED SESSION_EVENT_TYPE_REVOKED",
  // CANCELLED: the client ended it.
  "ended the watch: code 1",
];

/** What Python's `fields.py` prints after that. */
export const FIELD_CHECKS: readonly string[] = [
  "moved in bob, with a new token of 0 bytes",
  "notices client.device client.ip",
  "a retried rotation answers the same token: True",
  "the old token in its grace proves bob",
  "data {'cart.items': 2.0}",
  "the old token after its grace proves None",
  "watched SESSION_EVENT_TYPE_CREATED SESSION_EVENT_TYPE_TOKEN_ROTATED SESSION_EVENT_TYPE_UPDATED " +
    "SESSION_EVENT_TYPE_UPDATED SESSION_EVENT_TYPE_TOKEN_ROTATED SESSION_EVENT_TYPE_TOKEN_REUSED",
  "except a session that is not bob's: SESSION_NOT_FOUND",
  "except one of two, revoked 1",
];

/** What Python's `secure.py` prints after that. */
export const TLS_CHECKS: readonly string[] = [
  "over TLS with a certificate, sessions: 0",
  "without one: code 14",
];
