import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Client, credentials, Server, ServerCredentials, type ServerOptions } from "@grpc/grpc-js";
import { addConnectRoutes, type ConnectRoutesOptions } from "../server/add-connect-routes.js";
import { connectEcho } from "./connect-client.js";
import type { EchoCall } from "./echo-client.js";
import { grpcEcho } from "./grpc-client.js";

/** The clients that a behaviour is tested with. */
export const CLIENTS = ["grpc-js", "connect-node"] as const;

export interface Loopback {
  readonly baseUrl: string;
  readonly server: Server;
  readonly grpcClient: Client;
  readonly call: Readonly<Record<(typeof CLIENTS)[number], EchoCall>>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Serves routes on a loopback socket, with a client of each kind. */
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
  const baseUrl = `http://127.0.0.1:${port}`;
  const grpcClient = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  const sessionManager = new Http2SessionManager(baseUrl);
  const transport = createGrpcTransport({ baseUrl, sessionManager });
  return {
    baseUrl,
    server,
    grpcClient,
    call: { "grpc-js": grpcEcho(grpcClient), "connect-node": connectEcho(transport) },
    async [Symbol.asyncDispose]() {
      grpcClient.close();
      sessionManager.abort();
      server.forceShutdown();
    },
  };
}
