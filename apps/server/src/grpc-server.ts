import type { ConnectRouter, Interceptor } from "@connectrpc/connect";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { addConnectRoutes } from "@sessiond/connect-grpc-js";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import type { HealthImplementation } from "grpc-health-check";
import { type Address, formatAddress } from "./address.js";
import { MAX_MESSAGE_BYTES } from "./limits.js";
import { addReflection } from "./reflection.js";

/** Calls that one connection may have under way; more wait at the client. */
const MAX_CONCURRENT_STREAMS = 1_000;
const MAX_METADATA_BYTES = 32 * 1024;
/** Clients that are gone without a word are noticed within about this time. */
const KEEPALIVE_TIME_MS = 60_000;
const KEEPALIVE_TIMEOUT_MS = 20_000;

/** What the gRPC port serves. */
export interface GrpcServerOptions {
  readonly address: Address;
  readonly routes: (router: ConnectRouter) => void;
  readonly interceptors: readonly Interceptor[];
  readonly health: HealthImplementation;
  readonly reflection: boolean;
  readonly shutdownSignal: AbortSignal;
}

/** A gRPC server that listens. */
export interface GrpcServer {
  readonly address: Address;
  /** Lets calls under way finish, for at most `graceMs`, then cuts them. */
  stop(graceMs: number): Promise<void>;
}

/** Starts serving gRPC, health and reflection. Rejects where the address cannot be listened on. */
export async function startGrpcServer(options: GrpcServerOptions): Promise<GrpcServer> {
  const server = new Server({
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_concurrent_streams": MAX_CONCURRENT_STREAMS,
    "grpc.max_metadata_size": MAX_METADATA_BYTES,
    "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  });
  const { routes, interceptors, shutdownSignal } = options;
  addConnectRoutes(server, { routes, interceptors, shutdownSignal });
  options.health.addToServer(server);
  if (options.reflection) addReflection(server, [SessionService]);
  const port = await bind(server, options.address);
  return {
    address: { host: options.address.host, port },
    stop: (graceMs) => stop(server, graceMs),
  };
}

function bind(server: Server, address: Address): Promise<number> {
  return new Promise((resolve, reject) => {
    const credentials = ServerCredentials.createInsecure();
    server.bindAsync(formatAddress(address), credentials, (error, port) => {
      if (error) reject(new Error(`cannot listen on ${formatAddress(address)}`, { cause: error }));
      else resolve(port);
    });
  });
}

async function stop(server: Server, graceMs: number): Promise<void> {
  const force = setTimeout(() => server.forceShutdown(), graceMs);
  // Its error says that connections were cut, which is what forceShutdown is for.
  await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  clearTimeout(force);
}
