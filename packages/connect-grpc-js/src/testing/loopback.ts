import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import type { ServiceImpl } from "@connectrpc/connect";
import { Client, credentials, Server, ServerCredentials, type ServerOptions } from "@grpc/grpc-js";
import { addConnectRoutes, type ConnectRoutesOptions } from "../server/add-connect-routes.js";
import { type EchoCall, grpcEcho, pathOf } from "./echo-client.js";
import { EchoService } from "./echo-service.js";

/** Handlers that send back what they receive. */
export const ECHO = {
  unary: ({ value }) => ({ value }),
  async *serverStream({ value }) {
    for (const word of value.split(" ")) yield { value: word };
  },
  async clientStream(requests) {
    const values: string[] = [];
    for await (const { value } of requests) values.push(value);
    return { value: values.join(" ") };
  },
  async *bidi(requests) {
    for await (const { value } of requests) yield { value: value.toUpperCase() };
  },
} satisfies Partial<ServiceImpl<typeof EchoService>>;

export interface Loopback extends AsyncDisposable {
  readonly baseUrl: string;
  readonly server: Server;
  readonly grpcClient: Client;
  readonly call: EchoCall;
}

/** Serves the echo service on a loopback socket. */
export function serveEcho(
  handlers: Partial<ServiceImpl<typeof EchoService>>,
  options: Omit<ConnectRoutesOptions, "routes"> = {},
  serverOptions?: ServerOptions,
): Promise<Loopback> {
  const routes: ConnectRoutesOptions["routes"] = (router) => {
    router.service(EchoService, handlers);
  };
  return listen({ ...options, routes }, serverOptions);
}

/** Serves routes on a loopback socket. */
export async function listen(
  options: ConnectRoutesOptions,
  serverOptions?: ServerOptions,
): Promise<Loopback> {
  const server = new Server(serverOptions);
  addConnectRoutes(server, options);
  const port = await new Promise<number>((resolve, reject) => {
    const onBound = (error: Error | null, port: number) => (error ? reject(error) : resolve(port));
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), onBound);
  });
  const grpcClient = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  return {
    baseUrl: `http://127.0.0.1:${port}`,
    server,
    grpcClient,
    call: grpcEcho(grpcClient),
    async [Symbol.asyncDispose]() {
      grpcClient.close();
      server.forceShutdown();
    },
  };
}

/** Opens a call on an HTTP/2 session, to do what the clients of gRPC libraries do not do. */
export function openStream(
  session: ClientHttp2Session,
  method: keyof typeof EchoService.method,
  headers: Record<string, string> = {},
): ClientHttp2Stream {
  return session.request({
    ":method": "POST",
    ":path": pathOf(method),
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  });
}
