import { join } from "node:path";
import {
  formatDuration,
  type Keyring,
  quote,
  type RateLimitPolicy,
  type SessionPolicy,
} from "@sessiond/core";
import type { Durability } from "@sessiond/core/redis";
import type { AuthConfig } from "../auth/issuer.js";
import { type Address, formatAddress, isLoopback } from "../network/address.js";
import type { LogLevel } from "../observability/log-level.js";
import { ConfigError } from "./config-error.js";
import { type Environment, unknownVariables } from "./environment.js";
import { parseFlags } from "./flags.js";
import { parsePath, SETTING_LIST, SETTINGS, type Setting, type Values } from "./settings.js";
import type { StoreLocation } from "./store-location.js";

/** Everything that an operator decides. */
export interface Config {
  readonly grpcAddress: Address;
  readonly httpAddress: Address;
  /** The origins whose web pages may call. */
  readonly corsOrigins: readonly string[];
  readonly store: StoreLocation;
  /** What changes wait for on Redis. */
  readonly durability: Durability;
  readonly sessionPolicy: SessionPolicy;
  readonly rateLimits: readonly RateLimitPolicy[];
  /** How long ended sessions stay listed, and a revoked id refused. */
  readonly retentionMs: number;
  /** Undefined on a development server, which makes a key itself. */
  readonly keyring: Keyring | undefined;
  /** Undefined on a development server, which accepts only its own tokens. */
  readonly auth: AuthConfig | undefined;
  readonly reflection: boolean;
  readonly logLevel: LogLevel;
  /** Where a development server keeps its keys, and where the default store is. */
  readonly dataDir: string;
}

/** Where the configuration comes from. */
export interface ConfigSources {
  /** The flags of `sessiond serve`; they go before the environment. */
  readonly argv: readonly string[];
  readonly env: Environment;
}

/**
 * Reads the whole configuration. An empty environment variable counts as unset.
 * Throws a ConfigError with every fault, each by its key. No fault shows a secret.
 */
export async function loadConfig({ argv, env }: ConfigSources): Promise<Config> {
  const flags = parseFlags(
    argv,
    SETTING_LIST.map(({ flag }) => flag),
  );
  const variables = SETTING_LIST.map((setting) => setting.env);
  const faults = [...flags.faults, ...unknownVariables(env, variables)];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries<Setting>(SETTINGS)) {
    const text = flags.values.get(setting.flag) ?? textOf(env, setting);
    if (text === undefined) continue;
    try {
      values[name] = await setting.parse(text);
    } catch (error) {
      faults.push(...faultsOf(setting, text, error));
    }
  }
  const isGiven = ({ flag, env: name }: Setting) => flags.values.has(flag) || Boolean(env[name]);
  faults.push(...crossFaults(values), ...missingSecrets(values, isGiven));
  if (faults.length > 0) throw new ConfigError(faults);
  // Without a fault, every setting with a default has a value of its parser's type.
  return toConfig(values as Values);
}

/**
 * Only the data directory, for commands that need nothing else: the flag's value or
 * the environment's. Throws an Error if it cannot be a path.
 */
export function dataDirectory(flag: string | undefined, env: Environment): string {
  return parsePath(flag ?? (env[SETTINGS.dataDir.env] || SETTINGS.dataDir.default));
}

function toConfig(values: Values): Config {
  return {
    grpcAddress: values.grpcAddress,
    httpAddress: values.httpAddress,
    corsOrigins: values.corsOrigins ?? [],
    store: values.store ?? { kind: "sqlite", path: join(values.dataDir, "sessiond.db") },
    durability: values.durability,
    sessionPolicy: {
      idleTimeoutMs: values.idleTimeout,
      lifetimeMs: values.lifetime,
      maxLifetimeMs: values.maxLifetime,
      maxSessionsPerUser: values.maxSessionsPerUser,
      policy: values.limitPolicy,
      onTokenReuse: values.onTokenReuse,
    },
    rateLimits: values.rateLimits,
    retentionMs: values.retention,
    keyring: values.keyring,
    auth: values.auth,
    reflection: values.reflection,
    logLevel: values.logLevel,
    dataDir: values.dataDir,
  };
}

/** The faults of values that are right by themselves and wrong together. */
function crossFaults(values: Partial<Values>): readonly string[] {
  const { grpcAddress, httpAddress, maxLifetime } = values;
  const faults: string[] = [];
  for (const name of ["idleTimeout", "lifetime"] as const) {
    const durationMs = values[name];
    if (durationMs === undefined || maxLifetime === undefined || durationMs <= maxLifetime)
      continue;
    const most = `${formatDuration(maxLifetime)}, which is ${keyOf(SETTINGS.maxLifetime)}`;
    faults.push(
      faultOf(SETTINGS[name], `expected at most ${most}, got ${formatDuration(durationMs)}`),
    );
  }
  const isRedis = values.store !== undefined && values.store.kind !== "sqlite";
  if (values.durability === "replicated" && !isRedis) {
    const expected = `expected a Redis store in ${keyOf(SETTINGS.store)} with "replicated"`;
    faults.push(faultOf(SETTINGS.durability, expected));
  }
  if (grpcAddress === undefined || httpAddress === undefined) return faults;
  const isSamePort = grpcAddress.port === httpAddress.port && grpcAddress.port !== 0;
  if (isSamePort && grpcAddress.host === httpAddress.host) {
    const other = `${keyOf(SETTINGS.grpcAddress)}, ${formatAddress(grpcAddress)}`;
    faults.push(faultOf(SETTINGS.httpAddress, `expected another address than ${other}`));
  }
  return faults;
}

/** A server that others can reach must not run on keys that it made for development. */
function missingSecrets(
  values: Partial<Values>,
  isGiven: (setting: Setting) => boolean,
): readonly string[] {
  const open = (["grpcAddress", "httpAddress"] as const).find((name) => {
    const address = values[name];
    return address !== undefined && !isLoopback(address.host);
  });
  const address = open && values[open];
  if (open === undefined || address === undefined) return [];
  const why = `required, as ${keyOf(SETTINGS[open])} is ${formatAddress(address)} and not loopback`;
  const remedies = [
    { setting: SETTINGS.keyring, remedy: "make a key with `sessiond keygen`" },
    { setting: SETTINGS.auth, remedy: "name a JSON file of the issuers whose tokens to accept" },
  ];
  return remedies
    .filter(({ setting }) => !isGiven(setting))
    .map(({ setting, remedy }) => faultOf(setting, `${why}; ${remedy}`));
}

function textOf(env: Environment, setting: Setting): string | undefined {
  const text = env[setting.env];
  return text === undefined || text === "" ? setting.default : text;
}

function keyOf(setting: Setting): string {
  return `${setting.env} (--${setting.flag})`;
}

function faultOf(setting: Setting, description: string): string {
  return `${keyOf(setting)}: ${description}`;
}

function faultsOf(setting: Setting, text: string, error: unknown): readonly string[] {
  if (error instanceof ConfigError) return error.faults.map((fault) => faultOf(setting, fault));
  const message = error instanceof Error ? error.message : String(error);
  if (setting.secret) return [faultOf(setting, message)];
  return [faultOf(setting, `${message}, got ${quote(text)}`)];
}
