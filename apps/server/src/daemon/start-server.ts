import type { ConnectRouter } from "@connectrpc/connect";
import type { Logger } from "pino";
import { createAccessTokenVerifier } from "../auth/access-token.js";
import { developmentAuthConfig, developmentKeyring } from "../auth/development-keys.js";
import type { AccessConfig, Config } from "../config/config.js";
import { describeConfig } from "../config/effective-config.js";
import { createInterceptors } from "../interceptors/interceptors.js";
import { type Address, formatAddress } from "../network/address.js";
import { gaugeServer } from "../observability/gauges.js";
import { Metrics } from "../observability/metrics.js";
import { observeStores } from "../observability/observe-stores.js";
import { PortMetrics } from "../observability/rpc-metrics.js";
import type { Tracing } from "../observability/tracing.js";
import { version } from "../observability/version.js";
import { lockRoutes } from "../services/lock-routes.js";
import { Namespaces } from "../services/namespaces.js";
import { rateLimitRoutes } from "../services/rate-limit-routes.js";
import { SERVER_STOPPING } from "../services/rpc-error.js";
import { sessionRoutes } from "../services/session-routes.js";
import { startGrpcServer } from "../transport/grpc-server.js";
import { startHttpServer } from "../transport/http-server.js";
import { startMetricsServer } from "../transport/metrics-server.js";
import { Readiness } from "../transport/readiness.js";
import { createRequestGate } from "../transport/request-gate.js";
import { accessChanges } from "./access-changes.js";
import { openStores } from "./open-stores.js";
import { Sweeper } from "./sweeper.js";

/** The time that calls have to finish when the server stops. */
const GRACE_MS = 10_000;

/** How often the log repeats that an issuer's keys cannot be loaded. */
const LOAD_FAILURE_LOG_MS = 60_000;

