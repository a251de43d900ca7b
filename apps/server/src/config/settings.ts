import { resolve } from "node:path";
import { Keyring, parseDuration } from "@sessiond/core";
import type { Durability } from "@sessiond/core/redis";
import { parseAddress } from "../network/address.js";
import { parseOrigins } from "../network/origins.js";
import type { AuditDestination } from "../observability/audit-log.js";
import { AUDIT_LEVELS, LOG_LEVELS } from "../observability/log-level.js";
import { BOUND_SETTINGS } from "./bound-settings.js";
import { parseBoolean, parseChoice } from "./choice.js";
import { CONNECTION_SETTINGS } from "./connection-settings.js";
import { CONSOLE_SETTINGS } from "./console-settings.js";
import { LOAD_SETTINGS } from "./load-settings.js";
import { SESSION_SETTINGS } from "./session-settings.js";
import type { Setting } from "./setting.js";
import { parseStoreLocation } from "./store-location.js";
import { PORT_TLS_SETTINGS, REDIS_TLS_SETTINGS } from "./tls-settings.js";
import { WORKERS_SETTING } from "./workers-setting.js";

const DURABILITIES = ["auto", "local", "replicated"] as const satisfies readonly Durability[];
const MIN_KEYS_MAX_AGE_MS = 5 * 60_000;

export type { Setting };

