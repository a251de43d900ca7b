export { formatDuration, parseDuration } from "./duration.js";
export {
  type ErrorReason,
  invalidArgument,
  SessiondError,
  type SessiondErrorOptions,
  sessionNotFound,
} from "./errors.js";
export { Keyring } from "./keyring.js";
export type { HeldLock, LockStore } from "./lock-store.js";
export { type AcquiredLock, type AcquireLock, LOCK_BOUNDS, Locks } from "./locks.js";
export {
  DEFAULT_RATE_LIMITS,
  parseRateLimitPolicies,
  RATE_LIMIT_BOUNDS,
  type RateLimitPolicy,
} from "./rate-limit-policy.js";
export type {
  RateLimitAttempt,
  RateLimitState,
  RateLimitStore,
  RateLimitWindow,
} from "./rate-limit-store.js";
export {
  type RateLimitDecision,
  type RateLimitRequest,
  RateLimits,
  type RateLimitsOptions,
  type RateLimitTarget,
} from "./rate-limits.js";
export type {
  JsonObject,
  JsonValue,
  Session,
  SessionClient,
  SessionState,
} from "./session.js";
export type { SessionEvent, SessionEventType } from "./session-event.js";
export type { Fence, LimitPolicy, SessionStore } from "./session-store.js";
export { parseSessionToken, SESSION_TOKEN_PREFIX } from "./session-token.js";
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
