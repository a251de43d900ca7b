import { join, resolve } from "node:path";
import {
  DEFAULT_RATE_LIMITS,
  formatDuration,
  Keyring,
  parseDuration,
  parseRateLimitPolicies,
  type RateLimitPolicy,
  type SessionPolicy,
} from "@sessiond/core";
import type { Durability } from "@sessiond/core/redis";
import type { AuthConfig } from "../auth/issuer.js";
import { type Address, formatAddress, isLoopback, parseAddress } from "../network/address.js";
import { LOG_LEVELS, type LogLevel } from "../observability/log-level.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { readAuthFile } from "./auth-config.js";
import { didYouMean } from "./closest-name.js";
import { ConfigError } from "./config-error.js";
import { parseFlags } from "./flags.js";
import { parseStoreLocation, type StoreLocation } from "./store-location.js";

/** Everything an operator decides. */
export interface Config {
  readonly grpcAddress: Address;
  readonly httpAddress: Address;
  readonly store: StoreLocation;
  /** What changes wait for on Redis. */
  readonly durability: Durability;
  readonly sessionPolicy: SessionPolicy;
  readonly rateLimits: readonly RateLimitPolicy[];
  /** How long ended sessions stay listed, and a revoked id refused. */
  readonly retentionMs: number;
  /** Undefined on a development server, which makes its own. */
  readonly keyring: Keyring | undefined;
  /** Undefined on a development server, which accepts its own tokens alone. */
  readonly auth: AuthConfig | undefined;
  readonly reflection: boolean;
  readonly logLevel: LogLevel;
  /** Where a development server keeps its keys; the default store is in it, too. */
  readonly dataDir: string;
}

const LIMIT_POLICIES = ["evict_oldest", "reject"] as const;
const DURABILITIES = ["auto", "local", "replicated"] as const satisfies readonly Durability[];
const PREFIX = "SESSIOND_";
/**
 * What commands other than a server's have from the environment, and what `sessiond
 * lock run` gives to its own. No setting, but no slip of the pen either.
 */
const OTHER_VARIABLES = ["SERVER", "TOKEN", "FENCING_TOKEN"];
const MAX_SESSIONS_PER_USER = 1000;
const MAX_QUOTED_LENGTH = 100;
const MAX_LINE_LENGTH = 80;
const INDENT = "      ";

/** The environment, as `process.env` has it. */
export type Environment = Readonly<Record<string, string | undefined>>;

interface Setting {
  readonly env: string;
  readonly flag: string;
  readonly placeholder: string;
  /** As text, like what the environment would say. Without one, the value may be undefined. */
  readonly default?: string;
  readonly help: string;
  /** Set where the value may hold a secret and must not be repeated. */
  readonly secret?: true;
  /** Throws an Error that says what was expected, or a ConfigError with several faults. */
  readonly parse: (text: string) => unknown;
}

