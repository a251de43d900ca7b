import type { Transport } from "@connectrpc/connect";
import { nameOf } from "./error.js";
import { type NamesOf, refusal, unknownNames, violationsOf } from "./known-names.js";
import { type TlsOptions, tlsFaults } from "./tls-options.js";

/**
 * The access token of this client's calls: the token, or a function that returns the current one.
 * The client asks the function once per call, so it should remember its token until that is about
 * to expire. It asks again if the function fails, within the call's timeout and attempts; then the
 * call fails with TOKEN_UNAVAILABLE. A function that was refused a token throws UNAUTHENTICATED;
 * then the call fails with that, and the client does not ask again.
 *
 * `clientCredentials` and `tokenFile` make such functions.
 */
export type AccessToken = string | (() => string | Promise<string>);

/** Options of `createSessionClient`. */
export type SessionClientOptions = ServerOptions & {
  /** The caller's access token, a JWT, without `Bearer` in front. */
  token: AccessToken;

  /**
   * How long a call may take in all its attempts together, in milliseconds.
   *
   * Default: 5000. A healthy server needs far less, and a request that waits for its session
   * fails before its sender gives up.
   */
  timeoutMs?: number | undefined;

  /**
   * The maximum number of attempts of a call, from 1 (no retries) to 10.
   *
   * Default: 3. That survives a lost connection or the restart of one server, and does not
   * multiply the load on servers that are all down.
   */
  maxAttempts?: number | undefined;

  /**
   * Whether calls of `verifySession` and of `getSession` that run at the same time may share one
   * call to the server, which costs both sides a fraction. A call that is alone does not wait for
   * others. Default: true.
   */
  batching?: boolean | undefined;

  /**
   * Whether `verifySession` may answer from this process's memory, which a watch of all sessions
   * keeps up to date. A session that another process revoked is refused milliseconds later, and if
   * the watch is disturbed, at most `maxStaleMs` later. Default: no.
   *
   * All of the client's access tokens must be of one caller.
   */
  nearCache?: boolean | NearCacheOptions | undefined;
};

/** Bounds of a near cache. */
export interface NearCacheOptions {
  /**
   * The greatest age of the watch's last checkpoint, in milliseconds, from 1000 to 60 000. With an
   * older one, verifies ask the server. Below 2000 that can happen without any disturbance, because
   * a server promises a checkpoint once a second. Default: 5000.
   */
  maxStaleMs?: number | undefined;

  /**
   * The most sessions in memory, from 1 to 10 000 000. Those that were not used for the longest time
   * go first. Default: 100 000, which take about 170 MB.
   */
  maxSessions?: number | undefined;
}

/** The server's address, or a transport that the caller made. */
export type ServerOptions =
  | {
      /**
       * The server's address, such as `http://127.0.0.1:50051`: its gRPC port, or with protocol
       * `connect` its HTTP port. `https` for TLS.
       *
       * Several servers get calls in turn, with protocol `grpc`: a list of such addresses, all
       * `http` or all `https`, or `dns:///sessiond:50051` for all addresses of a name, with TLS if
       * there is `tls`. A server that cannot be reached gets none until it is back.
       */
      baseUrl: string | readonly string[];

      /**
       * `grpc` uses one HTTP/2 connection to each server and the faster port of the server.
       * `connect` uses HTTP/1.1, for networks whose proxies do not carry HTTP/2. Default: `grpc`.
       */
      protocol?: "grpc" | "connect" | undefined;

      /**
       * The authorities to trust and the certificate of this client, if the server's certificate is
       * of no public authority, or the server asks for one. Only with `https` and `dns:///`.
       */
      tls?: TlsOptions | undefined;
      transport?: undefined;
    }
  | {
      /**
       * A transport of the caller's own, such as one with interceptors. `close` leaves it open.
       */
      transport: Transport;
      baseUrl?: undefined;
      protocol?: undefined;
      tls?: undefined;
    };

/** Options of every call. */
export interface CallOptions {
  /** How long this call may take, in milliseconds. Default: the client's `timeoutMs`. */
  timeoutMs?: number | undefined;

  /** Cancels the call when aborted. */
  signal?: AbortSignal | undefined;
}

