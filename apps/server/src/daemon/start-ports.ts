import type { ConnectRouter } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Admission } from "../admission/admission.js";
import type { AccessTokenVerifier } from "../auth/access-token.js";
import type { Config } from "../config/config.js";
import type { Edge } from "../edge/edge.js";
import { createInterceptors } from "../interceptors/interceptors.js";
import type { Address } from "../network/address.js";
import type { Audit } from "../observability/audit.js";
import type { Exposer } from "../observability/metric-reports.js";
import type { Metrics } from "../observability/metrics.js";
import { PortMetrics } from "../observability/rpc-metrics.js";
import type { Tracing } from "../observability/tracing.js";
import { SERVER_STOPPING } from "../services/rpc-error.js";
import type { PortCertificate } from "../tls/port-certificate.js";
import { createConsole } from "../transport/console.js";
import { readConsoleFiles } from "../transport/console-files.js";
import { GrpcGate } from "../transport/grpc-gate.js";
import { startGrpcServer } from "../transport/grpc-server.js";
import { startHttpServer } from "../transport/http-server.js";
import { startMetricsServer } from "../transport/metrics-server.js";
import type { Readiness } from "../transport/readiness.js";
import { RefusedCalls } from "../transport/refused-calls.js";
import { RequestGate } from "../transport/request-gate.js";
import { acceptErrorLog } from "./open-edge.js";

/** The time that calls have to finish when the server stops. */
const GRACE_MS = 10_000;

/** What the ports serve, and whom. */
export interface Served {
  readonly routes: (router: ConnectRouter) => void;
  readonly readiness: Readiness;
  readonly verifier: AccessTokenVerifier;
  /** The URL of the issuer where operators log in to the console. It may change. */
  readonly loginIssuer: () => string | undefined;
  readonly edge: Edge;
  readonly admission: Admission;
  readonly logger: Logger;
  readonly audit: Audit;
  readonly metrics: Metrics;
  /** What scrapes are answered with. */
  readonly exposition: Exposer;
  readonly tracing: Tracing | undefined;
  /** Undefined without TLS. */
  readonly certificate: PortCertificate | undefined;
}

/** The ports that take calls. */
export interface Ports {
  readonly grpcAddress: Address;
  readonly httpAddress: Address;
  /** Undefined if metrics are served on the HTTP port. */
  readonly metricsAddress: Address | undefined;
  /** Lets calls finish, then closes the ports. */
  stop(): Promise<void>;
}

/** Listens on every port, or on none: rejects if it cannot listen on one of the addresses. */
export async function startPorts(config: Config, served: Served): Promise<Ports> {
  await using opened = new AsyncDisposableStack();
  const { routes, readiness, metrics, exposition, certificate } = served;
  const shutdown = new AbortController();
  const shared = {
    ...{ routes, certificate, edge: served.edge },
    shutdownSignal: shutdown.signal,
    onAcceptError: acceptErrorLog(served.logger),
  };

  const grpcMetrics = new PortMetrics(metrics, "grpc");
  const grpc = await startGrpcServer({
    ...shared,
    interceptors: createInterceptors({ ...served, metrics: grpcMetrics }),
    gate: new GrpcGate({
      ...served,
      refusedCalls: new RefusedCalls({ ...served, metrics: grpcMetrics }),
      metrics: grpcMetrics,
    }),
    portMetrics: grpcMetrics,
    address: config.grpcAddress,
    health: readiness.health,
    reflection: config.reflection,
  });
  opened.defer(() => grpc.stop(GRACE_MS));

  const httpMetrics = new PortMetrics(metrics, "http");
  const refusedCalls = new RefusedCalls({ ...served, metrics: httpMetrics });
  const { metricsAddress } = config;
  const files = config.console && (await readConsoleFiles());
  const http = await startHttpServer({
    ...shared,
    interceptors: createInterceptors({ ...served, metrics: httpMetrics }),
    refusedCalls,
    portMetrics: httpMetrics,
    requestGate: new RequestGate({ ...served, refusedCalls, metrics: httpMetrics }),
    address: config.httpAddress,
    corsOrigins: config.corsOrigins,
    console:
      config.console &&
      files &&
      createConsole({
        ...{ config: config.console, files, issuer: served.loginIssuer },
        ...{ verifier: served.verifier, audit: served.audit, portMetrics: httpMetrics },
        pace: (answer) => refusedCalls.pace(answer),
      }),
    exposition: metricsAddress === undefined ? exposition : undefined,
    logger: served.logger,
    readiness,
  });
  opened.defer(() => http.stop(GRACE_MS));

  const scraped =
    metricsAddress &&
    (await startMetricsServer({ address: metricsAddress, exposition, readiness, certificate }));
  opened.defer(() => scraped?.stop(GRACE_MS));

  const closing = opened.move();
  // Both together: one of them would take new calls while the other finishes.
  closing.defer(async () => {
    shutdown.abort(SERVER_STOPPING);
    await Promise.all([grpc.stop(GRACE_MS), http.stop(GRACE_MS)]);
  });
  return {
    grpcAddress: grpc.address,
    httpAddress: http.address,
    metricsAddress: scraped?.address,
    stop: () => closing.disposeAsync(),
  };
}
