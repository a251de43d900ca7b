import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { create, type MessageShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor, type ServiceImpl } from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "@sessiond/proto/google/rpc/error_details";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { RateLimitService } from "@sessiond/proto/sessiond/v1/rate_limit_service";
import { type Session, SessionSchema, SessionState } from "@sessiond/proto/sessiond/v1/session";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { onTestFinished } from "vitest";
import { createSessionClient, type SessionClient } from "../client.js";
import { type FieldViolation, SessiondError } from "../error.js";
import type { SessionClientOptions } from "../options.js";
import type { Methods } from "../rpc/methods.js";

export const PROTOCOLS = ["grpc", "connect"] as const;
export type Protocol = (typeof PROTOCOLS)[number];
export type Handlers = Partial<
  ServiceImpl<typeof SessionService> &
    ServiceImpl<typeof LockService> &
    ServiceImpl<typeof RateLimitService>
>;

/** A server on the loopback interface with the answers of a test. Ends with the test. */
export interface SessionServer extends AsyncDisposable {
  readonly baseUrl: string;

  /** The calls that arrived. Counts each attempt. */
  readonly calls: readonly {
    readonly method: string;
    readonly authorization: string | null;
    readonly request: unknown;
  }[];

  /** The requests of the calls of one method. */
  requests<M extends keyof Methods>(method: M): MessageShape<Methods[M]["input"]>[];

  /** Breaks all connections, like a machine that goes down, but still listens. */
  breakConnections(): void;
}

export async function startSessionServer(
  protocol: Protocol,
  handlers: Handlers,
  port = 0,
): Promise<SessionServer> {
  const calls: SessionServer["calls"][number][] = [];
  const record: Interceptor = (next) => async (call) => {
    const authorization = call.header.get("authorization");
    const messages = call.stream ? await collect(call.message) : [call.message];
    calls.push({ method: call.method.localName, authorization, request: messages[0] });
    return next(call.stream ? { ...call, message: createAsyncIterable(messages) } : call);
  };
  const handler = connectNodeAdapter({
    interceptors: [record],
    routes: (router) => {
      router.service(SessionService, handlers);
      router.service(LockService, handlers);
      router.service(RateLimitService, handlers);
    },
  });
  const server = protocol === "grpc" ? http2.createServer(handler) : http.createServer(handler);
  const sockets = new Set<{ destroy(): unknown }>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const breakConnections = () => {
    for (const socket of sockets) socket.destroy();
  };
  const started: SessionServer = {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    requests: <M extends keyof Methods>(method: M) =>
      calls
        .filter((call) => call.method === method)
        .map(({ request }) => request as MessageShape<Methods[M]["input"]>),
    breakConnections,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        breakConnections();
      }),
  };
  onTestFinished(() => started[Symbol.asyncDispose]());
  return started;
}

export interface TestClientOptions {
  readonly protocol?: Protocol;
  readonly token?: SessionClientOptions["token"];
  readonly timeoutMs?: number;
  readonly maxAttempts?: number;
  readonly batching?: boolean;
  readonly nearCache?: SessionClientOptions["nearCache"];
}

/** A client that closes at the end of the test. */
export function connectClient(
  baseUrl: SessionClientOptions["baseUrl"] & {},
  options: TestClientOptions = {},
): SessionClient {
  const client = createSessionClient({ baseUrl, token: "token", ...options });
  onTestFinished(() => client.close());
  return client;
}

/** A server and a client of it, over gRPC by default. Both end with the test. */
export async function startClient(handlers: Handlers, options: TestClientOptions = {}) {
  const server = await startSessionServer(options.protocol ?? "grpc", handlers);
  return { server, client: connectClient(server.baseUrl, options) };
}

/** The error that a call rejects with, which is always a SessiondError. */
export async function rejection(call: Promise<unknown>): Promise<SessiondError> {
  const outcome = await call.then(
    () => new Error("the call was expected to reject"),
    (error: unknown) => error,
  );
  if (outcome instanceof SessiondError) return outcome;
  throw outcome;
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

/** A handler that fails. */
export function throwing(error: () => Error): () => never {
  return () => {
    throw error();
  };
}

export const never = (): Promise<never> => new Promise(() => {});

/** An error as the server sends it. */
export function answer(
  code: Code,
  reason: string,
  details: {
    message?: string;
    domain?: string;
    metadata?: Record<string, string>;
    violations?: FieldViolation[];
    retryAfterMs?: number | undefined;
  } = {},
): ConnectError {
  const { message = "from the server", domain = "sessiond", metadata = {} } = details;
  const error = new ConnectError(message, code, undefined, [
    { desc: ErrorInfoSchema, value: { reason, domain, metadata } },
  ]);
  const { violations: fieldViolations, retryAfterMs } = details;
  if (fieldViolations !== undefined) {
    error.details.push({ desc: BadRequestSchema, value: { fieldViolations } });
  }
  if (retryAfterMs !== undefined) {
    const value = { retryDelay: durationFromMs(retryAfterMs) };
    error.details.push({ desc: RetryInfoSchema, value });
  }
  return error;
}

export const notFound = () =>
  answer(Code.NotFound, "SESSION_NOT_FOUND", { message: "session not found" });
export const storeUnavailable = () => answer(Code.Unavailable, "STORE_UNAVAILABLE");
export const overloaded = (retryAfterMs?: number) =>
  answer(Code.ResourceExhausted, "OVERLOADED", { retryAfterMs });

/** A session as the server sends it. */
export function protoSession(fields: Partial<Omit<Session, "$typeName">> = {}): Session {
  const time = timestampFromMs(1_700_000_000_000);
  const session = create(SessionSchema, {
    id: "session-1",
    userId: "user-1",
    createTime: time,
    authenticateTime: time,
    tokenCreateTime: time,
    lastAccessTime: time,
    expireTime: timestampFromMs(1_700_001_800_000),
    absoluteExpireTime: timestampFromMs(1_700_086_400_000),
    idleTimeout: durationFromMs(1_800_000),
    state: SessionState.ACTIVE,
    etag: "etag-1",
  });
  return Object.assign(session, fields);
}
