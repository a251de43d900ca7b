export type { Around } from "./around.js";
export { formatDuration, parseDuration } from "./duration.js";
export {
  type ErrorReason,
  invalidArgument,
  overloaded,
  quote,
  SessiondError,
  type SessiondErrorOptions,
  SHED_DETAILS,
  sessionNotFound,
  withoutSecrets,
} from "./errors.js";
export { LOCK_BOUNDS } from "./locks/lock-checks.js";
export type { AcquiredLock, HeldLock, LockStore } from "./locks/lock-store.js";
export { type AcquireLock, Locks, MAX_WAITERS } from "./locks/locks.js";
export { isNamespace } from "./namespace.js";
export { Places } from "./places.js";
export {
  DEFAULT_RATE_LIMITS,
  parseRateLimitPolicies,
  parseRateLimitWindows,
  RATE_LIMIT_BOUNDS,
  type RateLimitPolicy,
} from "./rate-limits/rate-limit-policy.js";
export type {
  RateLimitAttempt,
  RateLimitState,
  RateLimitStore,
  RateLimitWindow,
} from "./rate-limits/rate-limit-store.js";
export {
  type RateLimitDecision,
  type RateLimitRequest,
  RateLimits,
  type RateLimitsOptions,
  type RateLimitTarget,
} from "./rate-limits/rate-limits.js";
export type { CreateSession } from "./sessions/create-request.js";
export { hashCredential, idOfCredential } from "./sessions/credential.js";
export type { Notice } from "./sessions/descriptions.js";
export { Keyring } from "./sessions/keyring.js";
export type { ListSessions, SessionPage } from "./sessions/list-sessions.js";
export { type ResealedPage, resealSessions } from "./sessions/reseal-sessions.js";
export type { RotateToken } from "./sessions/rotate-token.js";
export type {
  JsonObject,
  JsonValue,
  Session,
  SessionClient,
  SessionState,
} from "./sessions/session.js";
export { DEFAULT_SESSION_POLICY, type SessionPolicy } from "./sessions/session-policy.js";
export type { Fence, LimitPolicy, MovedInTimes, SessionStore } from "./sessions/session-store.js";
export { SESSION_TOKEN_PREFIX } from "./sessions/session-token.js";
export type { SessionUpdate } from "./sessions/session-update.js";
export { Sessions, type SessionTarget } from "./sessions/sessions.js";
export type { SessionsAuthor } from "./sessions/sessions-author.js";
export {
  countSessions,
  type SealedSessions,
  type SessionSurvey,
  surveySessions,
} from "./sessions/survey-sessions.js";
export { sessionIdOfToken } from "./sessions/token-proof.js";
export { LIMITS } from "./validation.js";
export type { Author, SessionChange } from "./watch/author.js";
export type { EventLog, SessionEvent, SessionEventType } from "./watch/session-event.js";
export { MAX_WATCHES, type WatchMessage, type WatchSessions } from "./watch/session-watch.js";
