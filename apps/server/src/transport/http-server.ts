import { once } from "node:events";
import { createServer, IncomingMessage, type Server, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { AddressInfo } from "node:net";
import { createRegistry } from "@bufbuild/protobuf";
import { type ContextValues, createContextValues, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import { requestTextDecoder } from "../services/request-json.js";
import { Http2Connections } from "./http2-connections.js";
import { DELIVERY_MS, MAX_MESSAGE_BYTES, REQUEST_TIMEOUT_MS } from "./limits.js";
import { listenFailure, type Port, type PortOptions } from "./port.js";
import type { Readiness } from "./readiness.js";
import { RequestBody, requestBodyKey } from "./request-body.js";

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;

const JSON_OPTIONS = {
  // A batch's result has its error's details in google.protobuf.Any.
  registry: createRegistry(ErrorInfoSchema, BadRequestSchema, RetryInfoSchema),
  // A misspelt `exceptSessionId` must not revoke the session that it should spare.
  ignoreUnknownFields: false,
  textDecoder: requestTextDecoder,
};

interface HttpServerOptions extends PortOptions {
  /** Runs before a request is read. */
  readonly requestGate: (context: HandlerContext) => Promise<void>;
  readonly readiness: Readiness;
}

/**
 * Starts serving Connect, gRPC-Web, JSON and health over HTTP/1.1 and HTTP/2, and gRPC over HTTP/2
 * for clients that can reach only this port. Rejects if it cannot listen on the address.
 */
export async function startHttpServer(options: HttpServerOptions): Promise<Port> {
  const { address, readiness } = options;
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
  // gRPC sends a call's status in a trailer, which few HTTP/1.1 clients read.
  const rpcOverHttp1 = adapter(false);
  const rpcOverHttp2 = adapter(true);
  const underWay = new Set<Response>();
  const serve = (request: Request, response: Response) => {
    underWay.add(response);
    response.once("close", () => underWay.delete(response));
    switch (request.url?.split("?", 1)[0]) {
      case "/healthz":
        return respond(response, 200, "ok");
      case "/readyz":
        return respond(response, readiness.isReady ? 200 : 503, readiness.describe());
      default:
        if (!(request instanceof IncomingMessage)) return serveRpc(rpcOverHttp2, request, response);
        // If we refuse a request before its end, Node keeps the connection but reads nothing more
        // from it. So read the rest.
        response.once("finish", () => request.resume());
        return serveRpc(rpcOverHttp1, request, response);
    }
  };
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, serve);
  const http2 = new Http2Connections(serve);
  http2.takeFrom(server);
  server.listen(address.port, address.host);
  await once(server, "listening").catch((cause: Error) => {
    throw listenFailure(address, "--http-address", cause);
  });
  const { port } = server.address() as AddressInfo;
  let stopped: Promise<void> | undefined;
  return {
    address: { host: address.host, port },
    stop: (graceMs) => {
      stopped ??= stop(server, http2, underWay, graceMs);
      return stopped;
    },
  };
}

function respond(response: Response, status: number, text: string): void {
  response.statusCode = status;
  response.setHeader("content-type", "text/plain; charset=utf-8");
  response.end(`${text}\n`);
}

/** Connect throws if the Host header gives no URL. No request may end the process. */
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

/** Makes Connect read a request in one piece, and keeps the body so errors can name a field. */
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
    // Clients would keep their connections open, and the server would wait.
    response.shouldKeepAlive = false;
    // A stream's headers have already allowed keep-alive.
    response.once("finish", () => server.closeIdleConnections());
  }
  const force = setTimeout(() => {
    http2.destroy();
    server.closeAllConnections();
  }, graceMs);
  // A response that has begun is complete by then, except for what its client does not read.
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
