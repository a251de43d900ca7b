import * as http from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor, type ServiceImpl } from "@connectrpc/connect";
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

export type Protocol = "grpc" | "connect";
export type Handlers = Partial<
  ServiceImpl<typeof SessionService> &
    ServiceImpl<typeof LockService> &
    ServiceImpl<typeof RateLimitService>
>;

/** A server on the loopback interface whose answers a test decides. */
export interface SessionServer extends AsyncDisposable {
  readonly baseUrl: string;

  /** The calls that arrived, each attempt counted. */
  readonly calls: readonly ReceivedCall[];

  /** Breaks all connections, as when the machine goes down, but keeps listening. */
  breakConnections(): void;
}

export interface ReceivedCall {
  readonly method: string;
  readonly authorization: string | null;
}

export async function startSessionServer(
  protocol: Protocol,
  handlers: Handlers,
  port = 0,
): Promise<SessionServer> {
  const calls: ReceivedCall[] = [];
  const record: Interceptor = (next) => (request) => {
    const authorization = request.header.get("authorization");
    calls.push({ method: request.method.name, authorization });
    return next(request);
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
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const address = server.address() as AddressInfo;
  const breakConnections = () => {
    for (const socket of sockets) {
      socket.destroy();
    }
  };
  return {
    baseUrl: `http://127.0.0.1:${address.port}`,
    calls,
    breakConnections,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        breakConnections();
      }),
  };
}

/** What goes with an error, besides its reason. */
export interface AnswerDetails {
  readonly message?: string;
  readonly domain?: string;
  readonly metadata?: Record<string, string>;
  readonly violations?: readonly { field: string; description: string }[];
  readonly retryAfterMs?: number;
}

/** An error as the server sends it. */
export function answer(code: Code, reason: string, details: AnswerDetails = {}): ConnectError {
  const { message = "from the server", domain = "sessiond", metadata = {} } = details;
  const error = new ConnectError(message, code, undefined, [
    { desc: ErrorInfoSchema, value: { reason, domain, metadata } },
  ]);
  if (details.violations !== undefined) {
    const value = { fieldViolations: [...details.violations] };
    error.details.push({ desc: BadRequestSchema, value });
  }
  if (details.retryAfterMs !== undefined) {
    const seconds = Math.floor(details.retryAfterMs / 1000);
    const nanos = (details.retryAfterMs % 1000) * 1_000_000;
    const retryDelay = { seconds: BigInt(seconds), nanos };
    error.details.push({ desc: RetryInfoSchema, value: { retryDelay } });
  }
  return error;
}

export const notFound = () =>
  answer(Code.NotFound, "SESSION_NOT_FOUND", { message: "session not found" });
export const storeUnavailable = () => answer(Code.Unavailable, "STORE_UNAVAILABLE");
export const overloaded = (retryAfterMs?: number) =>
  answer(Code.ResourceExhausted, "OVERLOADED", retryAfterMs === undefined ? {} : { retryAfterMs });

/** A session as the server sends it. */
export function wireSession(fields: Partial<Omit<Session, "$typeName">> = {}): Session {
  const time = timestampFromMs(1_700_000_000_000);
  const session = create(SessionSchema, {
    id: "session-1",
    userId: "user-1",
    createTime: time,
    authenticateTime: time,
    lastAccessTime: time,
    expireTime: timestampFromMs(1_700_001_800_000),
    absoluteExpireTime: timestampFromMs(1_700_086_400_000),
    idleTimeout: durationFromMs(1_800_000),
    state: SessionState.ACTIVE,
    etag: "etag-1",
  });
  return Object.assign(session, fields);
}
