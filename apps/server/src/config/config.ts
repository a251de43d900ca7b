import { existsSync } from "node:fs";
import { dirname, join, resolve, sep } from "node:path";
import {
  formatDuration,
  type Keyring,
  MAX_WAITERS,
  MAX_WATCHES,
  type RateLimitPolicy,
  type SessionPolicy,
} from "@sessiond/core";
import type { Durability } from "@sessiond/core/redis";
import type { AdmissionOptions } from "../admission/admission.js";
import type { AuthConfig } from "../auth/issuer.js";
import type { EdgeLimits } from "../edge/edge-limits.js";
import { type Address, formatAddress, isLoopback } from "../network/address.js";
import type { AuditConfig } from "../observability/audit-log.js";
import type { LogLevel } from "../observability/log-level.js";
import type { TracesConfig } from "../observability/tracing.js";
import type { PemPaths } from "../tls/pem-files.js";
import type { PortPems } from "../tls/port-certificate.js";
import type { ConsoleConfig } from "../transport/console.js";
import { ConfigError } from "./config-error.js";
import { consoleConfig, consoleFaults } from "./console-config.js";
import { type Environment, readVariable } from "./environment.js";
import { type ConfigSources, keyOf, type ReadSettings, readSettings } from "./read-settings.js";
import { parsePath, SETTINGS, type Setting, type SettingName, type Values } from "./settings.js";
import type { StoreLocation } from "./store-location.js";
import {
  portPems,
  portTlsFaults,
  portTlsSettingFaults,
  redisPems,
  redisTlsFaults,
  redisTlsSettingFaults,
} from "./tls-config.js";
import { readTracesConfig } from "./traces-config.js";

/** Load balancers check health every one to five seconds. */
const SHUTDOWN_DELAY_MS = 5_000;

/** Where sessions are kept, and how. */
export interface StoreConfig {
  readonly store: StoreLocation;
  /** What changes wait for on Redis. */
  readonly durability: Durability;
  /** What every key and channel in Redis begins with. */
  readonly keyPrefix: string;
  /** How long ended sessions stay listed, and a revoked id refused. */
  readonly retentionMs: number;
  /** The files of TLS to Redis. None by default. */
  readonly redisTls?: PemPaths;
}

/** Which keys seal, and whose access tokens are accepted: what SIGHUP makes a server read again. */
export interface AccessConfig {
  /** Undefined if a development server is to make a key itself. */
  readonly keyring: Keyring | undefined;
  /** Undefined if a development server is to accept its own tokens, and no others. */
  readonly auth: AuthConfig | undefined;
}

/** How many calls there may be, and what callers may leave behind. */
export interface CallBounds extends AdmissionOptions {
  readonly watches: Bound;
  readonly lockWaiters: Bound;
  /** Names of locks and keys of rate limits that one caller may use in an hour. */
  readonly namesPerCaller: number;
}

interface Bound {
  /** For a namespace that is alone; all together may have twice as many. */
  readonly perNamespace: number;
  readonly perCaller: number;
}

/** Everything that an operator decides. */
export interface Config extends StoreConfig, AccessConfig {
  readonly grpcAddress: Address;
  readonly httpAddress: Address;
  /** Where metrics are served alone. Undefined for the HTTP port. */
  readonly metricsAddress: Address | undefined;
  /** The files of TLS on every port. Undefined for plaintext. */
  readonly tls: PortPems | undefined;
  /** How long a server goes on serving after it was told to stop. */
  readonly shutdownDelayMs: number;
  /** The origins whose web pages may call. */
  readonly corsOrigins: readonly string[];
  /** Undefined if the server serves no console. */
  readonly console: ConsoleConfig | undefined;
  readonly edge: EdgeLimits;
  readonly sessionPolicy: SessionPolicy;
  readonly rateLimits: readonly RateLimitPolicy[];
  /** For how long an issuer's keys are used while it cannot be reached. */
  readonly issuerKeysMaxAgeMs: number;
  /** For how long calls wait for an issuer's answer; 1 second by default. */
  readonly issuerAnswerWaitMs?: number;
  /** How many processes serve. */
  readonly workers: number;
  readonly callBounds: CallBounds;
  readonly reflection: boolean;
  readonly logLevel: LogLevel;
  readonly audit: AuditConfig;
  /** Undefined if no traces are sent. */
  readonly traces: TracesConfig | undefined;
  /** Where a development server keeps its keys, and where the default store is. */
  readonly dataDir: string;
}