/** Every setting there is; parsing and help both come from here. */
const SETTINGS = {
  grpcAddress: {
    env: "SESSIOND_GRPC_ADDRESS",
    flag: "grpc-address",
    placeholder: "HOST:PORT",
    default: "127.0.0.1:50051",
    help: "where gRPC listens; port 0 lets the system choose",
    parse: parseAddress,
  },
  httpAddress: {
    env: "SESSIOND_HTTP_ADDRESS",
    flag: "http-address",
    placeholder: "HOST:PORT",
    default: "127.0.0.1:8080",
    help: "where Connect, gRPC-Web, JSON and /healthz listen; gRPC, too, but more slowly",
    parse: parseAddress,
  },
  store: {
    env: "SESSIOND_STORE",
    flag: "store",
    placeholder: "STORE",
    help:
      "sqlite:PATH, sqlite::memory:, redis://[USER:PASSWORD@]HOST[:PORT][/DB], " +
      "redis+cluster://HOST:PORT,… or redis+sentinel://HOST:PORT,…/MASTER; rediss for TLS " +
      "(default sqlite:<data dir>/sessiond.db)",
    secret: true,
    parse: parseStoreLocation,
  },
  durability: {
    env: "SESSIOND_DURABILITY",
    flag: "durability",
    placeholder: "LEVEL",
    default: "auto",
    help:
      "what a change on Redis waits for: local, the primary alone; replicated, a replica as well; " +
      "auto, a replica for what ends a session or a token, where there are replicas",
    parse: (text) => parseChoice(text, DURABILITIES),
  },
  idleTimeout: {
    env: "SESSIOND_IDLE_TIMEOUT",
    flag: "idle-timeout",
    placeholder: "DURATION",
    default: "30m",
    help: "how long a session lives without activity, unless its creator says",
    parse: parseDuration,
  },
  lifetime: {
    env: "SESSIOND_LIFETIME",
    flag: "lifetime",
    placeholder: "DURATION",
    default: "24h",
    help: "how long a session lives in all, unless its creator says",
    parse: parseDuration,
  },
  maxLifetime: {
    env: "SESSIOND_MAX_LIFETIME",
    flag: "max-lifetime",
    placeholder: "DURATION",
    default: "365d",
    help: "the most a creator may ask for, of either",
    parse: parseDuration,
  },
  maxSessionsPerUser: {
    env: "SESSIOND_MAX_SESSIONS_PER_USER",
    flag: "max-sessions-per-user",
    placeholder: "COUNT",
    default: "10",
    help: `how many active sessions a user may have; 1 to ${MAX_SESSIONS_PER_USER}`,
    parse: parseMaxSessionsPerUser,
  },
  limitPolicy: {
    env: "SESSIOND_LIMIT_POLICY",
    flag: "limit-policy",
    placeholder: "POLICY",
    default: "evict_oldest",
    help: "what gives way beyond that: evict_oldest, or reject the new one",
    parse: (text) => parseChoice(text, LIMIT_POLICIES),
  },
  retention: {
    env: "SESSIOND_RETENTION",
    flag: "retention",
    placeholder: "DURATION",
    default: "10m",
    help: "how long ended sessions can be listed, and revoked ids stay taken",
    parse: parseDuration,
  },
  rateLimits: {
    env: "SESSIOND_RATE_LIMITS",
    flag: "rate-limits",
    placeholder: "NAME: …; …",
    default: DEFAULT_RATE_LIMITS,
    help:
      'policies that CheckRateLimit counts by, such as "login: 10 per 15m, 50 per 24h; ' +
      'signup: 3 per 1h (count refused)"; the other option is (allow when unavailable)',
    parse: parseRateLimitPolicies,
  },
  keyring: {
    env: "SESSIOND_KEYRING",
    flag: "keyring",
    placeholder: "KID:BASE64,…",
    help:
      "the keys that seal session data, the active one first; make one with `sessiond keygen`. " +
      "Others can see flags: prefer the variable (default, on loopback only: a development key)",
    secret: true,
    parse: (text) => Keyring.parse(text),
  },
  auth: {
    env: "SESSIOND_AUTH",
    flag: "auth",
    placeholder: "FILE",
    help:
      "a JSON file of the issuers of access tokens and of what roles permit; README.md " +
      "has an example and all its keys (default, on loopback only: development tokens)",
    parse: (text) => readAuthFile(resolve(text), KNOWN_PERMISSIONS),
  },
  reflection: {
    env: "SESSIOND_REFLECTION",
    flag: "reflection",
    placeholder: "BOOLEAN",
    default: "true",
    help: "whether gRPC reflection tells anyone the contract: true or false",
    parse: (text) => parseChoice(text, ["true", "false"]) === "true",
  },
  logLevel: {
    env: "SESSIOND_LOG_LEVEL",
    flag: "log-level",
    placeholder: "LEVEL",
    default: "info",
    help: LOG_LEVELS.join(", "),
    parse: (text) => parseChoice(text, LOG_LEVELS),
  },
  dataDir: {
    env: "SESSIOND_DATA_DIR",
    flag: "data-dir",
    placeholder: "DIRECTORY",
    default: ".sessiond",
    help: "where a development server keeps its keys, and the default store is",
    parse: parsePath,
  },
} as const satisfies Record<string, Setting>;

type SettingName = keyof typeof SETTINGS;

type Values = {
  readonly [N in SettingName]:
    | ReturnType<(typeof SETTINGS)[N]["parse"]>
    | ((typeof SETTINGS)[N] extends { readonly default: string } ? never : undefined);
};

const SETTING_LIST: readonly Setting[] = Object.values(SETTINGS);

/** Where the configuration comes from. */
export interface ConfigSources {
  /** The flags of `sessiond serve`; they go before the environment. */
  readonly argv: readonly string[];
  readonly env: Environment;
}

