import { resolve } from "node:path";
import {
  DEFAULT_RATE_LIMITS,
  Keyring,
  parseDuration,
  parseRateLimitPolicies,
} from "@sessiond/core";
import type { Durability } from "@sessiond/core/redis";
import { parseAddress } from "../network/address.js";
import { LOG_LEVELS } from "../observability/log-level.js";
import { parseStoreLocation } from "./store-location.js";

const LIMIT_POLICIES = ["evict_oldest", "reject"] as const;
const DURABILITIES = ["auto", "local", "replicated"] as const satisfies readonly Durability[];
const MAX_SESSIONS_PER_USER = 1000;

export interface Setting {
  readonly env: string;
  readonly flag: string;
  readonly placeholder: string;
  /** As text, like what the environment would say. Without one, the value may be undefined. */
  readonly default?: string;
  readonly help: string;
  /** Set where the value may hold a secret and must not be repeated. */
  readonly secret?: true;
  /**
   * The value or a promise of it. Throws an Error that says what was expected, or a
   * ConfigError with several faults.
   */
  readonly parse: (text: string) => unknown;
}

/** Every setting there is; parsing and help both come from here. */
export const SETTINGS = {
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
    // zod is slow to load, and only a server with an auth file needs it.
    parse: async (text) => (await import("./auth-config.js")).readAuthFile(resolve(text)),
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

export type SettingName = keyof typeof SETTINGS;

export type Values = {
  readonly [N in SettingName]:
    | Awaited<ReturnType<(typeof SETTINGS)[N]["parse"]>>
    | ((typeof SETTINGS)[N] extends { readonly default: string } ? never : undefined);
};

export const SETTING_LIST: readonly Setting[] = Object.values(SETTINGS);

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

export function parsePath(text: string): string {
  if (text === "" || text.includes("\0")) throw new Error("expected a path");
  return text;
}
