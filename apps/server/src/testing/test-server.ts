import {
  DEFAULT_SESSION_POLICY,
  Keyring,
  parseRateLimitPolicies,
  type SessionPolicy,
} from "@sessiond/core";
import { type Logger, pino } from "pino";
import { afterAll, beforeAll } from "vitest";
import type { IssuerConfig } from "../auth/issuer.js";
import type { Config } from "../config/config.js";
import { parseStoreLocation } from "../config/store-location.js";
import { startServer } from "../daemon/start-server.js";
import { DEFAULT_EDGE_LIMITS } from "../edge/edge-limits.js";
import type { AuditLog } from "../observability/audit-log.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { TestIssuer } from "./test-issuer.js";
import type { TestStore } from "./test-stores.js";

/** One line of the log, as the server writes it. */
export type LogLine = Readonly<Record<string, unknown>>;

/** What a test changes about its server. */
export interface TestServerOptions {
  /** As `SESSIOND_STORE` names it; in memory by default. */
  readonly store?: string;
  readonly policy?: Partial<SessionPolicy>;
  /** Shared by servers that share a store. */
  readonly keyring?: Keyring;
  /** Closed by the test. By default the server comes with an issuer. */
  readonly issuer?: TestIssuer;
  readonly config?: Partial<Config>;
  /** Opened by the test. By default the server has no audit. */
  readonly auditLog?: AuditLog;
}

/** A real server on ports of its own, with an issuer whose access tokens it accepts. */
export interface TestServer extends AsyncDisposable {
  /** `127.0.0.1:port` */
  readonly grpcAddress: string;
  readonly grpcUrl: string;
  readonly httpUrl: string;
  readonly issuer: TestIssuer;
  /** An access token with every permission. */
  readonly accessToken: string;
  /** Everything that the server has logged so far. */
  readonly logs: readonly LogLine[];
  stop(): Promise<void>;
}

/** Starts a server as `sessiond serve` would with this configuration, but in this process. */
export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  await using opened = new AsyncDisposableStack();
  const issuer =
    options.issuer ?? opened.adopt(await startTestIssuer(), (started) => started.close());
  const { logger, logs } = recordLog();
  const server = await startServer(testConfig(options, issuer), logger, options.auditLog);
  opened.defer(() => server.stop());
  const accessToken = await issuer.sign({ claims: { scope: KNOWN_PERMISSIONS.join(" ") } });
  const closing = opened.move();
  const grpcAddress = `127.0.0.1:${server.grpcAddress.port}`;
  return {
    grpcAddress,
    grpcUrl: `http://${grpcAddress}`,
    httpUrl: `http://127.0.0.1:${server.httpAddress.port}`,
    issuer,
    accessToken,
    logs,
    stop: () => server.stop(),
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

/**
 * A server for all tests of a file or a describe block. Its properties are there
 * from the first test on.
 */
export function useTestServer(
  options: TestServerOptions & { readonly open?: () => Promise<TestStore> } = {},
): TestServer {
  const opened = new AsyncDisposableStack();
  const server = {} as TestServer;
  beforeAll(async () => {
    const store = options.open && opened.use(await options.open()).url;
    const started = await startTestServer({ ...options, ...(store && { store }) });
    Object.assign(server, opened.use(started));
  });
  afterAll(() => opened.disposeAsync());
  return server;
}

/** A log, and all its lines so far. */
export function recordLog(level = "trace"): { logger: Logger; logs: readonly LogLine[] } {
  const logs: LogLine[] = [];
  const write = (line: string) => logs.push(JSON.parse(line));
  return { logger: pino({ level, base: null }, { write }), logs };
}

/** An issuer with one key, `test`. */
export async function startTestIssuer(): Promise<TestIssuer> {
  const issuer = await TestIssuer.start();
  await issuer.addKey("test");
  return issuer;
}

/** A configuration that accepts the issuer's tokens and listens on free ports. */
export function testConfig(options: TestServerOptions, issuer: TestIssuer): Config {
  return {
    grpcAddress: { host: "127.0.0.1", port: 0 },
    httpAddress: { host: "127.0.0.1", port: 0 },
    metricsAddress: undefined,
    tls: undefined,
    shutdownDelayMs: 0,
    corsOrigins: [],
    console: undefined,
    store: parseStoreLocation(options.store ?? "sqlite::memory:"),
    durability: "auto",
    keyPrefix: "sessiond:",
    edge: DEFAULT_EDGE_LIMITS,
    sessionPolicy: { ...DEFAULT_SESSION_POLICY, ...options.policy },
    rateLimits: parseRateLimitPolicies("login: 10 per 15m; burst: 5 per 1s (count refused)"),
    callBounds: {
      // The server and its clients make each other wait here.
      ...{ minInFlight: 2_000, maxInFlight: 2_000 },
      watches: { perNamespace: 1_000, perCaller: 1_000 },
      lockWaiters: { perNamespace: 10_000, perCaller: 1_000 },
      namesPerCaller: 100_000,
    },
    retentionMs: 600_000,
    keyring: options.keyring ?? Keyring.parse(Keyring.generateKey("test")),
    auth: { issuers: [testIssuerConfig(issuer)], roles: new Map() },
    issuerKeysMaxAgeMs: 3_600_000,
    // Tests hold keys back to have a call under way.
    issuerAnswerWaitMs: 10_000,
    workers: 1,
    reflection: true,
    logLevel: "trace",
    audit: { to: "off", level: "info" },
    traces: undefined,
    dataDir: "unused",
    ...options.config,
  };
}

function testIssuerConfig(issuer: TestIssuer): IssuerConfig {
  const accepted = { audiences: ["sessiond"], algorithms: ["ES256"], clockToleranceMs: 0 };
  return { issuer: issuer.url, keys: { kind: "url", url: issuer.jwksUrl }, ...accepted };
}