/** The names of `CallOptions`. */
export const CALL_OPTIONS = { timeoutMs: true, signal: true } satisfies NamesOf<CallOptions>;

const CLIENT_OPTIONS = {
  baseUrl: true,
  protocol: true,
  tls: true,
  transport: true,
  token: true,
  timeoutMs: true,
  maxAttempts: true,
  batching: true,
  nearCache: true,
} satisfies NamesOf<SessionClientOptions>;

const DEFAULT_TIMEOUT_MS = 5000;
const DEFAULT_MAX_ATTEMPTS = 3;
const MAX_ATTEMPTS = 10;
const DEFAULT_MAX_STALE_MS = 5000;
const DEFAULT_MAX_SESSIONS = 100_000;
const NEAR_CACHE_OPTIONS = {
  maxStaleMs: true,
  maxSessions: true,
} satisfies NamesOf<NearCacheOptions>;

/** The longest timeout that fits into the eight digits of a `grpc-timeout` header. */
export const MAX_TIMEOUT_MS = 99_999_999;

export interface ServerAddress {
  /** One, or with protocol `grpc` several. */
  readonly baseUrls: readonly [string, ...string[]];
  readonly protocol: "grpc" | "connect";
  /** Undefined for the defaults of Node.js. */
  readonly tls?: TlsOptions | undefined;
}

/** `SessionClientOptions` after the checks, with all defaults. */
export interface CheckedOptions {
  readonly server: ServerAddress | Transport;
  readonly token: AccessToken;
  readonly timeoutMs: number;
  readonly maxAttempts: number;
  readonly batching: boolean;
  /** Undefined without a near cache. */
  readonly nearCache: { readonly maxStaleMs: number; readonly maxSessions: number } | undefined;
}

/** Throws INVALID_ARGUMENT with every fault of the options, each named by its option. */
export function checkOptions(options: SessionClientOptions): CheckedOptions {
  const unknown = unknownNames(options, CLIENT_OPTIONS);
  if (typeof options !== "object" || options === null) throw refusal(unknown);
  const { timeoutMs = DEFAULT_TIMEOUT_MS, maxAttempts = DEFAULT_MAX_ATTEMPTS } = options;
  const { token, batching = true, nearCache } = options;
  const faults: Record<string, string | undefined> = {
    ...serverFaults(options),
    token: typeof token === "function" ? undefined : accessTokenFault(token),
    timeoutMs: timeoutFault(timeoutMs),
    maxAttempts: maxAttemptsFault(maxAttempts),
    batching: typeof batching === "boolean" ? undefined : "expected true or false",
    ...nearCacheFaults(nearCache),
  };
  const ofTls = options.transport === undefined ? tlsFaults(options.tls, options.baseUrl) : [];
  const all = [...violationsOf(faults), ...ofTls, ...unknown];
  if (all.length > 0) throw refusal(all);
  const server = options.transport ?? {
    baseUrls: listOf(options.baseUrl) as [string, ...string[]],
    protocol: options.protocol ?? "grpc",
    tls: options.tls,
  };
  return { server, token, timeoutMs, maxAttempts, batching, nearCache: nearCacheFrom(nearCache) };
}

function nearCacheFrom(nearCache: SessionClientOptions["nearCache"]): CheckedOptions["nearCache"] {
  if (nearCache === undefined || nearCache === false) return undefined;
  const { maxStaleMs = DEFAULT_MAX_STALE_MS, maxSessions = DEFAULT_MAX_SESSIONS } =
    nearCache === true ? {} : nearCache;
  return { maxStaleMs, maxSessions };
}

function nearCacheFaults(nearCache: unknown): Record<string, string | undefined> {
  if (nearCache === undefined || typeof nearCache === "boolean") return {};
  if (typeof nearCache !== "object" || nearCache === null) {
    return { nearCache: "expected true, false, or bounds such as { maxSessions: 10_000 }" };
  }
  const { maxStaleMs, maxSessions }: NearCacheOptions = nearCache;
  const argument = "nearCache";
  const unknown = unknownNames(nearCache, NEAR_CACHE_OPTIONS, { argument, prefix: "nearCache." });
  return {
    ...Object.fromEntries(unknown.map(({ field, description }) => [field, description])),
    "nearCache.maxStaleMs": integerFault(maxStaleMs, 1000, 60_000),
    "nearCache.maxSessions": integerFault(maxSessions, 1, 10_000_000),
  };
}

