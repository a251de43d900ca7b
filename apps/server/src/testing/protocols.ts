import {
  create,
  createRegistry,
  type DescMessage,
  type DescService,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type Client,
  type Code,
  ConnectError,
  createClient,
  type Transport,
} from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import {
  type ClientReadableStream,
  credentials,
  Client as GrpcClient,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema } from "@sessiond/proto/google/rpc/error_details";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import type { TestServer } from "./test-server.js";

/** A typed client of the real service. */
export type SessionServiceClient = Client<typeof SessionService>;
export type LockServiceClient = Client<typeof LockService>;
export type RateLimitServiceClient = Client<typeof RateLimitService>;

type ServerAddresses = Pick<TestServer, "grpcAddress" | "grpcUrl" | "httpUrl">;

/** One of the ways in which the server can be called. */
export interface Protocol {
  readonly name: string;
  readonly open: (server: ServerAddresses) => Transport;
}

const HTTP = { httpVersion: "1.1" } as const;

/** gRPC as most of its callers speak it: with the client of grpc-js. */
export const GRPC: Protocol = {
  name: "gRPC with grpc-js",
  open: ({ grpcAddress }) => grpcJsTransport(grpcAddress),
};

/** JSON over HTTP, as curl would send it. */
export const JSON_OVER_HTTP: Protocol = {
  name: "Connect with JSON",
  open: ({ httpUrl }) =>
    createConnectTransport({
      ...HTTP,
      baseUrl: httpUrl,
      useBinaryFormat: false,
      // To read the error details within the results of a batch.
      jsonOptions: { registry: createRegistry(ErrorInfoSchema, BadRequestSchema) },
    }),
};

/** Connect as its generated clients speak it; unlike JSON, it can carry any message. */
export const PROTOBUF_OVER_HTTP: Protocol = {
  name: "Connect with protobuf",
  open: ({ httpUrl }) =>
    createConnectTransport({ ...HTTP, baseUrl: httpUrl, useBinaryFormat: true }),
};

/** Connect over HTTP/2, on which many calls share a connection. */
export const CONNECT_OVER_HTTP2: Protocol = {
  name: "Connect over HTTP/2",
  open: ({ httpUrl }) => createConnectTransport({ httpVersion: "2", baseUrl: httpUrl }),
};

/** gRPC where only the HTTP port can be reached. */
export const GRPC_OVER_HTTP_PORT: Protocol = {
  name: "gRPC over the HTTP port",
  open: ({ httpUrl }) => createGrpcTransport({ baseUrl: httpUrl }),
};

/** Every protocol that the server is reached over. */
export const PROTOCOLS: readonly Protocol[] = [
  GRPC,
  {
    name: "gRPC with connect-node",
    open: ({ grpcUrl }) => createGrpcTransport({ baseUrl: grpcUrl }),
  },
  JSON_OVER_HTTP,
  PROTOBUF_OVER_HTTP,
  {
    name: "gRPC-Web",
    open: ({ httpUrl }) => createGrpcWebTransport({ ...HTTP, baseUrl: httpUrl }),
  },
  CONNECT_OVER_HTTP2,
  GRPC_OVER_HTTP_PORT,
];

/** A client whose calls carry these headers. */
export function sessionClient(
  transport: Transport,
  headers: Readonly<Record<string, string>>,
): SessionServiceClient {
  return serviceClient(SessionService, transport, headers);
}

/** The same for any service. */
export function serviceClient<S extends DescService>(
  service: S,
  transport: Transport,
  headers: Readonly<Record<string, string>>,
): Client<S> {
  const withHeaders: Transport = {
    unary: (method, signal, timeoutMs, header, input, contextValues) => {
      const merged = new Headers({ ...headers, ...Object.fromEntries(new Headers(header)) });
      return transport.unary(method, signal, timeoutMs, merged, input, contextValues);
    },
    stream: (method, signal, timeoutMs, header, input, contextValues) => {
      const merged = new Headers({ ...headers, ...Object.fromEntries(new Headers(header)) });
      return transport.stream(method, signal, timeoutMs, merged, input, contextValues);
    },
  };
  return createClient(service, withHeaders);
}

/** A client over this protocol whose calls carry an access token with every permission. */
export function clientOver(protocol: Protocol, server: TestServer): SessionServiceClient {
  return sessionClient(protocol.open(server), bearer(server.accessToken));
}

