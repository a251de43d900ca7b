import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectRouter, Interceptor } from "@connectrpc/connect";
import {
  logVerbosity,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  setLogVerbosity,
  status,
} from "@grpc/grpc-js";
import { addConnectRoutes } from "@sessiond/connect-grpc-js";
import type { HealthImplementation } from "grpc-health-check";
import { type Address, formatAddress } from "../network/address.js";
import { fieldOfBytes } from "../services/malformed-field.js";
import { describeMalformed, SERVER_STOPPING } from "../services/rpc-error.js";
import { SERVICES } from "../services/services.js";
import { DELIVERY_MS, MAX_CONCURRENT_STREAMS, MAX_MESSAGE_BYTES } from "./limits.js";
import { listenFailure } from "./listen-failure.js";
import { addReflection } from "./reflection.js";

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
  /** Lets calls under way finish, for at most `graceMs`, then cuts them. Idempotent. */
  stop(graceMs: number): Promise<void>;
}

/** Starts serving gRPC, health and reflection. Rejects where the address cannot be listened on. */
export async function startGrpcServer(options: GrpcServerOptions): Promise<GrpcServer> {
  // grpc-js would write headers that it dislikes to stderr, access tokens and all.
  setLogVerbosity(logVerbosity.NONE);
  const { routes, interceptors, shutdownSignal } = options;
  const server = new Server({
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_concurrent_streams": MAX_CONCURRENT_STREAMS,
    "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    interceptors: [endStreamsOn(shutdownSignal)],
  });
  const calls = new CallsUnderWay();
  addConnectRoutes(server, {
    routes,
    interceptors: [calls.count, ...interceptors],
    describeMalformed: (error, desc, bytes) => describeMalformed(error, fieldOfBytes(desc, bytes)),
    shutdownSignal,
  });
  options.health.addToServer(server);
  if (options.reflection) addReflection(server, SERVICES);
  const port = await bind(server, options.address);
  let stopped: Promise<void> | undefined;
  return {
    address: { host: options.address.host, port },
    stop: (graceMs) => {
      stopped ??= stop(server, calls, graceMs);
      return stopped;
    },
  };
}

/**
 * Ends watches of the server's health, and reflection, when the server stops.
 * Neither ends by itself, and the server would wait for them. Connect routes see
 * to their own streams.
 */
function endStreamsOn(shutdownSignal: AbortSignal): ServerInterceptor {
  const ends = new Set<() => void>();
  shutdownSignal.addEventListener("abort", () => {
    for (const end of ends) end();
  });
  return ({ path, responseStream }, call) => {
    // Every call comes by here, so those that are not meant pass as they are.
    if (!responseStream || path.startsWith("/sessiond.")) return call as ServerInterceptingCall;
    const end = () =>
      call.sendStatus({ code: status.UNAVAILABLE, details: SERVER_STOPPING.rawMessage });
    return new ServerInterceptingCall(call, {
      start: (next) => {
        ends.add(end);
        next({ onCancel: () => ends.delete(end) });
      },
    });
  };
}

function bind(server: Server, address: Address): Promise<number> {
  return new Promise((resolve, reject) => {
    const credentials = ServerCredentials.createInsecure();
    server.bindAsync(formatAddress(address), credentials, (error, port) => {
      if (error) reject(listenFailure(address, "--grpc-address", error));
      else resolve(port);
    });
  });
}

/** Counts the calls that a server which stops has to wait for: streams do not end by themselves. */
class CallsUnderWay {
  #count = 0;
  #onNone: () => void = () => {};

  readonly count: Interceptor = (next) => async (request) => {
    this.#count++;
    try {
      return await next(request);
    } finally {
      if (--this.#count === 0) this.#onNone();
    }
  };

  get areThereAny(): boolean {
    return this.#count > 0;
  }

  async none(): Promise<void> {
    while (this.#count > 0) {
      await new Promise<void>((resolve) => {
        this.#onNone = resolve;
      });
    }
  }
}

/**
 * Resolves after the grace at the latest: a connection whose other end is dead never
 * closes. Earlier where no call is under way any more, and all that is left are
 * clients that do not take what they were sent.
 */
async function stop(server: Server, calls: CallsUnderWay, graceMs: number): Promise<void> {
  const done = new AbortController();
  const { signal } = done;
  const wait = (ms: number) => sleep(ms, undefined, { signal }).catch(() => {});
  const delivered = async () => {
    do {
      await calls.none();
      await wait(DELIVERY_MS);
    } while (calls.areThereAny && !signal.aborted);
  };
  const shutDown = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  await Promise.race([shutDown, wait(graceMs), delivered()]);
  done.abort();
  server.forceShutdown();
}