function integerFault(value: unknown, least: number, most: number): string | undefined {
  if (value === undefined) return undefined;
  const valid = Number.isInteger(value) && Number(value) >= least && Number(value) <= most;
  return valid ? undefined : `expected an integer from ${least} to ${most}`;
}

/** The fault of a timeout, or undefined. */
export function timeoutFault(timeoutMs: unknown): string | undefined {
  const valid = typeof timeoutMs === "number" && timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS;
  return valid ? undefined : `expected milliseconds from 1 to ${MAX_TIMEOUT_MS}`;
}

/**
 * The fault of an access token, or undefined. RFC 6750, section 2.1, has the grammar. We check it
 * because Node.js quotes a header that it cannot send. No part of the token is in the message.
 */
export function accessTokenFault(token: unknown): string | undefined {
  if (typeof token !== "string") return `expected an access token, not ${nameOf(token)}`;
  if (token === "") return "expected an access token, not an empty string";
  if (/^bearer\s/i.test(token)) return "expected an access token without `Bearer` in front";
  return /^[A-Za-z0-9._~+/-]+=*$/.test(token)
    ? undefined
    : "expected an access token, without characters that none has, such as spaces or line breaks";
}

function maxAttemptsFault(maxAttempts: unknown): string | undefined {
  const valid =
    Number.isInteger(maxAttempts) &&
    Number(maxAttempts) >= 1 &&
    Number(maxAttempts) <= MAX_ATTEMPTS;
  return valid ? undefined : `expected an integer from 1 to ${MAX_ATTEMPTS}`;
}

function serverFaults({ baseUrl, protocol, tls, transport }: ServerOptions) {
  if (transport === undefined) {
    return { baseUrl: baseUrlsFault(baseUrl, protocol), protocol: protocolFault(protocol) };
  }
  const surplus = "not with `transport`, which has its own";
  return {
    transport: typeof transport.unary === "function" ? undefined : "expected a transport",
    baseUrl: baseUrl === undefined ? undefined : surplus,
    protocol: protocol === undefined ? undefined : surplus,
    tls: tls === undefined ? undefined : surplus,
  };
}

function listOf(baseUrl: unknown): readonly unknown[] {
  return Array.isArray(baseUrl) ? baseUrl : [baseUrl];
}

function baseUrlsFault(baseUrl: unknown, protocol: unknown): string | undefined {
  const addresses = listOf(baseUrl);
  if (addresses.length === 0) return "expected at least one URL";
  const fault = addresses.map(baseUrlFault).find((each) => each !== undefined);
  if (fault !== undefined) return fault;
  const schemes = new Set(addresses.map((address) => new URL(String(address)).protocol));
  if (protocol === "connect" && (addresses.length > 1 || schemes.has("dns:"))) {
    return "expected one URL with `http:` or `https:`; several servers need protocol `grpc`";
  }
  if (addresses.length > 1 && (schemes.size > 1 || schemes.has("dns:"))) {
    return "expected a list of URLs that are all `http:` or all `https:`";
  }
  return undefined;
}

/** The message does not repeat the address, which might contain a password. */
function baseUrlFault(baseUrl: unknown): string | undefined {
  const url = typeof baseUrl === "string" ? URL.parse(baseUrl) : null;
  if (url?.protocol === "dns:") {
    const isFit = url.host === "" && /^\/(?:[^/:]+|\[[^/]+\]):\d+$/.test(url.pathname);
    return isFit ? undefined : "expected a name and a port, such as dns:///sessiond:50051";
  }
  if (url === null || !["http:", "https:"].includes(url.protocol)) {
    return "expected a URL such as http://127.0.0.1:50051";
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    return "expected a URL without credentials, query and fragment";
  }
  return undefined;
}

function protocolFault(protocol: unknown): string | undefined {
  return protocol === undefined || protocol === "grpc" || protocol === "connect"
    ? undefined
    : "expected `grpc` or `connect`";
}