/** Every setting, in the order of --help. */
export const SETTINGS = {
  grpcAddress: {
    group: "Listening",
    env: "SESSIOND_GRPC_ADDRESS",
    flag: "grpc-address",
    placeholder: "HOST:PORT",
    default: "127.0.0.1:50051",
    help: "where gRPC listens; port 0 lets the system choose",
    details: "Health checks and reflection are served here as well.",
    parse: parseAddress,
  },
  httpAddress: {
    group: "Listening",
    env: "SESSIOND_HTTP_ADDRESS",
    flag: "http-address",
    placeholder: "HOST:PORT",
    default: "127.0.0.1:8080",
    help: "where Connect, gRPC-Web, JSON and `/healthz` listen; gRPC, too, but more slowly",
    details:
      "HTTP/1.1 and HTTP/2 are served here, with `/healthz`, `/readyz` and, unless " +
      "[SESSIOND_METRICS_ADDRESS](#sessiond_metrics_address) is set, `/metrics`. `/readyz` says as " +
      "JSON which part is not ready and since when. gRPC on this port is for " +
      "callers that reach no other, at a third of the speed.\n\n" +
      "How long a request may be is [a setting](#sessiond_max_message_size).",
    parse: parseAddress,
  },
  corsOrigins: {
    group: "Listening",
    env: "SESSIOND_CORS_ORIGINS",
    flag: "cors-origins",
    placeholder: "ORIGIN,…",
    help:
      "the origins of web pages that may call the HTTP port, such as `https://app.example.com`, " +
      "separated by commas (default none)",
    details:
      "For pages that call by Connect, gRPC-Web or JSON and have access tokens of their own, such " +
      "as a console for operators. Each origin stands exactly as browsers send it: scheme, host " +
      "and port, without a path and without wildcards. Cookies are never asked for. A page whose " +
      "calls go through its own server needs no CORS.",
    parse: parseOrigins,
  },
  ...PORT_TLS_SETTINGS,
  ...CONNECTION_SETTINGS,
  store: {
    group: "Store",
    env: "SESSIOND_STORE",
    flag: "store",
    placeholder: "STORE",
    help:
      "`sqlite:PATH`, `sqlite::memory:`, `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, " +
      "`redis+cluster://HOST:PORT,…` or `redis+sentinel://HOST:PORT,…/MASTER`; `rediss` for TLS " +
      "(default `sqlite:<data dir>/sessiond.db`)",
    details:
      "The folder of a SQLite file must exist, so that a typo does not become a new, empty store.\n\n" +
      "Redis must be version 7 or newer, with `maxmemory-policy noeviction`: any other policy drops " +
      "sessions silently. [redis.md](redis.md) says more about replicas, failovers and clusters.",
    secret: true,
    parse: parseStoreLocation,
  },
  durability: {
    group: "Store",
    env: "SESSIOND_DURABILITY",
    flag: "durability",
    placeholder: "LEVEL",
    default: "auto",
    help:
      "what a change on Redis waits for: `local`, the primary alone; `replicated`, a replica as " +
      "well; `auto`, a replica for what ends a session or a token, where there are replicas",
    details: "[redis.md](redis.md) says what each level can lose in a failover.",
    parse: (text) => parseChoice(text, DURABILITIES),
  },
  keyPrefix: {
    group: "Store",
    env: "SESSIOND_KEY_PREFIX",
    flag: "key-prefix",
    placeholder: "PREFIX",
    default: "sessiond:",
    help:
      "what every key and channel in Redis begins with: a word and a colon. Environments that share " +
      "one Redis need different ones",
    details: "With another prefix, a server finds no sessions.",
    parse: parseKeyPrefix,
  },
  ...REDIS_TLS_SETTINGS,
  ...SESSION_SETTINGS,
  ...WORKERS_SETTING,
  ...LOAD_SETTINGS,
  ...BOUND_SETTINGS,
  dev: {
    group: "Keys and access",
    env: "SESSIOND_DEV",
    flag: "dev",
    default: "false",
    help:
      "runs a development server: it makes the keyring or the access tokens' key itself, if they " +
      "are not given, keeps them in the data directory, and prints a token with every permission. " +
      "On loopback addresses only",
    details:
      "Without `--dev`, a server needs [SESSIOND_KEYRING](#sessiond_keyring) and " +
      "[SESSIOND_AUTH](#sessiond_auth), wherever it listens. With it, `sessiond token` makes access " +
      "tokens for the server.",
    parse: parseBoolean,
  },
  keyring: {
    group: "Keys and access",
    env: "SESSIOND_KEYRING",
    flag: "keyring",
    placeholder: "KID:BASE64,…",
    help:
      "the keys that seal session data, the active one first; make one with `sessiond keygen`. " +
      "Others can see flags: prefer the variable or a file (required without `--dev`)",
    details: "[key-rotation.md](key-rotation.md) says how to change keys without downtime.",
    secret: true,
    parse: (text) => Keyring.parse(text),
  },
  auth: {
    group: "Keys and access",
    env: "SESSIOND_AUTH",
    flag: "auth",
    placeholder: "FILE",
    help:
      "a JSON file of the issuers of access tokens and of what roles permit; " +
      "docs/configuration.md describes it (required without `--dev`)",
    details: "Its keys and an example stand under [The auth file](#the-auth-file).",
    // zod is slow to load, and only a server with an auth file needs it.
    parse: async (text) => {
      if (text.trimStart().startsWith("{")) {
        throw new Error("expected the path of a JSON file, not its contents");
      }
      return (await import("./auth-config.js")).readAuthFile(resolve(text));
    },
  },
  issuerKeysMaxAge: {
    group: "Keys and access",
    env: "SESSIOND_ISSUER_KEYS_MAX_AGE",
    flag: "issuer-keys-max-age",
    placeholder: "DURATION",
    default: "24h",
    help: "how long an issuer's keys are used while it cannot be reached; at least `5m`",
    details:
      "An issuer's keys are loaded when they are first needed, and reloaded every minute while they " +
      "are in use. If the issuer does not answer, or answers without a usable key, callers go on with " +
      "the known keys for this long. Then their calls fail with `ISSUER_UNAVAILABLE`. A shorter time " +
      "bounds how long a stolen key serves whoever can also cut the server off from the issuer; a " +
      "longer time survives longer outages. Access tokens expire all the same.\n\n" +
      "While an issuer answers, a key that it withdraws is accepted for two minutes at most. To end " +
      "its tokens during an outage, take the issuer out of the auth file and send SIGHUP.",
    parse: parseKeysMaxAge,
  },
  reflection: {
    group: "Listening",
    env: "SESSIOND_REFLECTION",
    flag: "reflection",
    placeholder: "BOOLEAN",
    default: "true",
    help: "whether gRPC reflection tells anyone the contract: `true` or `false`",
    parse: parseBoolean,
  },
  ...CONSOLE_SETTINGS,
  logLevel: {
    group: "Observability",
    env: "SESSIOND_LOG_LEVEL",
    flag: "log-level",
    placeholder: "LEVEL",
    default: "info",
    help: LOG_LEVELS.map((level) => `\`${level}\``).join(", "),
    details:
      "The log is JSON lines on stdout: the method, code, duration, session id, caller, client " +
      "certificate and trace ids of each call; never a token, never session data.",
    parse: (text) => parseChoice(text, LOG_LEVELS),
  },
  auditLog: {
    group: "Observability",
    env: "SESSIOND_AUDIT_LOG",
    flag: "audit-log",
    placeholder: "WHERE",
    default: "stdout",
    help: "where the audit goes: `stdout`, `stderr`, the path of a file, or `off`",
    details:
      "A file is appended to. If there is none it is made, with mode 0600, in a folder that exists. " +
      "SIGHUP has it opened again, for logrotate. [audit.md](audit.md) has every event.",
    parse: parseAuditLog,
  },
  auditLevel: {
    group: "Observability",
    env: "SESSIOND_AUDIT_LEVEL",
    flag: "audit-level",
    placeholder: "LEVEL",
    default: "info",
    help: "what the audit has: everything (`info`), or what was refused and reused tokens (`warn`)",
    parse: (text) => parseChoice(text, AUDIT_LEVELS),
  },
  metricsAddress: {
    group: "Observability",
    env: "SESSIOND_METRICS_ADDRESS",
    flag: "metrics-address",
    placeholder: "HOST:PORT",
    help: "where `/metrics` is served, with `/healthz` and `/readyz` (default: on the HTTP port)",
    details:
      "Metrics are in the text format of Prometheus, or in OpenMetrics for who asks for it. They hold " +
      "no token, user, session or namespace, but names of issuers and of rate-limit policies, and " +
      "how many sessions there are. Nobody needs an access token to read them: set an address of " +
      "its own if the HTTP port is open to others. With [SESSIOND_TLS_CERT](#sessiond_tls_cert) it " +
      "speaks TLS, and asks nobody for a certificate: Prometheus and the probes of Kubernetes reach " +
      "it also where the other ports ask for one.",
    parse: parseAddress,
  },
  dataDir: {
    group: "Store",
    env: "SESSIOND_DATA_DIR",
    flag: "data-dir",
    placeholder: "DIRECTORY",
    default: ".sessiond",
    help: "where a development server keeps its keys, and where the default store is",
    parse: parsePath,
  },
} as const satisfies Record<string, Setting>;

