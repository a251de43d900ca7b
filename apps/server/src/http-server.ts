import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { createRegistry } from "@bufbuild/protobuf";
import type { ConnectRouter, Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import { type Address, formatAddress } from "./address.js";
import { MAX_MESSAGE_BYTES } from "./limits.js";
import type { Readiness } from "./readiness.js";

/** How long a client may take to send a request. */
const REQUEST_TIMEOUT_MS = 30_000;

/** What the HTTP port serves. */
export interface HttpServerOptions {
  readonly address: Address;
  readonly routes: (router: ConnectRouter) => void;
  readonly interceptors: readonly Interceptor[];
  readonly readiness: Readiness;
  readonly shutdownSignal: AbortSignal;
}

/** An HTTP server that listens. */
export interface HttpServer {
  readonly address: Address;
  /** Lets requests under way finish, for at most `graceMs`, then cuts them. */
  stop(graceMs: number): Promise<void>;
}

/** Starts serving Connect, gRPC-Web, JSON and health. Rejects where the address cannot be listened on. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { readiness } = options;
  const rpc = connectNodeAdapter({
    routes: options.routes,
    interceptors: [...options.interceptors],
    // gRPC proper has its own port; over HTTP/1.1 there is none.
    grpc: false,
    readMaxBytes: MAX_MESSAGE_BYTES,
    shutdownSignal: options.shutdownSignal,
    // A result of a batch carries its error's details in google.protobuf.Any.
    jsonOptions: { registry: createRegistry(ErrorInfoSchema, BadRequestSchema, RetryInfoSchema) },
  });
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    switch (pathOf(request)) {
      case "/healthz":
        return respond(response, 200, "ok");
      case "/readyz":
        return respond(response, readiness.isReady ? 200 : 503, readiness.describe());
      default:
        return rpc(request, response);
    }
  });
  await listen(server, options.address);
  const { port } = server.address() as AddressInfo;
  return {
    address: { host: options.address.host, port },
    stop: (graceMs) => stop(server, graceMs),
  };
}

function pathOf(request: IncomingMessage): string {
  return request.url?.split("?", 1)[0] ?? "";
}

function respond(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${text}\n`);
}

async function listen(server: Server, { host, port }: Address): Promise<void> {
  server.listen(port, host);
  try {
    await once(server, "listening");
  } catch (cause) {
    throw new Error(`cannot listen on ${formatAddress({ host, port })}`, { cause });
  }
}

async function stop(server: Server, graceMs: number): Promise<void> {
  const force = setTimeout(() => server.closeAllConnections(), graceMs);
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
  clearTimeout(force);
}
