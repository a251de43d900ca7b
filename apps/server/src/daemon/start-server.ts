import type { ConnectRouter } from "@connectrpc/connect";
import type { Keyring } from "@sessiond/core";
import type { Logger } from "pino";
import { createAccessTokenVerifier } from "../auth/access-token.js";
import { developmentAuthConfig, developmentKeyring } from "../auth/development-keys.js";
import type { AuthConfig } from "../auth/issuer.js";
import type { AccessConfig, Config } from "../config/config.js";
import { describeStore } from "../config/store-location.js";
import { createInterceptors } from "../interceptors/interceptors.js";
import { type Address, formatAddress } from "../network/address.js";
import { observeStores } from "../observability/store-calls.js";
import type { Tracing } from "../observability/tracing.js";
import { lockRoutes } from "../services/lock-routes.js";
import { Namespaces } from "../services/namespaces.js";
import { rateLimitRoutes } from "../services/rate-limit-routes.js";
import { SERVER_STOPPING } from "../services/rpc-error.js";
import { sessionRoutes } from "../services/session-routes.js";
import { startGrpcServer } from "../transport/grpc-server.js";
import { startHttpServer } from "../transport/http-server.js";
import { Readiness } from "../transport/readiness.js";
import { createRequestGate } from "../transport/request-gate.js";
import { accessChanges } from "./access-changes.js";
import { openStores } from "./open-stores.js";
import { Sweeper } from "./sweeper.js";

/** The time that calls have to finish when the server stops. */
const GRACE_MS = 10_000;

/** A server that takes calls. */
export interface RunningServer {
  readonly grpcAddress: Address;
  readonly httpAddress: Address;
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

  const keyring = config.keyring ?? (await makeKeyring(config, logger));
  const auth = config.auth ?? (await makeAuthConfig(config, logger));
  const verifier = createAccessTokenVerifier(auth, {
    onLoadFailure: (issuer, cause) => logger.warn({ issuer, err: cause }, "no signing keys"),
    aroundLoad: tracing?.aroundKeyLoad,
  });
  opened.defer(() => verifier.close());

  const { aroundReplicaWait } = tracing ?? {};
  const openedStores = await openStores(config, logger, { aroundReplicaWait });
  opened.defer(() => openedStores.close());
  const stores = tracing ? observeStores(openedStores, tracing.aroundStoreCall) : openedStores;

  const sweeper = new Sweeper(stores.sessions, logger);
  sweeper.start();
  opened.defer(() => sweeper.stop());

  const readiness = new Readiness(stores.sessions, logger);
  await readiness.start();
  opened.defer(() => readiness.stop());

  const shutdown = new AbortController();
  const { sessionPolicy, rateLimits } = config;
  const namespaces = new Namespaces({ stores, keyring, sessionPolicy, rateLimits });
  // Releases locks whose callers have left. Needs the store, so it closes first.
  opened.defer(() => namespaces.close());
  const served = {
    routes: (router: ConnectRouter) => {
      sessionRoutes(namespaces)(router);
      lockRoutes(namespaces)(router);
      rateLimitRoutes(namespaces, logger)(router);
    },
    interceptors: createInterceptors({ logger, verifier, tracing }),
    requestGate: createRequestGate({ logger, verifier, tracing }),
    shutdownSignal: shutdown.signal,
  };
  const grpc = await startGrpcServer({
    ...served,
    address: config.grpcAddress,
    health: readiness.health,
    reflection: config.reflection,
  });
  opened.defer(() => grpc.stop(GRACE_MS));
  const http = await startHttpServer({
    ...served,
    address: config.httpAddress,
    corsOrigins: config.corsOrigins,
    logger,
    readiness,
  });
  opened.defer(() => http.stop(GRACE_MS));

  logger.info(
    {
      grpc_address: formatAddress(grpc.address),
      http_address: formatAddress(http.address),
      store: describeStore(config.store),
    },
    "listening",
  );
  const closing = opened.move();
  // Tell load balancers first, then stop the ports. Stop both together, or one would take new calls
  // while the other finishes.
  closing.defer(async () => {
    readiness.stop();
    shutdown.abort(SERVER_STOPPING);
    await Promise.all([grpc.stop(GRACE_MS), http.stop(GRACE_MS)]);
  });
  let stopped: Promise<void> | undefined;
  let current = { keyring, auth };
  return {
    grpcAddress: grpc.address,
    httpAddress: http.address,
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

async function makeKeyring({ dataDir }: Config, logger: Logger): Promise<Keyring> {
  const keyring = await developmentKeyring(dataDir);
  logger.warn({ data_dir: dataDir }, "development server: it made the keyring itself");
  return keyring;
}

async function makeAuthConfig({ dataDir }: Config, logger: Logger): Promise<AuthConfig> {
  const auth = await developmentAuthConfig(dataDir);
  logger.warn({ data_dir: dataDir }, "development server: it made the key of access tokens itself");
  return auth;
}
