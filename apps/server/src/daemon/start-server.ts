import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectRouter } from "@connectrpc/connect";
import { formatDuration, Places } from "@sessiond/core";
import type { Logger } from "pino";
import { Admission } from "../admission/admission.js";
import type { AccessConfig, Config } from "../config/config.js";
import { describeConfig } from "../config/effective-config.js";
import { jitteredAgeMs } from "../edge/connection-age.js";
import { type Address, formatAddress } from "../network/address.js";
import { Audit } from "../observability/audit.js";
import type { AuditLog } from "../observability/audit-log.js";
import { gaugeServer } from "../observability/gauges.js";
import { Metrics } from "../observability/metrics.js";
import { observeStores } from "../observability/observe-stores.js";
import type { Tracing } from "../observability/tracing.js";
import { version } from "../observability/version.js";
import { CallerNames } from "../services/caller-names.js";
import { lockRoutes } from "../services/lock-routes.js";
import { Namespaces } from "../services/namespaces.js";
import { rateLimitRoutes } from "../services/rate-limit-routes.js";
import { sessionRoutes } from "../services/session-routes.js";
import { PortCertificate } from "../tls/port-certificate.js";
import { Readiness } from "../transport/readiness.js";
import type { Access } from "./access-changes.js";
import { openEdge } from "./open-edge.js";
import { openStores } from "./open-stores.js";
import { ReplaceableAccess } from "./replaceable-access.js";
import { type Ports, startPorts } from "./start-ports.js";
import { Sweeper } from "./sweeper.js";
import type { WorkerLink } from "./worker-link.js";