/** The name of a setting in the table. */
export type SettingName = keyof typeof SETTINGS;

/** What the settings come to, each by its name in the table. */
export type Values = {
  readonly [N in SettingName]:
    | Awaited<ReturnType<(typeof SETTINGS)[N]["parse"]>>
    | ((typeof SETTINGS)[N] extends { readonly default: string } ? never : undefined);
};

/** The settings without their names, for code that treats all of them alike. */
export const SETTING_LIST: readonly Setting[] = Object.values(SETTINGS);

/** Keys in use are reloaded every minute: less than some of these would make every hiccup an outage. */
function parseKeysMaxAge(text: string): number {
  const ms = parseDuration(text);
  if (ms < MIN_KEYS_MAX_AGE_MS) throw new Error("expected at least 5m");
  return ms;
}

/** A file by its absolute path, which a later change of the working directory does not move. */
function parseAuditLog(text: string): AuditDestination {
  if (text === "stdout" || text === "stderr" || text === "off") return text;
  return { file: resolve(parsePath(text)) };
}

/** One word only, so that no key with one prefix looks like a key with another. */
function parseKeyPrefix(text: string): string {
  if (/^[A-Za-z0-9._-]{1,64}:$/.test(text)) return text;
  throw new Error("expected 1 to 64 characters out of A-Z a-z 0-9 . _ - and then a colon");
}

/** Throws an Error for what is no path: a URL, for example, whose password a later fault would show. */
export function parsePath(text: string): string {
  if (text === "" || /\0|:\/\//.test(text)) throw new Error("expected a path");
  return text;
}