/**
 * Reads the whole configuration. An empty environment variable counts as unset.
 * Throws a ConfigError with every fault, each by its key. No fault shows a secret.
 */
export async function loadConfig(sources: ConfigSources): Promise<Config> {
  const settings = await readSettings(sources, Object.keys(SETTINGS) as SettingName[]);
  const { traces, faults } = readTracesConfig(sources.env);
  const values = complete<SettingName>(settings, [
    ...accessFaults(settings),
    ...consoleFaults(settings),
    ...(await portTlsFaults(settings)),
    ...(await redisTlsFaults(settings)),
    ...faults,
  ]);
  return {
    ...toStoreConfig(values),
    grpcAddress: values.grpcAddress,
    httpAddress: values.httpAddress,
    metricsAddress: values.metricsAddress,
    tls: portPems(values),
    shutdownDelayMs: values.shutdownDelay ?? defaultShutdownDelayMs(values),
    corsOrigins: values.corsOrigins ?? [],
    console: consoleConfig(values),
    edge: {
      maxConnections: values.maxConnections,
      maxStreams: values.maxStreams,
      maxStreamsPerConnection: values.maxStreamsPerConnection,
      maxHeaderBytes: values.maxHeaderSize,
      maxMessageBytes: values.maxMessageSize,
      maxBufferedBytes: values.maxBufferedSize,
      requestTimeoutMs: values.requestTimeout,
      connectionIdleMs: values.connectionIdleTimeout,
      maxConnectionAgeMs: values.maxConnectionAge,
    },
    sessionPolicy: {
      idleTimeoutMs: values.idleTimeout,
      lifetimeMs: values.lifetime,
      maxLifetimeMs: values.maxLifetime,
      maxSessionsPerUser: values.maxSessionsPerUser,
      policy: values.limitPolicy,
      onTokenReuse: values.onTokenReuse,
    },
    rateLimits: values.rateLimits,
    workers: values.workers,
    callBounds: {
      maxInFlight: values.maxCallsInFlight,
      maxPerCaller: values.maxCallsPerCaller,
      quota: values.callerQuota ?? [],
      watches: { perNamespace: MAX_WATCHES, perCaller: values.maxWatchesPerCaller },
      lockWaiters: { perNamespace: MAX_WAITERS, perCaller: values.maxLockWaitersPerCaller },
      namesPerCaller: values.maxNamesPerCaller,
    },
    keyring: values.keyring,
    auth: values.auth,
    issuerKeysMaxAgeMs: values.issuerKeysMaxAge,
    reflection: values.reflection,
    logLevel: values.logLevel,
    audit: { to: values.auditLog, level: values.auditLevel },
    traces,
    dataDir: values.dataDir,
  };
}

/** A server that others can reach probably stands behind a load balancer. */
function defaultShutdownDelayMs({ grpcAddress, httpAddress }: Values): number {
  return isLoopback(grpcAddress.host) && isLoopback(httpAddress.host) ? 0 : SHUTDOWN_DELAY_MS;
}

/** Reads only the keyring and the auth file. Throws as `loadConfig` does. */
export async function loadAccessConfig(sources: ConfigSources): Promise<AccessConfig> {
  const settings = await readSettings(sources, ["dev", "keyring", "auth"]);
  const { keyring, auth } = complete<"keyring" | "auth">(settings, accessFaults(settings));
  return { keyring, auth };
}

const STORE_SETTINGS = [
  ...(["store", "durability", "keyPrefix", "retention", "dataDir"] as const),
  ...(["redisCa", "redisCert", "redisKey"] as const),
] as const;

/**
 * Reads only where sessions are kept, and the keyring, which is required. The faults of
 * a server's other settings do not stop a command that has no use for them. Throws as
 * `loadConfig` does.
 */
export async function loadStoreConfig(
  sources: ConfigSources,
): Promise<{ readonly config: StoreConfig; readonly keyring: Keyring }> {
  const settings = await readSettings(sources, [...STORE_SETTINGS, "keyring"]);
  const missing = settings.given.has("keyring") ? [] : [`${keyOf(SETTINGS.keyring)}: required`];
  const values = complete<(typeof STORE_SETTINGS)[number] | "keyring">(settings, [
    ...missing,
    ...(await redisTlsFaults(settings)),
  ]);
  return { config: toStoreConfig(values), keyring: values.keyring as Keyring };
}