/** A server that takes calls. */
export interface RunningServer {
  /** Whether this process tells people of the server: not so if another worker does. */
  readonly announces: boolean;
  readonly grpcAddress: Address;
  readonly httpAddress: Address;
  /** Undefined if metrics are served on the HTTP port. */
  readonly metricsAddress: Address | undefined;
  /** Uses this keyring and these issuers from now on, all at once, and logs what has changed. */
  replaceAccess(access: AccessConfig): void;
  /** Reads certificates and keys of TLS now, instead of within two seconds of a change. */
  reloadFiles(): Promise<void>;
  /** Lets calls finish, then closes everything. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Opens everything in the order of need and closes it in reverse, also after a half-failed start.
 * Rejects if it cannot open the store or listen on an address.
 *
 * With a link, this process is one of several workers. Only the first worker logs that the server
 * listens.
 */
export async function startServer(
  config: Config,
  logger: Logger,
  auditLog?: AuditLog,
  link?: WorkerLink,
): Promise<RunningServer> {
  await using opened = new AsyncDisposableStack();

  const tracing = await startTracing(config, logger);
  // Opened first, so that it closes last and sends the spans of the last calls.
  opened.defer(() => tracing?.close());

  const metrics = new Metrics();
  const audit = new Audit(auditLog, metrics);
  const access = await ReplaceableAccess.open(config, { logger, audit, metrics, tracing });
  const { keyring, verifier } = access;
  opened.defer(() => verifier.close());

  const certificate = config.tls && (await PortCertificate.open(config.tls, logger));
  if (certificate) opened.use(certificate);
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

  const { sessionPolicy, rateLimits } = config;
  const spared = metrics.counter("sessiond_touches_total", { written: "false" });
  const onTouchSpared = () => spared.add();
  const { watches, lockWaiters, namesPerCaller } = config.callBounds;
  const places = {
    watches: new Places(watches.perNamespace, watches.perCaller),
    lockWaiters: new Places(lockWaiters.perNamespace, lockWaiters.perCaller),
  };
  const names = new CallerNames(namesPerCaller);
  const namespaces = new Namespaces({
    ...{ stores, keyring, sessionPolicy, rateLimits, places, audit, onTouchSpared },
  });
  // Releases locks whose callers have left. Needs the store, so it closes first.
  opened.defer(() => namespaces.close());
  const edge = opened.use(openEdge(config.edge, { logger, metrics }));
  gaugeServer(metrics, {
    ...{ sessions: stores.sessions, namespaces, edge, verifier, readiness, certificate },
  });

  const routes = (router: ConnectRouter) => {
    const watchAgeMs = () => jitteredAgeMs(config.edge.maxConnectionAgeMs);
    sessionRoutes(namespaces, { watchAgeMs })(router);
    lockRoutes(namespaces, names)(router);
    const onCheck = rateLimitCounts(rateLimits, { metrics, audit });
    rateLimitRoutes(namespaces, names, logger, onCheck)(router);
  };
  const admission = opened.use(new Admission(config.callBounds));
  const served = {
    ...{ routes, readiness, verifier, edge, admission, certificate },
    ...{ logger, audit, metrics, tracing },
    loginIssuer: () => access.current.auth.issuers[0]?.issuer,
    exposition: link?.shareMetrics(metrics) ?? metrics,
  };
  const ports = await startPorts(config, served);
  opened.defer(() => ports.stop());
  const announces = link === undefined || (await link.serve());
  const storeError = openedStores.endStart();
  if (announces) {
    logListening(logger, config, {
      ...{ readiness, ports, access: access.current, certificate, storeError },
    });
  }
  const issuers = access.current.auth.issuers.map(({ issuer }) => issuer);
  audit.record("server.started", { version: version(), key_ids: keyring.keyIds, issuers });

  const closing = opened.move();
  // Load balancers must know before the ports close.
  closing.defer(async () => {
    logger.info("stopping");
    readiness.stop();
    await sleep(config.shutdownDelayMs);
  });
  const stop = async () => {
    await closing.disposeAsync();
    audit.close();
    audit.record("server.stopped", {});
  };
  let stopped: Promise<void> | undefined;
  return {
    announces,
    grpcAddress: ports.grpcAddress,
    httpAddress: ports.httpAddress,
    metricsAddress: ports.metricsAddress,
    replaceAccess: (next) => access.replaceWith(next),
    reloadFiles: async () => {
      await Promise.all([certificate?.reload(), openedStores.reloadFiles()]);
    },
    stop: () => {
      stopped ??= stop();
      return stopped;
    },
  };
}

/** The one line that tells how the server is set up, and whether anything is missing. */
function logListening(
  logger: Logger,
  config: Config,
  started: {
    readonly readiness: Readiness;
    readonly ports: Ports;
    readonly access: Access;
    readonly certificate: PortCertificate | undefined;
    /** Why the store cannot be reached. */
    readonly storeError: string | undefined;
  },
): void {
  const { readiness, ports, access, certificate, storeError } = started;
  const { grpcAddress, httpAddress, metricsAddress } = ports;
  logger[readiness.isReady ? "info" : "error"](
    {
      version: version(),
      ready: readiness.isReady,
      ...(!readiness.isReady && { parts: readiness.describe().parts }),
      ...(storeError !== undefined && { store_error: storeError }),
      grpc_address: formatAddress(grpcAddress),
      http_address: formatAddress(httpAddress),
      ...(metricsAddress && { metrics_address: formatAddress(metricsAddress) }),
      ...describeConfig(config, access),
      ...certificate?.describe(),
    },
    "listening",
  );
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

/**
 * Counts the attempts that CheckRateLimit decides about, from 0 on for each policy: so a rate shows
 * the first refusal, too. Those that it refuses go to the audit.
 */
function rateLimitCounts(
  policies: Config["rateLimits"],
  { metrics, audit }: { readonly metrics: Metrics; readonly audit: Audit },
): Parameters<typeof rateLimitRoutes>[3] {
  const counter = (policy: string, allowed: "true" | "false") =>
    metrics.counter("sessiond_rate_limit_checks_total", { policy, allowed });
  for (const { name } of policies) {
    counter(name, "true");
    counter(name, "false");
  }
  return ({ policy, key }, { isAllowed, window }, call) => {
    counter(policy, isAllowed ? "true" : "false").add();
    if (isAllowed) return;
    const limit = `${window.limit} per ${formatDuration(window.windowMs)}`;
    audit.record("rate_limit.refused", { policy, key, limit }, call);
  };
}