/** A server that takes calls. */
export interface RunningServer {
  readonly grpcAddress: Address;
  readonly httpAddress: Address;
  /** Undefined if metrics are served on the HTTP port. */
  readonly metricsAddress: Address | undefined;
  /** Uses this keyring and these issuers from now on, all at once, and logs what has changed. */
  replaceAccess(access: AccessConfig): void;
  /** Lets calls finish, then closes everything. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Opens everything in the order of need and closes it in reverse, also after a half-failed start.
 * Rejects if it cannot open the store or listen on an address.
 */
export async function startServer(config: Config, logger: Logger): Promise<RunningServer> {
  await using opened = new AsyncDisposableStack();

  const tracing = await startTracing(config, logger);
  // Opened first, so that it closes last and sends the spans of the last calls.
  opened.defer(() => tracing?.close());

  const keyring = config.keyring ?? (await developmentKeyring(config.dataDir));
  const auth = config.auth ?? (await developmentAuthConfig(config.dataDir));
  const verifier = createAccessTokenVerifier(auth, {
    onLoadFailure: loadFailureLog(logger),
    aroundLoad: tracing?.aroundKeyLoad,
  });
  opened.defer(() => verifier.close());

  const metrics = new Metrics();
  const { aroundReplicaWait } = tracing ?? {};
  const openedStores = await openStores(config, logger, { aroundReplicaWait });
  opened.defer(() => openedStores.close());
  const stores = observeStores(openedStores, { metrics, around: tracing?.aroundStoreCall });

  const sweeper = new Sweeper(stores.sessions, logger, metrics);
  sweeper.start();
  opened.defer(() => sweeper.stop());

  const readiness = new Readiness(stores.sessions, verifier, logger);
  await readiness.start();
  opened.defer(() => readiness.stop());

  const shutdown = new AbortController();
  const { sessionPolicy, rateLimits } = config;
  const spared = metrics.counter("sessiond_touches_total", { written: "false" });
  const onTouchSpared = () => spared.add();
  const namespaces = new Namespaces({ stores, keyring, sessionPolicy, rateLimits, onTouchSpared });
  // Releases locks whose callers have left. Needs the store, so it closes first.
  opened.defer(() => namespaces.close());
  gaugeServer(metrics, { sessions: stores.sessions, namespaces, verifier });
  const onCheck = (policy: string, isAllowed: boolean) => {
    const allowed = isAllowed ? "true" : "false";
    metrics.counter("sessiond_rate_limit_checks_total", { policy, allowed }).add();
  };
  const served = {
    routes: (router: ConnectRouter) => {
      sessionRoutes(namespaces)(router);
      lockRoutes(namespaces)(router);
      rateLimitRoutes(namespaces, logger, onCheck)(router);
    },
    shutdownSignal: shutdown.signal,
  };
  const grpcMetrics = new PortMetrics(metrics, "grpc");
  const grpc = await startGrpcServer({
    ...served,
    interceptors: createInterceptors({ logger, verifier, tracing, metrics: grpcMetrics }),
    portMetrics: grpcMetrics,
    address: config.grpcAddress,
    health: readiness.health,
    reflection: config.reflection,
  });
  opened.defer(() => grpc.stop(GRACE_MS));
  const httpMetrics = new PortMetrics(metrics, "http");
  const { metricsAddress } = config;
  const http = await startHttpServer({
    ...served,
    interceptors: createInterceptors({ logger, verifier, tracing, metrics: httpMetrics }),
    requestGate: createRequestGate({ logger, verifier, tracing, metrics: httpMetrics }),
    address: config.httpAddress,
    corsOrigins: config.corsOrigins,
    metrics: metricsAddress === undefined ? metrics : undefined,
    logger,
    readiness,
  });
  opened.defer(() => http.stop(GRACE_MS));
  const metricsPort = metricsAddress && (await startMetricsServer(metricsAddress, metrics));
  opened.defer(() => metricsPort?.stop(GRACE_MS));

  logger[readiness.isReady ? "info" : "error"](
    {
      version: version(),
      ready: readiness.isReady,
      ...(!readiness.isReady && { parts: readiness.describe().parts }),
      grpc_address: formatAddress(grpc.address),
      http_address: formatAddress(http.address),
      ...(metricsPort && { metrics_address: formatAddress(metricsPort.address) }),
      ...describeConfig(config, { keyring, auth }),
    },
    "listening",
  );
  const closing = opened.move();
  // Tell load balancers first, then stop the ports. Stop both together, or one would take new calls
  // while the other finishes.
  closing.defer(async () => {
    logger.info("stopping");
    readiness.stop();
    shutdown.abort(SERVER_STOPPING);
    await Promise.all([grpc.stop(GRACE_MS), http.stop(GRACE_MS)]);
  });
  let stopped: Promise<void> | undefined;
  let current = { keyring, auth };
  return {
    grpcAddress: grpc.address,
    httpAddress: http.address,
    metricsAddress: metricsPort?.address,
    replaceAccess: (access) => {
      // What a development server made itself stays.
      const next = { keyring: access.keyring ?? keyring, auth: access.auth ?? auth };
      const changes = accessChanges(current, next);
      const isChanged = Object.keys(changes).length > 0;
      logger.info(changes, `reloaded keyring and auth file${isChanged ? "" : ": no change"}`);
      keyring.replaceWith(next.keyring);
      verifier.accept(next.auth);
      current = next;
    },
    stop: () => {
      stopped ??= closing.disposeAsync();
      return stopped;
    },
  };
}

/** Loads OpenTelemetry's SDK only if there are traces to send. */
async function startTracing(
  { traces, store }: Config,
  logger: Logger,
): Promise<Tracing | undefined> {
  if (traces === undefined) return undefined;
  const { openTracing } = await import("../observability/open-tracing.js");
  return openTracing(traces, { logger, store: store.kind === "sqlite" ? "sqlite" : "redis" });
}

/** Logs failed loads of an issuer's keys, each fault about once a minute: loads are tried each second. */
function loadFailureLog(logger: Logger): (issuer: string, cause: unknown) => void {
  const loggedMs = new Map<string, number>();
  return (issuer, cause) => {
    const nowMs = performance.now();
    if (nowMs < (loggedMs.get(issuer) ?? 0)) return;
    loggedMs.set(issuer, nowMs + LOAD_FAILURE_LOG_MS);
    logger.warn({ issuer, err: cause }, "no signing keys");
  };
}