/**
 * Reads the whole configuration. An empty environment variable counts as unset.
 * Throws a ConfigError with every fault there is, each by its key, showing no
 * secret.
 */
export function loadConfig({ argv, env }: ConfigSources): Config {
  const flags = parseFlags(
    argv,
    SETTING_LIST.map(({ flag }) => flag),
  );
  const faults = [...flags.faults, ...unknownVariables(env)];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries<Setting>(SETTINGS)) {
    const text = flags.values.get(setting.flag) ?? textOf(env, setting);
    if (text === undefined) continue;
    try {
      values[name] = setting.parse(text);
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

/** The data directory alone, for commands that need no more: the flag's value, or the environment's. */
export function dataDirectory(flag: string | undefined, env: Environment): string {
  return parsePath(flag ?? (env[SETTINGS.dataDir.env] || SETTINGS.dataDir.default));
}

/** What `--help` says of every setting. */
export function describeSettings(): string {
  return SETTING_LIST.map((setting) => {
    const words = setting.help.split(" ");
    if (setting.default !== undefined) words.push(`(default ${setting.default})`);
    const heading = `  --${setting.flag} ${setting.placeholder}`.padEnd(41);
    return `${heading} ${setting.env}\n${wrap(words)}\n`;
  }).join("");
}

function toConfig(values: Values): Config {
  return {
    grpcAddress: values.grpcAddress,
    httpAddress: values.httpAddress,
    store: values.store ?? { kind: "sqlite", path: join(values.dataDir, "sessiond.db") },
    durability: values.durability,
    sessionPolicy: {
      idleTimeoutMs: values.idleTimeout,
      lifetimeMs: values.lifetime,
      maxLifetimeMs: values.maxLifetime,
      maxSessionsPerUser: values.maxSessionsPerUser,
      policy: values.limitPolicy,
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

/** What is wrong only in combination, as far as the values themselves are right. */
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

function unknownVariables(env: Environment): readonly string[] {
  const known = SETTING_LIST.map((setting) => setting.env.slice(PREFIX.length));
  return Object.entries(env)
    .filter(([name, value]) => name.startsWith(PREFIX) && !isServiceLink(name, value ?? ""))
    .map(([name]) => name.slice(PREFIX.length))
    .filter((name) => !known.includes(name) && !OTHER_VARIABLES.includes(name))
    .map((name) => `${PREFIX}${name}: unknown variable${didYouMean(name, known, PREFIX)}`);
}

/**
 * Kubernetes and Docker give containers variables such as SESSIOND_SERVICE_HOST
 * and SESSIOND_PORT=tcp://10.0.0.7:8080, when a service is called sessiond.
 */
function isServiceLink(name: string, value: string): boolean {
  if (/_SERVICE_(HOST|PORT(_\w+)?)$/.test(name)) return true;
  if (/_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name)) return true;
  return name.endsWith("_PORT") && /^(tcp|udp|sctp):\/\//.test(value);
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
  const got = text.length > MAX_QUOTED_LENGTH ? `${text.slice(0, MAX_QUOTED_LENGTH)}…` : text;
  return [faultOf(setting, `${message}, got ${JSON.stringify(got)}`)];
}

function parseMaxSessionsPerUser(text: string): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > MAX_SESSIONS_PER_USER) {
    throw new Error(`expected a whole number from 1 to ${MAX_SESSIONS_PER_USER}`);
  }
  return count;
}

function parseChoice<T extends string>(text: string, choices: readonly T[]): T {
  const choice = choices.find((candidate) => candidate === text);
  if (choice === undefined) {
    const list = new Intl.ListFormat("en", { type: "disjunction" });
    throw new Error(`expected ${list.format(choices)}`);
  }
  return choice;
}

function parsePath(text: string): string {
  if (text === "" || text.includes("\0")) throw new Error("expected a path");
  return text;
}

/** Lines of at most 80 characters, indented below their flag. */
function wrap(words: readonly string[]): string {
  const lines: string[] = [];
  let line = INDENT;
  for (const word of words) {
    if (line !== INDENT && line.length + 1 + word.length > MAX_LINE_LENGTH) {
      lines.push(line);
      line = INDENT;
    }
    line += line === INDENT ? word : ` ${word}`;
  }
  return [...lines, line].join("\n");
}
