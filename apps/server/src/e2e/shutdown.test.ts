import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { Agent, get, request } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ConnectRouter } from "@connectrpc/connect";
import { credentials, Client as GrpcClient, Metadata, status } from "@grpc/grpc-js";
import { SqliteSessionStore } from "@sessiond/core/sqlite";
import { freePort } from "@sessiond/core/testing";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { HealthImplementation } from "grpc-health-check";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { SERVICES } from "../services/services.js";
import { HealthClient } from "../testing/health-client.js";
import { holdKeys } from "../testing/held-issuer.js";
import { failureOf } from "../testing/outcome.js";
import { bearer, clientOver, GRPC, JSON_OVER_HTTP, PROTOCOLS } from "../testing/protocols.js";
import { startTestServer } from "../testing/test-server.js";
import { startGrpcServer } from "../transport/grpc-server.js";
import { startHttpServer } from "../transport/http-server.js";
import { Readiness } from "../transport/readiness.js";

/** Well below the grace of 10 s: what takes this long was not waiting for it. */
const SOON_MS = 5_000;
const SHORT_GRACE_MS = 200;
const NEVER = new AbortController().signal;
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const COUNT_SESSIONS = [
  SessionService.method.countSessions,
  undefined,
  undefined,
  undefined,
  {},
  undefined,
] as const;

describe("a server that is told to stop", () => {
  test.each([GRPC, JSON_OVER_HTTP])("finishes a call under way over $name", async (protocol) => {
    await using server = await startTestServer();
    const keys = holdKeys(server.issuer);
    const call = clientOver(protocol, server).createSession({ userId: "ann" });
    await keys.asked();
    const stopped = server.stop();
    // On both ports, while the one still works on the call.
    for (const url of [server.grpcUrl, server.httpUrl]) {
      await expect(connectTo(url)).rejects.toMatchObject({ code: "ECONNREFUSED" });
    }
    keys.release();
    expect((await call).session?.userId).toBe("ann");
    await expectSoon(stopped);
  });

  test("does not wait for the next request on a connection that it tells to close", async () => {
    await using server = await startTestServer();
    const keys = holdKeys(server.issuer);
    const agent = new Agent({ keepAlive: true });
    const headers = { "content-type": "application/json", ...bearer(server.accessToken) };
    const url = `${server.httpUrl}/sessiond.v1.SessionService/CountSessions`;
    const call = request(url, { method: "POST", agent, headers }).end("{}");
    await keys.asked();
    const stopped = server.stop();
    keys.release();
    const [response] = await once(call, "response");
    expect(response.resume()).toMatchObject({ statusCode: 200, headers: { connection: "close" } });
    await expectSoon(stopped);
    agent.destroy();
  });

  test("does not wait for connections on which nothing is under way", async () => {
    await using server = await startTestServer();
    for (const protocol of PROTOCOLS) await clientOver(protocol, server).countSessions({});
    const agent = new Agent({ keepAlive: true });
    for (const path of ["/healthz", "/readyz"]) {
      const [response] = await once(get(server.httpUrl + path, { agent }), "response");
      await once(response.resume(), "end");
    }
    const silent = await Promise.all([connectTo(server.grpcUrl), connectTo(server.httpUrl)]);
    for (const socket of silent) socket.resume();
    await expectSoon(server.stop());
    agent.destroy();
  });

  test("tells so to whoever watches its health, and does not wait for them", async () => {
    await using server = await startTestServer();
    using health = new HealthClient(server.grpcAddress);
    const names = ["", ...SERVICES.map(({ typeName }) => typeName)];
    const watches = names.map((name) => health.watch(name));
    await Promise.all(watches.map((watch) => watch.heard(1)));
    await expectSoon(server.stop());
    for (const watch of watches) {
      expect(await watch.ended).toBe(status.UNAVAILABLE);
      expect(watch.statuses).toEqual(["SERVING", "NOT_SERVING"]);
    }
  });

  test("tells so before it refuses connections", async () => {
    await using server = await startTestServer();
    using health = new HealthClient(server.grpcAddress);
    const watch = health.watch();
    await watch.heard(1);
    const keys = holdKeys(server.issuer);
    const call = clientOver(GRPC, server).countSessions({});
    await keys.asked();
    const stopped = server.stop();
    await watch.heard(2);
    expect(watch.statuses).toEqual(["SERVING", "NOT_SERVING"]);
    keys.release();
    await Promise.all([call, stopped]);
    const messages = server.logs.map(({ msg }) => msg);
    expect(messages.indexOf("stopping")).toBeLessThan(messages.indexOf("call"));
  });

  test("does not wait for who has its contract open", async () => {
    await using server = await startTestServer();
    const client = new GrpcClient(server.grpcAddress, credentials.createInsecure());
    const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const identity = (bytes: Buffer) => bytes;
    const call = client.makeBidiStreamRequest(path, identity, identity, new Metadata());
    const ended = new Promise((resolve) => call.on("error", ({ code }) => resolve(code)));
    // A request to list the services.
    call.write(Buffer.from([0x3a, 0]));
    await once(call, "data");
    await expectSoon(server.stop());
    expect(await ended).toBe(status.UNAVAILABLE);
    client.close();
  });

  test("can be told twice", async () => {
    await using server = await startTestServer();
    await Promise.all([server.stop(), server.stop()]);
    await server.stop();
    expect(await failureOf(clientOver(GRPC, server).countSessions({}))).toMatchObject({
      code: "UNAVAILABLE",
    });
  });
});

