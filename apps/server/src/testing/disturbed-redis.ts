import {
  type RedisServer,
  startRedisServer,
  startTcpFaultProxy,
  type TcpFaultProxy,
} from "@sessiond/core/testing";
import { afterEach, beforeEach } from "vitest";
import {
  clientOver,
  GRPC,
  JSON_OVER_HTTP,
  PROTOBUF_OVER_HTTP,
  type SessionServiceClient,
} from "./protocols.js";
import { startTestServer, type TestServer, type TestServerOptions } from "./test-server.js";

/** A server on a Redis that can stop, beyond a network that can fail. */
export interface DisturbedRedis {
  readonly redis: RedisServer;
  readonly network: TcpFaultProxy;
  readonly server: TestServer;
  /** Clients over gRPC, JSON and Connect, already connected. */
  readonly clients: readonly [SessionServiceClient, ...SessionServiceClient[]];
  /** Goes round the clients. */
  clientAt(index: number): SessionServiceClient;
}

/** All of it new for each test. */
export function useDisturbedRedis(options: TestServerOptions = {}): DisturbedRedis {
  let opened: AsyncDisposableStack;
  const disturbed = {} as DisturbedRedis;
  beforeEach(async () => {
    opened = new AsyncDisposableStack();
    const redis = opened.use(await startRedisServer());
    const { port } = redis;
    const network = opened.use(await startTcpFaultProxy({ host: "127.0.0.1", port }));
    const store = `redis://127.0.0.1:${network.port}`;
    const server = opened.use(await startTestServer({ ...options, store }));
    opened.defer(() => {
      redis.resume();
      network.pass();
    });
    const grpc = clientOver(GRPC, server);
    const json = clientOver(JSON_OVER_HTTP, server);
    const clients = [grpc, json, clientOver(PROTOBUF_OVER_HTTP, server)] as const;
    await Promise.all(clients.map((client) => client.countSessions({})));
    const clientAt = (index: number) => clients[index % clients.length] ?? grpc;
    Object.assign(disturbed, { redis, network, server, clients, clientAt });
  });
  afterEach(() => opened.disposeAsync());
  return disturbed;
}
