import { createRegistry, type DescMethod, type DescService, fromBinary } from "@bufbuild/protobuf";
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
import { type Client as GrpcClient, Metadata, type ServiceError } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema } from "@sessiond/proto/google/rpc/error_details";
import { StatusSchema } from "@sessiond/proto/google/rpc/status";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import type { TestServer } from "./test-server.js";

/** A typed client of the real service. */
export type SessionServiceClient = Client<typeof SessionService>;

type ServerAddresses = Pick<TestServer, "grpcUrl" | "httpUrl">;
type AccessibleServer = ServerAddresses & Partial<Pick<TestServer, "accessToken">>;

/** A protocol that the server speaks, as one kind of client speaks it. */
export interface Protocol {
  readonly name: string;
  readonly open: (server: ServerAddresses) => Transport;
}

const HTTP = { httpVersion: "1.1" } as const;

/** gRPC as the SDK speaks it. */
export const GRPC: Protocol = {
  name: "gRPC",
  open: ({ grpcUrl }) => createGrpcTransport({ baseUrl: grpcUrl }),
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

/** Every protocol that the server speaks. */
export const PROTOCOLS: readonly Protocol[] = [
  GRPC,
  JSON_OVER_HTTP,
  PROTOBUF_OVER_HTTP,
  {
    name: "gRPC-Web",
    open: ({ httpUrl }) => createGrpcWebTransport({ ...HTTP, baseUrl: httpUrl }),
  },
  {
    name: "Connect over HTTP/2",
    open: ({ httpUrl }) => createConnectTransport({ httpVersion: "2", baseUrl: httpUrl }),
  },
  {
    name: "gRPC over the HTTP port",
    open: ({ httpUrl }) => createGrpcTransport({ baseUrl: httpUrl }),
  },
];

/** A client whose calls carry these headers. */
export function sessionClient(transport: Transport, headers: Readonly<Record<string, string>>) {
  return clientOf(SessionService, { open: () => transport, headersOf: () => headers });
}

/**
 * A client whose calls carry an access token, by default the server's own with every
 * permission. It may be made before the server has started: it connects with its
 * first call.
 */
export function clientOver(protocol: Protocol, server: AccessibleServer, token?: string) {
  return clientOf(SessionService, accessTo(protocol, server, token));
}

/** The same for locks. */
export function locksOver(protocol: Protocol, server: AccessibleServer) {
  return clientOf(LockService, accessTo(protocol, server));
}

/** The same for rate limits. */
export function rateLimitsOver(protocol: Protocol, server: AccessibleServer) {
  return clientOf(RateLimitService, accessTo(protocol, server));
}

interface Access {
  readonly open: () => Transport;
  readonly headersOf: () => Readonly<Record<string, string>>;
}

function accessTo(protocol: Protocol, server: AccessibleServer, token?: string): Access {
  const headersOf = () => bearer(token ?? server.accessToken ?? "");
  return { open: () => protocol.open(server), headersOf };
}

function clientOf<S extends DescService>(service: S, { open, headersOf }: Access): Client<S> {
  let transport: Transport | undefined;
  const opened = () => {
    transport ??= open();
    return transport;
  };
  const merged = (header: HeadersInit | undefined) =>
    new Headers({ ...headersOf(), ...Object.fromEntries(new Headers(header)) });
  return createClient(service, {
    unary: (method, signal, timeoutMs, header, ...rest) =>
      opened().unary(method, signal, timeoutMs, merged(header), ...rest),
    stream: (method, signal, timeoutMs, header, ...rest) =>
      opened().stream(method, signal, timeoutMs, merged(header), ...rest),
  });
}

/** The header that carries an access token. */
export function bearer(token: string): { readonly authorization: string } {
  return { authorization: `Bearer ${token}` };
}

/** The path of a method's calls: `/sessiond.v1.SessionService/GetSession`. */
export function pathOf({ parent, name }: DescMethod): string {
  return `/${parent.typeName}/${name}`;
}

/** Makes a unary call with grpc-js, with any bytes as its message. Rejects with a ConnectError. */
export function callWithBytes(
  client: GrpcClient,
  path: string,
  request: Uint8Array,
  { headers = {} }: { readonly headers?: Readonly<Record<string, string>> } = {},
): Promise<Uint8Array> {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  const serialize = (bytes: Uint8Array) => Buffer.from(bytes);
  const deserialize = (bytes: Buffer) => new Uint8Array(bytes);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, serialize, deserialize, request, metadata, (error, response) => {
      if (error) reject(toConnectError(error));
      else if (response) resolve(response);
    });
  });
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
