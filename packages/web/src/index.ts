export type { CookieOptions } from "./cookie/session-cookie.js";
export type { Device } from "./login/devices.js";
export type { LoginLimitOptions, WebSessionsOptions } from "./options.js";
export type { Register, SessionData } from "./register.js";
export type { Login, RequestContext, RequestSession } from "./request-session.js";
export { headOf, type ResponseHead } from "./requests/response-head.js";
export { returnPath } from "./requests/return-path.js";
export type { WebRequest } from "./requests/web-request.js";
export {
  type ErrorAnswer,
  statusByReason,
  WebError,
  type WebErrorOptions,
  type WebErrorReason,
} from "./web-error.js";
export { createWebSessions, type WebSessions } from "./web-sessions.js";
