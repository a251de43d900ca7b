export {
  type ErrorReason,
  invalidArgument,
  SessiondError,
  type SessiondErrorOptions,
  sessionNotFound,
} from "./errors.js";
export { Keyring } from "./keyring.js";
export type {
  JsonObject,
  JsonValue,
  Session,
  SessionClient,
  SessionState,
} from "./session.js";
export type { SessionEvent, SessionEventType } from "./session-event.js";
export type { LimitPolicy, SessionStore } from "./session-store.js";
export { SESSION_TOKEN_PREFIX } from "./session-token.js";
export type { SessionUpdate } from "./session-update.js";
export type { WatchMessage, WatchSessions } from "./session-watch.js";
export {
  type CreateSession,
  DEFAULT_SESSION_POLICY,
  type ListSessions,
  type ResealedPage,
  type SessionPage,
  type SessionPolicy,
  Sessions,
  type SessionTarget,
} from "./sessions.js";
export { LIMITS } from "./validation.js";
