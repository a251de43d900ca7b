import { readFileSync } from "node:fs";
import { type RequestOptions, request } from "node:https";
import { text } from "node:stream/consumers";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { Client, credentials } from "@grpc/grpc-js";
import { createSessionClient, type TlsOptions } from "@sessiond/client";
import { callWithBytes } from "./protocols.js";
import type { TestServer } from "./test-server.js";

const COUNT = "/sessiond.v1.SessionService/CountSessions";

/** A way to call a server with TLS. */
export interface TlsCaller extends Disposable {
  /** Makes a call. Rejects if it fails. */
  call(): Promise<unknown>;
}

type Server = Pick<TestServer, "grpcAddress" | "httpUrl" | "accessToken">;

/** Every kind of client that this process can be. */
export const TLS_CLIENTS: Readonly<Record<string, (server: Server, tls: TlsOptions) => TlsCaller>> =
  {
    "the SDK over gRPC": ({ grpcAddress, accessToken: token }, tls) =>
      sdk({ baseUrl: `https://${grpcAddress}`, token, tls }),
    "the SDK over Connect": ({ httpUrl, accessToken: token }, tls) =>
      sdk({ baseUrl: secure(httpUrl), protocol: "connect", token, tls }),
    "the SDK over gRPC on the HTTP port": ({ httpUrl, accessToken: token }, tls) =>
      sdk({ baseUrl: secure(httpUrl), token, tls }),
    "grpc-js": ({ grpcAddress, accessToken }, { ca, cert, key }) => {
      const [roots, privateKey, chain] = [ca, key, cert].map(bytesOf);
      const channel = credentials.createSsl(roots, privateKey, chain);
      // With an IP address, grpc-js 1.14 asks for a server name that Node 26 refuses.
      const address = grpcAddress.replace("127.0.0.1", "localhost");
      const client = new Client(address, channel);
      const headers = { authorization: `Bearer ${accessToken}` };
      return {
        call: () => callWithBytes(client, COUNT, Buffer.alloc(0), { headers }),
        [Symbol.dispose]: () => client.close(),
      };
    },
    "HTTP/1.1 with a new connection each time": ({ httpUrl, accessToken }, tls) => ({
      call: () => postJson(httpUrl, accessToken, tls),
      [Symbol.dispose]: () => {},
    }),
  };

function sdk(options: Parameters<typeof createSessionClient>[0]): TlsCaller {
  // A failure is to be seen, not repeated.
  const client = createSessionClient({ ...options, maxAttempts: 1 });
  return { call: () => client.countSessions(), [Symbol.dispose]: () => client.close() };
}

function bytesOf(pem: string | Buffer | undefined): Buffer | null {
  return pem === undefined ? null : Buffer.from(pem);
}

/** Calls over HTTP/1.1 with JSON. Returns the answer's text. Rejects unless its status is 200. */
function postJson(httpUrl: string, accessToken: string, tls: TlsOptions): Promise<string> {
  const headers = {
    authorization: `Bearer ${accessToken}`,
    "content-type": "application/json",
    connection: "close",
  };
  return send(secure(httpUrl) + COUNT, { ...tls, method: "POST", headers }, "{}");
}

/** Sends a request over HTTP/1.1. Returns the answer's text. Rejects unless its status is 200. */
export async function send(url: string, options: RequestOptions = {}, body = ""): Promise<string> {
  const { promise, resolve, reject } =
    Promise.withResolvers<Parameters<NonNullable<Parameters<typeof request>[2]>>[0]>();
  request(url, { agent: false, ...options }, resolve)
    .on("error", reject)
    .end(body);
  const response = await promise;
  const answer = await text(response);
  if (response.statusCode !== 200) throw new Error(`${response.statusCode}: ${answer}`);
  return answer;
}

/** The same address with TLS. */
export function secure(url: string): string {
  return url.replace("http:", "https:");
}

/** Connects and returns the socket after its handshake. Rejects if the handshake fails. */
export function shakeHands(url: string, options: ConnectionOptions): Promise<TLSSocket> {
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), ...options });
  socket.once("secureConnect", () => resolve(socket)).on("error", reject);
  return promise;
}

/** The serial number of the certificate that a port presents to a new connection. */
export async function presentedBy(url: string, options: ConnectionOptions): Promise<string> {
  const socket = await shakeHands(url, { ALPNProtocols: ["h2"], ...options });
  const { serialNumber } = socket.getPeerX509Certificate() ?? {};
  socket.destroy();
  return serialNumber ?? "";
}

/** Makes calls one after the other, until it is told to stop. */
export class Load {
  readonly failures: unknown[] = [];
  count = 0;
  #isStopping = false;
  readonly #done: Promise<unknown>;

  constructor(callers: readonly TlsCaller[]) {
    this.#done = Promise.all(callers.map((caller) => this.#run(caller)));
  }

  /** Resolves after the last call. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#done;
  }

  async #run(caller: TlsCaller): Promise<void> {
    while (!this.#isStopping) {
      await caller.call().then(
        () => this.count++,
        (error) => this.failures.push(error),
      );
    }
  }
}

/** The files as the SDK takes them. */
export function readTls({ ca, cert, key }: { ca: string; cert?: string; key?: string }) {
  return {
    ca: readFileSync(ca),
    ...(cert !== undefined && { cert: readFileSync(cert) }),
    ...(key !== undefined && { key: readFileSync(key) }),
  };
}
