export type { JsonObject, JsonValue } from "@bufbuild/protobuf";
export { Code } from "@connectrpc/connect";
export { type ClientCredentialsOptions, clientCredentials } from "./access/client-credentials.js";
export { tokenFile } from "./access/token-file.js";
export { createSessionClient, type SessionClient } from "./client.js";
export {
  type FieldViolation,
  httpStatusByReason,
  SessiondError,
  type SessiondErrorOptions,
  type SessiondErrorReason,
} from "./error.js";
export type {
  AcquireLockOptions,
  HeldLock,
  LockClient,
  LockedWork,
  LockHandle,
  LockState,
  RenewLockOptions,
  WithLockOptions,
} from "./locks/lock-client.js";
export type { NearCacheStats } from "./near-cache/near-cache.js";
export type {
  AccessToken,
  CallOptions,
  NearCacheOptions,
  ServerOptions,
  SessionClientOptions,
} from "./options.js";
export type {
  RateLimit,
  RateLimitClient,
  RateLimitOptions,
} from "./rate-limits/rate-limit-client.js";
export { type RateLimitAnswer, rateLimitFields } from "./rate-limits/rate-limit-fields.js";
export {
  createRateLimitMiddleware,
  type RateLimitChecker,
  type RateLimitMiddleware,
  type RateLimitMiddlewareOptions,
} from "./rate-limits/rate-limit-middleware.js";
export { hashCredential } from "./sessions/credential.js";
export type {
  ClientInfo,
  CreatedSession,
  Notice,
  RotatedSession,
  Session,
  SessionField,
  SessionPage,
  SessionResult,
  SessionState,
  UpdatedSession,
} from "./sessions/session.js";
export type {
  Fence,
  FieldSelection,
  GetSessionOptions,
  ListAllSessionsOptions,
  RevokeSessionOptions,
  RevokeUserSessionsOptions,
  RotateSessionTokenOptions,
  UpdateSessionOptions,
  VerifySessionOptions,
} from "./sessions/session-options.js";
export type { SessionFilter, SessionPageQuery, SessionQuery } from "./sessions/session-query.js";
export type {
  NewSession,
  SessionTarget,
  SessionUpdate,
} from "./sessions/session-request.js";
export type { PresentedToken } from "./sessions/session-token.js";
export type {
  SessionEvent,
  SessionEventType,
  WatchMessage,
  WatchSessionsOptions,
} from "./sessions/watch.js";
export type { TlsOptions } from "./tls-options.js";