/** The same for locks. */
export function locksOver(protocol: Protocol, server: TestServer): LockServiceClient {
  return serviceClient(LockService, protocol.open(server), bearer(server.accessToken));
}

/** The same for rate limits. */
export function rateLimitsOver(protocol: Protocol, server: TestServer): RateLimitServiceClient {
  return serviceClient(RateLimitService, protocol.open(server), bearer(server.accessToken));
}

/** The header that carries an access token. */
export function bearer(token: string): { readonly authorization: string } {
  return { authorization: `Bearer ${token}` };
}

/**
 * Sends unary and server-streaming calls with grpc-js, so that the clients that
 * Connect generates can use it.
 */
function grpcJsTransport(address: string): Transport {
  const client = new GrpcClient(address, credentials.createInsecure());
  return {
    unary: async (method, signal, timeoutMs, header, input) => {
      const path = `/${method.parent.typeName}/${method.name}`;
      const request = toBinary(method.input, create(method.input, input));
      const headers = Object.fromEntries(new Headers(header));
      const response = await callWithBytes(client, path, request, {
        headers,
        timeoutMs,
        signal,
      });
      const message = fromBinary(method.output, response);
      return { ...EMPTY, service: method.parent, method, message };
    },
    stream: async (method, signal, timeoutMs, header, input) => {
      const path = `/${method.parent.typeName}/${method.name}`;
      const request = toBinary(method.input, create(method.input, await only(input)));
      const headers = Object.fromEntries(new Headers(header));
      const call = streamBytes(client, path, request, { headers, timeoutMs, signal });
      const message = messagesOf(method.output, call);
      return { ...EMPTY, stream: true, service: method.parent, method, message };
    },
  };
}

const EMPTY = { stream: false, header: new Headers(), trailer: new Headers() } as const;

/** What goes with a call of `callWithBytes`. */
export interface RawCallOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number | undefined;
  /** Cancels the call. */
  readonly signal?: AbortSignal | undefined;
}

/** Makes a unary gRPC call with whatever bytes as its message. Rejects with a ConnectError. */
export function callWithBytes(
  client: GrpcClient,
  path: string,
  request: Uint8Array,
  { headers = {}, timeoutMs, signal }: RawCallOptions = {},
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const call = client.makeUnaryRequest(
      path,
      (bytes: Uint8Array) => Buffer.from(bytes),
      (bytes: Buffer) => new Uint8Array(bytes),
      request,
      metadataOf(headers),
      timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
      (error, response) => {
        if (error) reject(toConnectError(error));
        else if (response) resolve(response);
      },
    );
    signal?.addEventListener("abort", () => call.cancel(), { once: true });
  });
}

/** Starts a server-streaming gRPC call. */
function streamBytes(
  client: GrpcClient,
  path: string,
  request: Uint8Array,
  { headers = {}, timeoutMs, signal }: RawCallOptions,
): ClientReadableStream<Buffer> {
  const call = client.makeServerStreamRequest(
    path,
    (bytes: Uint8Array) => Buffer.from(bytes),
    (bytes: Buffer) => bytes,
    request,
    metadataOf(headers),
    timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
  );
  signal?.addEventListener("abort", () => call.cancel(), { once: true });
  return call;
}

/** The one request that a server-streaming call has. */
async function only<T>(requests: AsyncIterable<T>): Promise<T> {
  for await (const request of requests) return request;
  throw new Error("expected a request");
}

/** The messages of a stream, as they come. A reader that stops cancels the call. */
async function* messagesOf<Desc extends DescMessage>(
  desc: Desc,
  call: ClientReadableStream<Buffer>,
): AsyncGenerator<MessageShape<Desc>> {
  try {
    for await (const bytes of call as AsyncIterable<Buffer>) {
      yield fromBinary(desc, new Uint8Array(bytes));
    }
  } catch (error) {
    throw toConnectError(error as ServiceError);
  } finally {
    call.cancel();
  }
}

function metadataOf(headers: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return metadata;
}

/** The same error as Connect's own clients make of it. */
function toConnectError({ code, details, metadata }: ServiceError): ConnectError {
  const error = new ConnectError(details, code as number as Code);
  const [status] = metadata.get("grpc-status-details-bin");
  if (status instanceof Buffer) {
    error.details = fromBinary(StatusSchema, status).details.map(({ typeUrl, value }) => ({
      type: typeUrl.replace("type.googleapis.com/", ""),
      value,
    }));
  }
  return error;
}
