import type { ServerHttp2Stream } from "node:http2";
import { createContextValues, type Interceptor } from "@connectrpc/connect";
import {
  logVerbosity,
  type Metadata,
  Server,
  type ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  setLogVerbosity,
  status,
} from "@grpc/grpc-js";
import {
  addConnectRoutes,
  onHttp2Server,
  rememberPeerCertificates,
} from "@sessiond/connect-grpc-js";
import type { HealthImplementation } from "grpc-health-check";
import { type Address, formatAddress } from "../network/address.js";
import type { PortMetrics, RpcMetrics } from "../observability/rpc-metrics.js";
import { fieldOfBytes } from "../services/malformed-field.js";
import { checkElements } from "../services/message-elements.js";
import { describeMalformed, SERVER_STOPPING } from "../services/rpc-error.js";
import { SERVICES } from "../services/services.js";
import { serializeSessions } from "../services/session-bytes.js";
import { drain } from "./drain.js";
import { boundCalls, boundUnaryCalls } from "./grpc-call-bounds.js";
import { grpcCredentials } from "./grpc-credentials.js";
import type { GrpcGate } from "./grpc-gate.js";
import { guardConnections } from "./guard-connections.js";
import { listenFailure, type Port, type PortOptions } from "./port.js";
import { addReflection } from "./reflection.js";

/** We notice lost clients within about the sum of both times. */
const KEEPALIVE_TIME_MS = 60_000;
const KEEPALIVE_TIMEOUT_MS = 20_000;

interface GrpcServerOptions extends PortOptions {
  readonly health: HealthImplementation;
  readonly reflection: boolean;
  readonly portMetrics: PortMetrics;
  readonly gate: GrpcGate;
}

/** Starts serving gRPC, health and reflection. Rejects if it cannot listen on the address. */
export async function startGrpcServer(options: GrpcServerOptions): Promise<Port> {
  // grpc-js would write malformed headers to stderr, with access tokens.
  setLogVerbosity(logVerbosity.NONE);
  const { routes, interceptors, shutdownSignal } = options;
  const { edge, gate } = options;
  // What grpc-js tells a handler of its call does not name the stream.
  const streams = new WeakMap<Metadata, ServerHttp2Stream>();
  const onCall = (stream: ServerHttp2Stream, metadata: Metadata) => streams.set(metadata, stream);
  const server = new Server({
    "grpc.max_receive_message_length": edge.limits.maxMessageBytes,
    "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    interceptors: [
      boundCalls(edge, gate, onCall),
      endStreamsOn(shutdownSignal),
      measureOthers(options.portMetrics),
    ],
  });
  const calls = new CallsUnderWay();
  onHttp2Server(server, (http2) => {
    http2.updateSettings(edge.http2Settings);
    http2.on("session", (session) => edge.takeSession(session));
    guardConnections(http2, edge, options.onAcceptError);
  });
  rememberPeerCertificates(server);
  addConnectRoutes(server, {
    routes,
    gate: gate.enter,
    contextValues: (call) => {
      const stream = call.stream ?? streams.get(call.metadata);
      return (stream && gate.beginServing(stream)) ?? createContextValues();
    },
    unaryBounds: boundUnaryCalls(edge, gate),
    interceptors: [calls.count, ...interceptors],
    describeMalformed: (error, desc, bytes) => describeMalformed(error, fieldOfBytes(desc, bytes)),
    shutdownSignal,
    checkRequest: checkElements,
    serialize: serializeSessions,
  });
  options.health.addToServer(server);
  if (options.reflection) addReflection(server, SERVICES);
  const port = await bind(server, options.address, grpcCredentials(options.certificate));
  let stopped: Promise<void> | undefined;
  return {
    address: { host: options.address.host, port },
    stop: (graceMs) => {
      stopped ??= stop(server, () => calls.areAny || gate.isAdmitting, graceMs);
      return stopped;
    },
  };
}

/**
 * Ends health watches and reflection streams when the server stops: they do not end by themselves,
 * and the server would wait for them. Connect routes end their own streams.
 */
function endStreamsOn(shutdownSignal: AbortSignal): ServerInterceptor {
  const ends = new Set<() => void>();
  shutdownSignal.addEventListener("abort", () => {
    for (const end of ends) end();
  });
  return ({ path, responseStream }, call) => {
    // All of grpc-js's calls pass here, so the others must cost nothing.
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

/** Counts and times calls of health and reflection, which no Connect interceptor sees. */
function measureOthers(metrics: PortMetrics): ServerInterceptor {
  // Only methods that the server has come here, so there are few.
  const rpcs = new Map<string, RpcMetrics>();
  return ({ path, responseStream, requestStream }, call) => {
    if (path.startsWith("/sessiond.")) return call as ServerInterceptingCall;
    const startMs = performance.now();
    let rpc = rpcs.get(path);
    if (rpc === undefined) {
      const [, service = "", method = ""] = path.split("/");
      const type = requestStream ? "bidi_stream" : responseStream ? "server_stream" : "unary";
      rpc = metrics.named({ type, service, method });
      rpcs.set(path, rpc);
    }
    let hasEnded = false;
    const end = (code: number) => {
      if (!hasEnded) rpc.ended(code, startMs);
      hasEnded = true;
    };
    return new ServerInterceptingCall(call, {
      start: (next) => next({ onCancel: () => end(status.CANCELLED) }),
      sendStatus: (sent, next) => {
        end(sent.code ?? status.UNKNOWN);
        next(sent);
      },
    });
  };
}

function bind(server: Server, address: Address, credentials: ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(formatAddress(address), credentials, (error, port) => {
      if (error) reject(listenFailure(address, "--grpc-address", error));
      else resolve(port);
    });
  });
}

/** Counts the calls that a stopping server waits for. */
class CallsUnderWay {
  #count = 0;

  readonly count: Interceptor = (next) => async (request) => {
    this.#count++;
    try {
      return await next(request);
    } finally {
      this.#count--;
    }
  };

  get areAny(): boolean {
    return this.#count > 0;
  }
}

/** The connection of a dead client never closes by itself, so `drain` bounds the wait. */
async function stop(server: Server, isWorking: () => boolean, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  await drain(closed, isWorking, graceMs);
  server.forceShutdown();
}