/** Where a server on this machine says whether it is ready. */
export interface ProbeConfig {
  readonly address: Address;
  readonly isTls: boolean;
}

/** An address that listens on all interfaces is reached on loopback. */
const REACHED_ON: Readonly<Record<string, string>> = { "0.0.0.0": "127.0.0.1", "::": "::1" };

/**
 * Reads only where `/readyz` is: the metrics' address, or else the HTTP port. Throws as `loadConfig`
 * does, also if nobody can ask there.
 */
export async function loadProbeConfig(sources: ConfigSources): Promise<ProbeConfig> {
  const names = ["metricsAddress", "httpAddress", "tlsCert", "tlsClientCa"] as const;
  const settings = await readSettings(sources, names);
  const name = settings.given.has("metricsAddress") ? "metricsAddress" : "httpAddress";
  const faults: string[] = [];
  if (settings.values[name]?.port === 0) {
    faults.push(faultOf(SETTINGS[name], "expected a port; with 0 the server has any"));
  }
  if (name === "httpAddress" && settings.given.has("tlsClientCa")) {
    const reason = `required with ${keyOf(SETTINGS.tlsClientCa)}; it asks for no certificate`;
    faults.push(faultOf(SETTINGS.metricsAddress, reason));
  }
  const values = complete<(typeof names)[number]>(settings, faults);
  // A setting that was given, and has no fault, has a value.
  const { host, port } = values[name] as Address;
  return {
    address: { host: REACHED_ON[host] ?? host, port },
    isTls: values.tlsCert !== undefined,
  };
}

/**
 * Only the data directory, for commands that need nothing else: the flag's value or
 * the environment's. Throws an Error if it cannot be a path.
 */
export function dataDirectory(flag: string | undefined, env: Environment): string {
  const { env: variable, default: byDefault } = SETTINGS.dataDir;
  return parsePath(flag ?? readVariable(env, variable)?.text ?? byDefault);
}

/** What a configuration with or without faults says. */
export interface ExaminedConfig extends ReadSettings {
  /** Undefined if a fault leaves it open where sessions are kept. */
  readonly storeConfig: StoreConfig | undefined;
  /** As the message of `loadConfig`, without the faults of the contents of TLS files. */
  readonly faults: readonly string[];
}

/** Reads as much of the whole configuration as is right, for a command that says what is not. */
export async function examineConfig(sources: ConfigSources): Promise<ExaminedConfig> {
  const settings = await readSettings(sources, Object.keys(SETTINGS) as SettingName[]);
  const faults = allFaults(settings, [
    ...accessFaults(settings),
    ...portTlsSettingFaults(settings),
    ...redisTlsSettingFaults(settings),
    ...readTracesConfig(sources.env).faults,
  ]);
  const { values, given } = settings;
  const required = ["durability", "keyPrefix", "retention", "dataDir"] as const;
  const isKnown =
    required.every((name) => values[name] !== undefined) &&
    (values.store !== undefined || !given.has("store"));
  const storeConfig = isKnown ? toStoreConfig(values as Values) : undefined;
  return { ...settings, faults, storeConfig };
}

/** All values that were read. Throws a ConfigError if there is any fault. */
function complete<Name extends SettingName>(
  settings: ReadSettings,
  moreFaults: readonly string[],
): Pick<Values, Name> {
  const all = allFaults(settings, moreFaults);
  if (all.length > 0) throw new ConfigError(all);
  // Without a fault, every setting with a default has a value.
  return settings.values as Values;
}

function allFaults(settings: ReadSettings, moreFaults: readonly string[]): readonly string[] {
  const { values, faults } = settings;
  const folders = [...folderFaults(settings), ...auditFolderFaults(values)];
  return [...faults, ...crossFaults(values), ...folders, ...moreFaults];
}

function toStoreConfig(values: Pick<Values, (typeof STORE_SETTINGS)[number]>): StoreConfig {
  const redisTls = redisPems(values);
  return {
    store: values.store ?? { kind: "sqlite", path: join(values.dataDir, "sessiond.db") },
    durability: values.durability,
    keyPrefix: values.keyPrefix,
    retentionMs: values.retention,
    ...(redisTls && { redisTls }),
  };
}

/** Each duration, and the one that it must not exceed. */
const DURATION_LIMITS = [
  ["idleTimeout", "lifetime"],
  ["lifetime", "maxLifetime"],
] as const;

