export { FakeClock } from "./contract/fake-clock.js";
export { describeLockStore } from "./contract/locks/describe-lock-store.js";
export type { OpenedLockStore, OpenLockStore } from "./contract/locks/lock-store-check.js";
export { describeRateLimitStore } from "./contract/rate-limits/describe-rate-limit-store.js";
export type {
  OpenedRateLimitStore,
  OpenRateLimitStore,
} from "./contract/rate-limits/rate-limit-store-check.js";
export { describeSessionStore } from "./contract/sessions/describe-session-store.js";
export {
  type OpenedSessionStore,
  type OpenSessionStore,
  type OpenSessionStoreOptions,
  runSessionStoreCheck,
  type SessionStoreCheck,
  type SessionStoreContext,
} from "./contract/sessions/session-store-check.js";
export { sessionStoreChecks } from "./contract/sessions/session-store-checks.js";
export { mountSmallDisk, type SmallDisk, smallDiskObstacle } from "./disks/small-disk.js";
export { freePort } from "./network/free-port.js";
export {
  startTcpFaultProxy,
  type TcpFaultProxy,
  type TcpFaultProxyOptions,
} from "./network/tcp-fault-proxy.js";
export {
  type CertificateRequest,
  type IssuedFiles,
  TestAuthority,
} from "./network/test-authority.js";
export type { MoveSlotOptions } from "./redis/move-slot.js";
export {
  type RedisCluster,
  type RedisClusterNode,
  type RedisClusterOptions,
  startRedisCluster,
} from "./redis/redis-cluster.js";
export type { RestartableRedis } from "./redis/redis-process.js";
export {
  type RedisSentinels,
  type RedisSentinelsOptions,
  startRedisSentinels,
} from "./redis/redis-sentinel.js";
export {
  type RedisServer,
  type RedisServerOptions,
  startRedisServer,
} from "./redis/redis-server.js";