describe("a port whose grace is over", () => {
  test("gives up a gRPC call that does not end, and who neither reads nor closes", async () => {
    const { routes, underWay } = endless();
    const server = await startGrpcServer({
      address: LOOPBACK,
      routes,
      interceptors: [],
      health: new HealthImplementation(),
      reflection: false,
      shutdownSignal: NEVER,
    });
    const addresses = addressesOf(server.address.port);
    const dead = await connectTo(addresses.grpcUrl);
    const call = GRPC.open(addresses).unary(...COUNT_SESSIONS);
    const failed = expect(call).rejects.toThrow();
    await underWay;
    await expectSoon(server.stop(SHORT_GRACE_MS));
    await failed;
    dead.destroy();
  });

  test("gives up an HTTP request that does not end", async () => {
    const { routes, underWay } = endless();
    const store = await SqliteSessionStore.open({ path: ":memory:" });
    const server = await startHttpServer({
      address: LOOPBACK,
      routes,
      interceptors: [],
      requestGate: async () => undefined,
      readiness: new Readiness(store, pino({ level: "silent" })),
      shutdownSignal: NEVER,
    });
    const call = JSON_OVER_HTTP.open(addressesOf(server.address.port)).unary(...COUNT_SESSIONS);
    const failed = expect(call).rejects.toThrow();
    await underWay;
    await expectSoon(server.stop(SHORT_GRACE_MS));
    await failed;
    await store.close();
  });
});

describe("a server that cannot start", () => {
  test.each([
    ["gRPC", "grpcAddress"],
    ["HTTP", "httpAddress"],
  ] as const)("for its %s port is taken says so, and leaves nothing open", async (_, taken) => {
    await using opened = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "sessiond-start-"));
    opened.defer(() => rm(directory, { recursive: true }));
    const blocker = createServer().listen(0, LOOPBACK.host);
    opened.defer(() => void blocker.close());
    await once(blocker, "listening");
    const { port } = blocker.address() as AddressInfo;
    const other = taken === "grpcAddress" ? "httpAddress" : "grpcAddress";
    const otherPort = await freePort();

    const start = startTestServer({
      store: `sqlite:${join(directory, "sessions.db")}`,
      config: { [taken]: { ...LOOPBACK, port }, [other]: { ...LOOPBACK, port: otherPort } },
    });
    await expect(start).rejects.toThrow(`cannot listen on 127.0.0.1:${port}`);
    await expect(connectTo(`http://127.0.0.1:${otherPort}`)).rejects.toMatchObject({
      code: "ECONNREFUSED",
    });
    // Whoever closes the file last takes its journal away.
    expect(await readdir(directory)).toEqual(["sessions.db"]);
  });

  test("for its store cannot be opened says why", async () => {
    await expect(startTestServer({ store: "sqlite:/dev/null/sessions.db" })).rejects.toThrow(
      "cannot open /dev/null/sessions.db",
    );
  });
});

/** Routes of which one method never answers, and when it was first called. */
function endless() {
  let onCall = () => {};
  const underWay = new Promise<void>((resolve) => {
    onCall = resolve;
  });
  const countSessions = () => {
    onCall();
    return new Promise<never>(() => {});
  };
  const routes = (router: ConnectRouter) => void router.service(SessionService, { countSessions });
  return { routes, underWay };
}

function addressesOf(port: number) {
  const address = `127.0.0.1:${port}`;
  return { grpcAddress: address, grpcUrl: `http://${address}`, httpUrl: `http://${address}` };
}

async function connectTo(url: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), LOOPBACK.host);
  await once(socket, "connect");
  return socket;
}

async function expectSoon(task: Promise<unknown>): Promise<void> {
  const startMs = performance.now();
  await task;
  expect(performance.now() - startMs).toBeLessThan(SOON_MS);
}
