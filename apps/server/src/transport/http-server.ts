import { once } from "node:events";
import { createServer, IncomingMessage, type Server, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { AddressInfo } from "node:net";
import { createRegistry } from "@bufbuild/protobuf";
import {
  type ConnectRouter,
  type ContextValues,
  createContextValues,
  type HandlerContext,
  type Interceptor,
} from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import type { Address } from "../network/address.js";
import { Http2Connections } from "./http2-connections.js";
import { DELIVERY_MS, MAX_MESSAGE_BYTES, REQUEST_TIMEOUT_MS } from "./limits.js";
import { listenFailure } from "./listen-failure.js";
import type { Readiness } from "./readiness.js";
import { RequestBody, requestBodyKey } from "./request-body.js";

/** A request and its response, of either version of HTTP. */
type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

const JSON_OPTIONS = {
  // A result of a batch carries its error's details in google.protobuf.Any.
  registry: createRegistry(ErrorInfoSchema, BadRequestSchema, RetryInfoSchema),
  // A misspelt `exceptSessionId` must not end the session that it was to spare.
  ignoreUnknownFields: false,
  // Invalid UTF-8 is refused; to replace it would make one user id of many.
  textDecoder: new TextDecoder("utf-8", { fatal: true }),
};

/** What the HTTP port serves. */
export interface HttpServerOptions {
  readonly address: Address;
  readonly routes: (router: ConnectRouter) => void;
  readonly interceptors: readonly Interceptor[];
  /** Asked before a request is read. */
  readonly requestGate: (context: HandlerContext) => Promise<void>;
  readonly readiness: Readiness;
  readonly shutdownSignal: AbortSignal;
}

/** An HTTP server that listens. */
export interface HttpServer {
  readonly address: Address;
  /** Lets requests under way finish, for at most `graceMs`, then cuts them. Idempotent. */
  stop(graceMs: number): Promise<void>;
}

/**
 * Starts serving Connect, gRPC-Web, JSON and health over HTTP/1.1 and HTTP/2, and gRPC over HTTP/2, for
 * who can reach this port only. Rejects where the address cannot be listened on.
 */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { readiness } = options;
  const adapter = (hasGrpc: boolean) =>
    connectNodeAdapter({
      routes: options.routes,
      interceptors: [...options.interceptors],
      requestGate: options.requestGate,
      grpc: hasGrpc,
      readMaxBytes: MAX_MESSAGE_BYTES,
      shutdownSignal: options.shutdownSignal,
      jsonOptions: JSON_OPTIONS,
      contextValues: readWhole,
    });
  // gRPC says how a call ended in a trailer, which few clients of HTTP/1.1 look at.
  const rpcOverHttp1 = adapter(false);
  const rpcOverHttp2 = adapter(true);
  const underWay = new Set<Response>();
  const serve = (request: Request, response: Response) => {
    underWay.add(response);
    response.once("close", () => underWay.delete(response));
    switch (pathOf(request)) {
      case "/healthz":
        return respond(response, 200, "ok");
      case "/readyz":
        return respond(response, readiness.isReady ? 200 : 503, readiness.describe());
      default:
        if (!(request instanceof IncomingMessage)) return serveRpc(rpcOverHttp2, request, response);
        // Keeps the connection usable when its request is refused before it was read to its
        // end: Node would tell the client to keep it, and read nothing more from it.
        response.once("finish", () => request.resume());
        return serveRpc(rpcOverHttp1, request, response);
    }
  };
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, serve);
  const http2 = new Http2Connections(serve);
  http2.takeFrom(server);
  await listen(server, options.address);
  const { port } = server.address() as AddressInfo;
  let stopped: Promise<void> | undefined;
  return {
    address: { host: options.address.host, port },
    stop: (graceMs) => {
      stopped ??= stop(server, http2, underWay, graceMs);
      return stopped;
    },
  };
}

function pathOf(request: Request): string {
  return request.url?.split("?", 1)[0] ?? "";
}

function respond(response: Response, status: number, text: string): void {
  response.statusCode = status;
  response.setHeader("content-type", "text/plain; charset=utf-8");
  response.end(`${text}\n`);
}

async function listen(server: Server, { host, port }: Address): Promise<void> {
  server.listen(port, host);
  try {
    await once(server, "listening");
  } catch (cause) {
    throw listenFailure({ host, port }, "--http-address", cause as Error);
  }
}

/**
 * Connect makes a URL of the Host header, and throws where that cannot be done.
 * Nobody's request may end the process.
 */
function serveRpc(
  rpc: ReturnType<typeof connectNodeAdapter>,
  request: Request,
  response: Response,
): void {
  try {
    rpc(request, response);
  } catch {
    respond(response, 400, "expected a request with a valid Host header");
  }
}

/** Has Connect read a request whole, and notes its body for errors to name a field by. */
function readWhole(request: Request): ContextValues {
  const body = new RequestBody(request, MAX_MESSAGE_BYTES);
  request[Symbol.asyncIterator] = () => body[Symbol.asyncIterator]();
  return createContextValues().set(requestBodyKey, body);
}

async function stop(
  server: Server,
  http2: Http2Connections,
  underWay: ReadonlySet<Response>,
  graceMs: number,
): Promise<void> {
  http2.close();
  for (const response of underWay) {
    if (!(response instanceof ServerResponse)) continue;
    // Their clients would keep the connections, and the server would wait for those.
    response.shouldKeepAlive = false;
    // Or, of a stream, it has long told them that they may.
    response.once("finish", () => server.closeIdleConnections());
  }
  const force = setTimeout(() => {
    http2.destroy();
    server.closeAllConnections();
  }, graceMs);
  // A response that has begun is complete by now, but for what its client does not take.
  const cut = setTimeout(() => {
    for (const response of underWay) if (response.headersSent) response.destroy();
  }, DELIVERY_MS);
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
  clearTimeout(force);
  clearTimeout(cut);
}
