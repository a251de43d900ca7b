export { describeSessionStore } from "./describe-session-store.js";
export { FakeClock } from "./fake-clock.js";
export { type RedisServer, type RedisServerOptions, startRedisServer } from "./redis-server.js";
export {
  type OpenedSessionStore,
  type OpenSessionStore,
  type OpenSessionStoreOptions,
  runSessionStoreCheck,
  type SessionStoreCheck,
  type SessionStoreContext,
} from "./session-store-check.js";
export { sessionStoreChecks } from "./session-store-checks.js";
