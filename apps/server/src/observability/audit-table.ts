import type { AuditLevel } from "./log-level.js";

/** One kind of security event. */
export interface AuditEventSpec {
  readonly level: AuditLevel;
  readonly help: string;
  /** The fields that its lines have of their own, and what they say. Never a secret. */
  readonly fields: Readonly<Record<string, string>>;
  /**
   * Set for what is refused: callers can cause any number of these. Such lines are bounded for each
   * caller and value of these fields, of which there are few values.
   */
  readonly boundedBy?: readonly string[];
}

const SESSION = {
  session_id: "the session",
  user_id: "its user",
  version: "the session's version after the change, as in WatchSessions",
} as const;
const ENDED = { ...SESSION, reason: "why it ended" } as const;
const METHOD = { method: "the method that was called" } as const;

/** What every line of a call has, besides the fields of its event. */
export const CALL_FIELDS = {
  namespace: 'the namespace of the caller; "" is the default one',
  caller: "the subject of the caller's access token",
  issuer: "the issuer of that token",
  trace_id: "the call's trace, if it has one",
  span_id: "the call's span, or the caller's",
} as const;

/** Every event of the audit, by its name. docs/audit.md is made of this table. */
export const AUDIT_EVENTS = {
  "session.created": { level: "info", help: "A call created a session.", fields: SESSION },
  "session.updated": {
    level: "info",
    help: "A call changed a session's fields. Which ones is not told: they are sealed.",
    fields: SESSION,
  },
  "session.token_rotated": {
    level: "info",
    help: "A call replaced a session's token.",
    fields: SESSION,
  },
  "session.token_reused": {
    level: "warn",
    help:
      "A call presented a token that had been replaced, so it may be stolen. At most once a minute " +
      "for each session.",
    fields: SESSION,
  },
  "session.revoked": {
    level: "info",
    help:
      "A session was revoked: one line for each, also if a call revokes all of a user's sessions. " +
      'The reason is "token reused" if a reuse did it.',
    fields: ENDED,
  },
  "session.evicted": {
    level: "info",
    help: "A session made room for a newer one of its user. The caller created the newer one.",
    fields: ENDED,
  },
  "session.limit_reached": {
    level: "warn",
    help: "A session was not created, because its user has as many as SESSIOND_MAX_SESSIONS_PER_USER.",
    fields: { user_id: "the user", limit: "how many sessions a user may have" },
    boundedBy: [],
  },
  "rate_limit.refused": {
    level: "warn",
    help: "CheckRateLimit refused an attempt, such as a login.",
    fields: {
      policy: "the policy",
      key: "what the caller counts by, such as an address or an account",
      limit: "the policy's limit that has the least room",
    },
    boundedBy: ["policy"],
  },
  "access_token.refused": {
    level: "warn",
    help:
      "A call was refused because of its access token. Nothing that an unverified token says is " +
      "believed, so there is no caller.",
    fields: {
      reason: "as in sessiond_access_tokens_refused_total",
      claimed_issuer: "the accepted issuer that the token names. Anybody can name it",
      claimed_kid:
        "the id of the key that the token names, at most 64 characters, without what may be a secret",
      ...METHOD,
    },
    boundedBy: ["reason"],
  },
  "permission.denied": {
    level: "warn",
    help: "A call was refused because its access token does not grant the permission.",
    fields: { permission: "the one that was missing", ...METHOD },
    boundedBy: ["permission"],
  },
  "keyring.changed": {
    level: "info",
    help: "A SIGHUP gave the server other keys to seal with.",
    fields: {
      old_key: "the id of the key that sealed until now",
      new_key: "the id of the key that seals from now on",
      keys_added: "ids of keys",
      keys_removed: "ids of keys",
    },
  },
  "auth.changed": {
    level: "info",
    help: "A SIGHUP gave the server another auth file.",
    fields: {
      issuers_added: "names of issuers",
      issuers_removed: "names of issuers",
      issuers_changed: "names of issuers",
      roles_added: "names of roles",
      roles_removed: "names of roles",
      roles_changed: "names of roles",
    },
  },
  "server.started": {
    level: "info",
    help: "The server takes calls. Without a line of its stop before, the last one was killed.",
    fields: { version: "of sessiond", key_ids: "the keyring", issuers: "the issuers it accepts" },
  },
  "server.stopped": { level: "info", help: "The server has answered its last call.", fields: {} },
} as const satisfies Record<string, AuditEventSpec>;

/** The name of an event. */
export type AuditEvent = keyof typeof AUDIT_EVENTS;

/** The own fields of an event's line. Empty ones may be left out. */
export type AuditFields<E extends AuditEvent> = {
  readonly [F in keyof (typeof AUDIT_EVENTS)[E]["fields"]]?: unknown;
};
