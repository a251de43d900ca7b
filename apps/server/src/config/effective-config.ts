import { formatDuration, type Keyring, type RateLimitPolicy } from "@sessiond/core";
import type { AuthConfig, IssuerConfig } from "../auth/issuer.js";
import type { EdgeLimits } from "../edge/edge-limits.js";
import type { AuditConfig } from "../observability/audit-log.js";
import type { ConsoleConfig } from "../transport/console.js";
import type { Config } from "./config.js";
import { formatSize } from "./quantity.js";
import { describeStore } from "./store-location.js";

/**
 * The whole configuration for the log, with what a development server made itself. No secrets: the
 * store without its password, keys by their ids, issuers without their keys.
 */
export function describeConfig(
  config: Config,
  { keyring, auth }: { readonly keyring: Keyring; readonly auth: AuthConfig },
): Readonly<Record<string, unknown>> {
  const { sessionPolicy: sessions } = config;
  return {
    store: describeStore(config.store),
    ...(config.store.kind !== "sqlite" && {
      durability: config.durability,
      key_prefix: config.keyPrefix,
      ...(config.redisTls?.ca && { redis_ca: config.redisTls.ca }),
      ...(config.redisTls?.cert && { redis_cert: config.redisTls.cert }),
    }),
    idle_timeout: formatDuration(sessions.idleTimeoutMs),
    lifetime: formatDuration(sessions.lifetimeMs),
    max_lifetime: formatDuration(sessions.maxLifetimeMs),
    max_sessions_per_user: sessions.maxSessionsPerUser,
    limit_policy: sessions.policy,
    on_token_reuse: sessions.onTokenReuse,
    workers: config.workers,
    retention: formatDuration(config.retentionMs),
    rate_limits: config.rateLimits.map(describePolicy).join("; "),
    max_calls_in_flight: config.callBounds.maxInFlight,
    max_calls_per_caller: config.callBounds.maxPerCaller,
    caller_quota: describeWindows(config.callBounds.quota ?? []),
    max_watches_per_caller: config.callBounds.watches.perCaller,
    max_lock_waiters_per_caller: config.callBounds.lockWaiters.perCaller,
    max_names_per_caller: config.callBounds.namesPerCaller,
    ...describeEdge(config.edge),
    key_ids: keyring.keyIds,
    issuers: auth.issuers.map(describeIssuer),
    issuer_keys_max_age: formatDuration(config.issuerKeysMaxAgeMs),
    roles: [...auth.roles.keys()],
    max_connection_age: formatDuration(config.edge.maxConnectionAgeMs),
    shutdown_delay: formatDuration(config.shutdownDelayMs),
    cors_origins: config.corsOrigins,
    console: describeConsole(config.console),
    reflection: config.reflection,
    log_level: config.logLevel,
    audit_log: describeAudit(config.audit),
    audit_level: config.audit.level,
    ...(config.traces && { traces: config.traces }),
    data_dir: config.dataDir,
    ...madeItself(config),
  };
}

function describeEdge(limits: EdgeLimits): object {
  return {
    max_connections: limits.maxConnections,
    max_streams: limits.maxStreams,
    max_streams_per_connection: limits.maxStreamsPerConnection,
    max_header_size: formatSize(limits.maxHeaderBytes),
    max_message_size: formatSize(limits.maxMessageBytes),
    max_buffered_size: formatSize(limits.maxBufferedBytes),
    request_timeout: formatDuration(limits.requestTimeoutMs),
    connection_idle_timeout: formatDuration(limits.connectionIdleMs),
  };
}

/** Whether it is served, and how operators log in to it. */
function describeConsole(config: ConsoleConfig | undefined): object | boolean {
  const { clientId, scope, parameters } = config?.login ?? {};
  if (clientId === undefined) return config !== undefined;
  return { client_id: clientId, scope, login_parameters: parameters };
}

/** As in `SESSIOND_AUDIT_LOG`. */
function describeAudit({ to }: AuditConfig): string {
  return typeof to === "object" ? to.file : to;
}

/** As in `SESSIOND_RATE_LIMITS`. */
function describePolicy({ name, windows, countRefused, whenUnavailable }: RateLimitPolicy): string {
  const options = [
    ...(countRefused ? ["count refused"] : []),
    ...(whenUnavailable === "allow" ? ["allow when unavailable"] : []),
  ];
  return `${name}: ${describeWindows(windows)}${options.length > 0 ? ` (${options.join(", ")})` : ""}`;
}

function describeWindows(windows: RateLimitPolicy["windows"]): string {
  return windows
    .map(({ limit, windowMs }) => `${limit} per ${formatDuration(windowMs)}`)
    .join(", ");
}

function describeIssuer({ issuer, audiences, algorithms, keys, ...rules }: IssuerConfig): object {
  return {
    issuer,
    audiences,
    algorithms,
    keys: keys.kind,
    ...(rules.namespace !== undefined && { namespace: rules.namespace }),
    ...(rules.namespaceClaim !== undefined && { namespace_claim: rules.namespaceClaim.join(".") }),
  };
}

/** Only on a development server. */
function madeItself({ keyring, auth }: Config): object {
  const made = [
    ...(keyring === undefined ? ["keyring"] : []),
    ...(auth === undefined ? ["key of access tokens"] : []),
  ];
  return made.length > 0 ? { development: `it made its ${made.join(" and its ")} itself` } : {};
}
