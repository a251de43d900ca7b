import { once } from "node:events";
import { IncomingMessage, type Server, type ServerOptions, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { rememberPeerCertificate } from "@sessiond/connect-grpc-js";
import type { Edge } from "../edge/edge.js";
import type { EdgeLimits } from "../edge/edge-limits.js";
import { Link, LinkedList } from "../edge/linked-list.js";
import type { Exposer } from "../observability/metric-reports.js";
import type { Console } from "./console.js";
import { createCors } from "./cors.js";
import { createHttpServer } from "./create-http-server.js";
import { drain } from "./drain.js";
import { drainAfter } from "./drain-request.js";
import { guardConnections } from "./guard-connections.js";
import { HttpClient } from "./http-client.js";
import type { Request, Response } from "./http-messages.js";
import { Http2Connections } from "./http2-connections.js";
import { answerScrape, METRICS_PATH } from "./metrics-server.js";
import { listenFailure, type Port, type PortOptions } from "./port.js";
import { answerProbe } from "./probes.js";
import type { Readiness } from "./readiness.js";
import { type Refuse, rawResponse, refuse, unreadable } from "./refusal.js";
import { createRpcHandler, type RpcOptions } from "./rpc-over-http.js";

/** What everybody may ask for without an access token. */
const OPEN_PATHS: ReadonlySet<string> = new Set(["/healthz", "/readyz", METRICS_PATH]);

interface HttpServerOptions extends RpcOptions, PortOptions {
  readonly readiness: Readiness;
  /** The origins whose web pages may call. */
  readonly corsOrigins: readonly string[];
  /** Undefined if the server serves no console. */
  readonly console?: Console | undefined;
  /** Undefined if they are served elsewhere. */
  readonly exposition?: Exposer | undefined;
}

/** A request that is not answered yet. */
class Exchange extends Link {
  readonly request: Request;
  readonly response: Response;

  constructor(request: Request, response: Response) {
    super();
    this.request = request;
    this.response = response;
  }
}

/**
 * Starts serving Connect, gRPC-Web, JSON and health over HTTP/1.1 and HTTP/2, and gRPC over HTTP/2
 * for clients that can reach only this port. Rejects if it cannot listen on the address.
 */
export async function startHttpServer(options: HttpServerOptions): Promise<Port> {
  const { address, edge, readiness, exposition, portMetrics } = options;
  const refuseAndCount: Refuse = (response, refusal) => {
    refuse(response, refusal);
    portMetrics.refusedRequest(refusal.status);
  };
  // gRPC sends a call's status in a trailer, which few HTTP/1.1 clients read.
  const rpcOverHttp1 = createRpcHandler(options, { hasGrpc: false, refuse: refuseAndCount });
  const rpcOverHttp2 = createRpcHandler(options, { hasGrpc: true, refuse: refuseAndCount });
  const cors = createCors(options.corsOrigins, refuseAndCount);
  const underWay = new LinkedList<Exchange>();
  const serve = (request: Request, response: Response) => {
    const exchange = new Exchange(request, response);
    underWay.add(exchange);
    response.once("close", () => exchange.remove());
    const client = HttpClient.of(edge, request, response);
    // It has closed, or made too many calls without an access token, and this one came behind them.
    if (client === undefined) return void request.socket.destroy();
    if (response instanceof ServerResponse && (readiness.isStopping || client.isOld)) {
      // Adds `connection: close`, so the client makes its next call over another connection.
      response.shouldKeepAlive = false;
    }
    if (request instanceof IncomingMessage) drainAfter(request, response);
    if (cors(request, response)) return;
    const path = request.url?.split("?", 1)[0] ?? "";
    if (OPEN_PATHS.has(path)) client.countUnauthenticated();
    if (exposition && path === METRICS_PATH) {
      return void answerScrape(exposition, request.headers.accept, response);
    }
    if (answerProbe(readiness, path, response)) return;
    if (options.console?.(path, request, response, client)) return;
    const serveRpc = request instanceof IncomingMessage ? rpcOverHttp1 : rpcOverHttp2;
    return serveRpc(request, response, path, client);
  };
  const tls = { asksClients: true, protocols: ["h2", "http/1.1"] };
  const server = createHttpServer(optionsOf(edge.limits), options.certificate, tls);
  server.on("request", serve);
  // HTTP lets a server ignore what it does not know (RFC 9110, 10.1.1).
  server.on("checkExpectation", serve);
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    // What we write now must not get into the middle of a response.
    const hasBegun = underWay
      .toArray()
      .some(({ response }) => response.socket === socket && response.headersSent);
    if (socket.writable && !hasBegun) {
      const refusal = unreadable(error, edge.limits);
      socket.write(rawResponse(refusal));
      portMetrics.refusedRequest(refusal.status);
    }
    socket.destroySoon();
  });
  server.setTimeout(edge.limits.requestTimeoutMs, (socket) => {
    if (!isWaiting(socket, underWay)) socket.destroy();
  });
  const http2 = new Http2Connections(serve, edge);
  http2.takeFrom(server);
  guardConnections(server, edge, options.onAcceptError);
  server.on("secureConnection", rememberPeerCertificate);
  server.listen(address.port, address.host);
  await once(server, "listening").catch((cause: Error) => {
    throw listenFailure(address, "--http-address", cause);
  });
  const { port } = server.address() as AddressInfo;
  let stopped: Promise<void> | undefined;
  return {
    address: { host: address.host, port },
    stop: (graceMs) => {
      stopped ??= stop(server, { edge, http2, underWay }, graceMs);
      return stopped;
    },
  };
}

function optionsOf({ requestTimeoutMs, maxHeaderBytes }: EdgeLimits): ServerOptions {
  return {
    // With the default of half a minute, a limit of ten seconds would be one of forty.
    connectionsCheckingInterval: Math.min(1_000, requestTimeoutMs / 4),
    headersTimeout: requestTimeoutMs,
    requestTimeout: requestTimeoutMs,
    maxHeaderSize: maxHeaderBytes,
    // With it, Node would answer a request without a Host header by itself, and say nothing.
    requireHostHeader: false,
  };
}

/** Whether a silent connection has a call that is not answered yet. It may wait for a lock. */
function isWaiting(socket: Socket, underWay: LinkedList<Exchange>): boolean {
  if (socket.writableLength > 0) return false;
  return underWay.toArray().some(({ response }) => response.socket === socket);
}

async function stop(
  server: Server,
  port: {
    readonly edge: Edge;
    readonly http2: Http2Connections;
    readonly underWay: LinkedList<Exchange>;
  },
  graceMs: number,
): Promise<void> {
  const { edge, http2, underWay } = port;
  edge.cutSilent();
  http2.close();
  for (const { response } of underWay.toArray()) {
    if (!(response instanceof ServerResponse)) continue;
    // Clients would keep their connections open, and the server would wait.
    response.shouldKeepAlive = false;
    // A stream's headers have already allowed keep-alive.
    response.once("finish", () => server.closeIdleConnections());
  }
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
  // A response that has begun is complete soon, except for what its client does not read.
  const isWorking = () =>
    underWay.toArray().some(({ response, request }) => !response.headersSent && isWhole(request));
  await drain(closed, isWorking, graceMs);
  http2.destroy();
  server.closeAllConnections();
  await closed;
}

/** Whether a request has arrived with its end. Nobody works on half a request. */
function isWhole(request: Request): boolean {
  if (request instanceof IncomingMessage) return request.complete;
  return request.stream.state.remoteClose === 1;
}