/** The faults of values that are right by themselves and wrong together. */
function crossFaults(values: Partial<Values>): readonly string[] {
  const faults: string[] = [];
  for (const [name, limitName] of DURATION_LIMITS) {
    const [durationMs, limitMs] = [values[name], values[limitName]];
    if (durationMs === undefined || limitMs === undefined || durationMs <= limitMs) continue;
    const most = `${formatDuration(limitMs)}, which is ${keyOf(SETTINGS[limitName])}`;
    faults.push(
      faultOf(SETTINGS[name], `expected at most ${most}, got ${formatDuration(durationMs)}`),
    );
  }
  const isRedis = values.store !== undefined && values.store.kind !== "sqlite";
  if (values.durability === "replicated" && !isRedis) {
    const expected = `expected a Redis store in ${keyOf(SETTINGS.store)} with "replicated"`;
    faults.push(faultOf(SETTINGS.durability, expected));
  }
  // Each process would have a queue of writes of its own, and wait for the others' locks on the file.
  if (values.workers !== undefined && values.workers > 1 && !isRedis) {
    const expected = `expected 1 with SQLite, or a Redis store in ${keyOf(SETTINGS.store)}`;
    faults.push(faultOf(SETTINGS.workers, `${expected}, got ${values.workers}`));
  }
  return [...faults, ...addressFaults(values)];
}

const ADDRESSES = ["grpcAddress", "httpAddress", "metricsAddress"] as const;

/** Two ports cannot have the same address. */
function addressFaults(values: Partial<Values>): readonly string[] {
  return ADDRESSES.flatMap((name, i) => {
    const address = values[name];
    if (address === undefined || address.port === 0) return [];
    const other = ADDRESSES.slice(0, i).find((earlier) => {
      const { host, port } = values[earlier] ?? {};
      return host === address.host && port === address.port;
    });
    if (other === undefined) return [];
    const taken = `${keyOf(SETTINGS[other])}, ${formatAddress(address)}`;
    return faultOf(SETTINGS[name], `expected another address than ${taken}`);
  });
}

/**
 * A file of SQLite stands in a folder that exists: a typo must not become a new, empty store. Only
 * the default data directory is made, and whatever a development server names.
 */
function folderFaults({ values, given }: ReadSettings): readonly string[] {
  const { store, dataDir, dev } = values;
  if (given.has("store")) {
    if (store?.kind !== "sqlite" || store.path === ":memory:") return [];
    return missingFolder(SETTINGS.store, dirname(store.path));
  }
  if (!given.has("dataDir") || dataDir === undefined || dev) return [];
  return missingFolder(SETTINGS.dataDir, dataDir);
}

/** Found at the start, because later a file that cannot be opened is only a line in the log. */
function auditFolderFaults({ auditLog }: Partial<Values>): readonly string[] {
  if (typeof auditLog !== "object" || existsSync(dirname(auditLog.file) + sep)) return [];
  // Any text is a path, a key in the wrong place too. So the message does not repeat it.
  return [faultOf(SETTINGS.auditLog, "expected the path of a file in a folder that exists")];
}

function missingFolder(setting: Setting, path: string): readonly string[] {
  const folder = resolve(path);
  if (existsSync(folder + sep)) return [];
  return [faultOf(setting, `expected a folder that exists, and ${folder} does not`)];
}

/**
 * A server runs on keys that it made itself, and prints a token with every permission,
 * only if it was told so, and only where nobody else can reach it.
 */
function accessFaults({ values, given }: ReadSettings): readonly string[] {
  if (values.dev === undefined) return [];
  if (values.dev) {
    return ADDRESSES.flatMap((name) => {
      const address = values[name];
      if (address === undefined || isLoopback(address.host)) return [];
      const expected = `expected a loopback address with ${keyOf(SETTINGS.dev)}`;
      return faultOf(SETTINGS[name], `${expected}, got ${formatAddress(address)}`);
    });
  }
  const remedies = {
    keyring: "make a key with `sessiond keygen`",
    auth: "name a JSON file of the issuers whose tokens to accept, as docs/configuration.md says",
  };
  return (["keyring", "auth"] as const)
    .filter((name) => !given.has(name))
    .map((name) => faultOf(SETTINGS[name], `required without --dev; ${remedies[name]}`));
}

function faultOf(setting: Setting, description: string): string {
  return `${keyOf(setting)}: ${description}`;
}
