export { describeLockStore } from "./describe-lock-store.js";
export { describeRateLimitStore } from "./describe-rate-limit-store.js";
export { describeSessionStore } from "./describe-session-store.js";
export { FakeClock } from "./fake-clock.js";
export { freePort } from "./free-port.js";
export {
  type Fault,
  type FaultRunOptions,
  type FaultRunReport,
  type FaultyStores,
  runUnderFaults,
} from "./history/fault-run.js";
export { startFaultyRedis } from "./history/faulty-redis.js";
export { startFaultySqlite } from "./history/faulty-sqlite.js";
export type { OpenedLockStore, OpenLockStore } from "./lock-store-check.js";
export type { MoveSlotOptions } from "./move-slot.js";
export type {
  OpenedRateLimitStore,
  OpenRateLimitStore,
} from "./rate-limit-store-check.js";
export {
  type RedisCluster,
  type RedisClusterNode,
  type RedisClusterOptions,
  startRedisCluster,
} from "./redis-cluster.js";
export type { RestartableRedis } from "./redis-process.js";
export {
  type RedisSentinels,
  type RedisSentinelsOptions,
  startRedisSentinels,
} from "./redis-sentinel.js";
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
export {
  startTcpFaultProxy,
  type TcpFaultProxy,
  type TcpFaultProxyOptions,
} from "./tcp-fault-proxy.js";
