import type { Transport } from "@connectrpc/connect";
import { type FieldViolation, nameOf, SessiondError } from "./error.js";

/**
 * The access token that the calls of this client carry: the token itself, or a
 * function that returns the current one. The function is called once per call,
 * so it should remember a token until that is about to expire.
 */
export type AccessToken = string | (() => string | Promise<string>);

/** Options of `createSessionClient`. */
export type SessionClientOptions = ServerOptions & {
  /** The caller's access token, a JWT, without `Bearer` in front. */
  token: AccessToken;

  /**
   * How long a call may take, all of its attempts together, in milliseconds.
   *
   * 5000 by default: far more than a healthy server needs, yet short enough that
   * a request waiting on a session fails before whoever sent it gives up.
   */
  timeoutMs?: number | undefined;

  /**
   * How often a call is attempted at most, from 1 (no retries) to 10.
   *
   * 3 by default: enough to get past a lost connection or a restart of one
   * server, too few to multiply the load on a fleet that is down.
   */
  maxAttempts?: number | undefined;
};

/** Where the server is, or a connection to it made by the caller. */
export type ServerOptions =
  | {
      /**
       * The server's address, such as `http://127.0.0.1:50051`: its gRPC port, or
       * its HTTP port with protocol `connect`. `https` for TLS.
       */
      baseUrl: string;

      /**
       * `grpc` (the default: one HTTP/2 connection for all calls, and the faster
       * port of the server) or `connect` (HTTP/1.1, for networks whose proxies
       * do not carry HTTP/2).
       */
      protocol?: "grpc" | "connect" | undefined;
      transport?: undefined;
    }
  | {
      /**
       * A transport of the caller's own, for client certificates or interceptors.
       * It must use the binary format: in JSON, the names of some keys cannot be
       * sent by `updateSession`. `close` leaves it open.
       */
      transport: Transport;
      baseUrl?: undefined;
      protocol?: undefined;
    };

/** Options of every call. */
export interface CallOptions {
  /** How long this call may take, in milliseconds, in place of the client's `timeoutMs`. */
  timeoutMs?: number | undefined;

  /** Cancels the call when aborted. */
  signal?: AbortSignal | undefined;
}

const DEFAULT_TIMEOUT_MS = 5000;
const DEFAULT_MAX_ATTEMPTS = 3;
const MAX_ATTEMPTS = 10;

/** The longest timeout in milliseconds that fits the eight digits of a `grpc-timeout` header. */
const MAX_TIMEOUT_MS = 99_999_999;

/** Where to connect to. */
export interface ServerAddress {
  readonly baseUrl: URL;
  readonly protocol: "grpc" | "connect";
}

/** `SessionClientOptions`, checked and with all defaults filled in. */
export interface CheckedOptions {
  readonly server: ServerAddress | Transport;
  readonly token: AccessToken;
  readonly timeoutMs: number;
  readonly maxAttempts: number;
}

/** Throws INVALID_ARGUMENT with every fault it finds, each named by its option. */
export function checkOptions(options: SessionClientOptions): CheckedOptions {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, maxAttempts = DEFAULT_MAX_ATTEMPTS, token } = options;
  const faults: (FieldViolation | undefined)[] = [
    ...serverFaults(options),
    fault("token", tokenFault(token)),
    fault("timeoutMs", timeoutFault(timeoutMs)),
    fault("maxAttempts", maxAttemptsFault(maxAttempts)),
  ];
  const fieldViolations = faults.filter((each) => each !== undefined);
  if (fieldViolations.length > 0) {
    const message = fieldViolations.map(({ field, description }) => `${field}: ${description}`);
    throw new SessiondError("INVALID_ARGUMENT", message.join("; "), { fieldViolations });
  }
  const server = options.transport ?? {
    baseUrl: new URL(options.baseUrl),
    protocol: options.protocol ?? "grpc",
  };
  return { server, token, timeoutMs, maxAttempts };
}

/** What is wrong with a timeout, or undefined. */
export function timeoutFault(timeoutMs: unknown): string | undefined {
  const valid = typeof timeoutMs === "number" && timeoutMs >= 1 && timeoutMs <= MAX_TIMEOUT_MS;
  return valid ? undefined : `expected milliseconds from 1 to ${MAX_TIMEOUT_MS}`;
}

/**
 * What is wrong with an access token, or undefined. The grammar is that of RFC
 * 6750, section 2.1. Checked here because the platform's own complaint about a
 * header that cannot be sent quotes the header. For the same reason no part of
 * the token is repeated.
 */
export function accessTokenFault(token: unknown): string | undefined {
  if (typeof token !== "string") {
    return `expected an access token, not ${nameOf(token)}`;
  }
  if (token === "") {
    return "expected an access token, not an empty string";
  }
  if (/^bearer\s/i.test(token)) {
    return "expected an access token without `Bearer` in front";
  }
  return /^[A-Za-z0-9._~+/-]+=*$/.test(token)
    ? undefined
    : "expected an access token, without characters that none has, such as spaces or line breaks";
}

function tokenFault(token: unknown): string | undefined {
  return typeof token === "function" ? undefined : accessTokenFault(token);
}

function maxAttemptsFault(maxAttempts: unknown): string | undefined {
  const valid =
    Number.isInteger(maxAttempts) &&
    Number(maxAttempts) >= 1 &&
    Number(maxAttempts) <= MAX_ATTEMPTS;
  return valid ? undefined : `expected an integer from 1 to ${MAX_ATTEMPTS}`;
}

function serverFaults({
  baseUrl,
  protocol,
  transport,
}: ServerOptions): (FieldViolation | undefined)[] {
  if (transport === undefined) {
    return [fault("baseUrl", baseUrlFault(baseUrl)), fault("protocol", protocolFault(protocol))];
  }
  return [
    fault("transport", typeof transport.unary === "function" ? undefined : "expected a transport"),
    fault("baseUrl", baseUrl === undefined ? undefined : "not with `transport`, which has its own"),
    fault(
      "protocol",
      protocol === undefined ? undefined : "not with `transport`, which has its own",
    ),
  ];
}

/** The address is not repeated, for it might carry a password. */
function baseUrlFault(baseUrl: unknown): string | undefined {
  const url = typeof baseUrl === "string" ? URL.parse(baseUrl) : null;
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

function fault(field: string, description: string | undefined): FieldViolation | undefined {
  return description === undefined ? undefined : { field, description };
}
