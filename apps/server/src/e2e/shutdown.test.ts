import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { Agent, get, request } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { ConnectRouter } from "@connectrpc/connect";
import { credentials, Client as GrpcClient, Metadata, status } from "@grpc/grpc-js";
import { SqliteSessionStore } from "@sessiond/core/sqlite";
import { freePort } from "@sessiond/core/testing";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { HealthImplementation } from "grpc-health-check";
import { describe, expect, test } from "vitest";
import type { Caller } from "../auth/caller.js";
import { Edge } from "../edge/edge.js";
import { DEFAULT_EDGE_LIMITS } from "../edge/edge-limits.js";
import { Audit } from "../observability/audit.js";
import { Metrics } from "../observability/metrics.js";
import { PortMetrics } from "../observability/rpc-metrics.js";
import { KNOWN_PERMISSIONS } from "../services/permissions.js";
import { SERVICES } from "../services/services.js";
import { HealthClient } from "../testing/health-client.js";
import { holdKeys } from "../testing/held-issuer.js";
import { inlineVerifier } from "../testing/inline-verifier.js";
import { failureOf } from "../testing/outcome.js";
import {
  bearer,
  clientOver,
  GRPC,
  JSON_OVER_HTTP,
  PROTOCOLS,
  pathOf,
} from "../testing/protocols.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";
import { recordLog, startTestServer } from "../testing/test-server.js";
import { within } from "../testing/within.js";
import { GrpcGate } from "../transport/grpc-gate.js";
import { startGrpcServer } from "../transport/grpc-server.js";
import { startHttpServer } from "../transport/http-server.js";
import { Readiness } from "../transport/readiness.js";
import { RequestGate } from "../transport/request-gate.js";

const ANYBODY: Caller = {
  issuer: "https://issuer.test",
  subject: "anybody",
  namespace: "",
  permissions: new Set(KNOWN_PERMISSIONS),
};
/** Well below the grace of 10 s: a server that takes no longer was not waiting for it. */
const SOON_MS = 5_000;
const SHORT_GRACE_MS = 200;
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const { countSessions } = SessionService.method;

describe("a server that is told to stop", () => {
  test.each([GRPC, JSON_OVER_HTTP])("finishes a call under way over $name", async (protocol) => {
    await using server = await startTestServer();
    using health = new HealthClient(server.grpcAddress);
    const watch = health.watch();
    await watch.heard(1);
    const keys = holdKeys(server.issuer);
    const call = clientOver(protocol, server).createSession({ userId: "ann" });
    await keys.asked();
    const stopped = within(SOON_MS, server.stop());
    // Load balancers are told before connections are refused.
    await watch.heard(2);
    expect(watch.statuses).toEqual(["SERVING", "NOT_SERVING"]);
    // On both ports, while the one still works on the call.
    for (const url of [server.grpcUrl, server.httpUrl]) await expectRefused(url);
    keys.release();
    expect((await call).session?.userId).toBe("ann");
    await stopped;
    const messages = server.logs.map(({ msg }) => msg);
    expect(messages.indexOf("stopping")).toBeLessThan(messages.indexOf("call"));
  });

  test("does not wait for the next request on a connection that it tells to close", async () => {
    await using server = await startTestServer();
    const keys = holdKeys(server.issuer);
    const agent = new Agent({ keepAlive: true });
    const headers = { "content-type": "application/json", ...bearer(server.accessToken) };
    const url = server.httpUrl + pathOf(countSessions);
    const call = request(url, { method: "POST", agent, headers }).end("{}");
    await keys.asked();
    const stopped = within(SOON_MS, server.stop());
    keys.release();
    const [response] = await once(call, "response");
    expect(response.resume()).toMatchObject({ statusCode: 200, headers: { connection: "close" } });
    await stopped;
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
    await within(SOON_MS, server.stop());
    agent.destroy();
  });

  test("tells so to everyone who watches its health, and does not wait for them", async () => {
    await using server = await startTestServer();
    using health = new HealthClient(server.grpcAddress);
    const names = ["", ...SERVICES.map(({ typeName }) => typeName)];
    const watches = names.map((name) => health.watch(name));
    await Promise.all(watches.map((watch) => watch.heard(1)));
    await within(SOON_MS, server.stop());
    for (const watch of watches) {
      expect(await watch.ended).toBe(status.UNAVAILABLE);
      expect(watch.statuses).toEqual(["SERVING", "NOT_SERVING"]);
    }
  });

  test("does not wait for a client that has its contract open", async () => {
    await using server = await startTestServer();
    const client = new GrpcClient(server.grpcAddress, credentials.createInsecure());
    const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const identity = (bytes: Buffer) => bytes;
    const call = client.makeBidiStreamRequest(path, identity, identity, new Metadata());
    const ended = new Promise((resolve) => call.on("error", ({ code }) => resolve(code)));
    // A request to list the services.
    call.write(Buffer.from([0x3a, 0]));
    await once(call, "data");
    await within(SOON_MS, server.stop());
    expect(await ended).toBe(status.UNAVAILABLE);
    client.close();
  });

  test("can be told twice", async () => {
    await using server = await startTestServer();
    await Promise.all([server.stop(), server.stop()]);
    await server.stop();
    const call = clientOver(GRPC, server).countSessions({});
    expect(await failureOf(call)).toMatchObject({ code: "UNAVAILABLE" });
  });
});

test.each([GRPC, JSON_OVER_HTTP])(
  "a port whose grace is over gives up a call over $name that does not end, and a silent client",
  async (protocol) => {
    const underWay = Promise.withResolvers<void>();
    const endless = () => {
      underWay.resolve();
      return new Promise<never>(() => {});
    };
    const store = await SqliteSessionStore.open({ path: ":memory:" });
    using edge = new Edge(DEFAULT_EDGE_LIMITS);
    const start = protocol === GRPC ? startGrpcServer : startHttpServer;
    const server = await start({
      address: LOOPBACK,
      routes: (router: ConnectRouter) =>
        void router.service(SessionService, { countSessions: endless }),
      interceptors: [],
      requestGate: new RequestGate({
        verifier: { ...inlineVerifier(), verify: () => ANYBODY },
        logger: recordLog().logger,
        audit: new Audit(undefined, new Metrics()),
        metrics: new PortMetrics(new Metrics(), "http"),
      }),
      corsOrigins: [],
      logger: recordLog().logger,
      edge,
      onAcceptError: () => {},
      gate: new GrpcGate({
        edge,
        verifier: { ...inlineVerifier(), verify: () => ANYBODY },
        logger: recordLog().logger,
        audit: new Audit(undefined, new Metrics()),
        metrics: new PortMetrics(new Metrics(), "grpc"),
      }),
      readiness: new Readiness(store, inlineVerifier(), recordLog().logger),
      health: new HealthImplementation(),
      portMetrics: new PortMetrics(new Metrics(), "grpc"),
      reflection: false,
      shutdownSignal: new AbortController().signal,
    });
    const url = `http://127.0.0.1:${server.address.port}`;
    const silent = await connectTo(url);
    const transport = protocol.open({ grpcUrl: url, httpUrl: url });
    const call = transport.unary(countSessions, undefined, undefined, bearer("any"), {}, undefined);
    const failed = expect(call).rejects.toThrow();
    await underWay.promise;
    await within(SOON_MS, server.stop(SHORT_GRACE_MS));
    await failed;
    silent.destroy();
    await store.close();
  },
);

describe("a server that cannot start", () => {
  test.each([
    ["gRPC", "grpcAddress", "httpAddress"],
    ["HTTP", "httpAddress", "grpcAddress"],
  ] as const)(
    "for its %s port is taken says so, and leaves nothing open",
    async (_, taken, other) => {
      await using directory = await temporaryDirectory();
      await using blocker = createServer().listen(0, LOOPBACK.host);
      await once(blocker, "listening");
      const { port } = blocker.address() as AddressInfo;
      const otherPort = await freePort();
      const start = startTestServer({
        store: `sqlite:${join(directory.path, "sessions.db")}`,
        config: { [taken]: { ...LOOPBACK, port }, [other]: { ...LOOPBACK, port: otherPort } },
      });
      await expect(start).rejects.toThrow(`cannot listen on 127.0.0.1:${port}`);
      await expectRefused(`http://127.0.0.1:${otherPort}`);
      // The last process to close the file takes its journal away.
      expect(await readdir(directory.path)).toEqual(["sessions.db", "sessions.db-reserve"]);
    },
  );

  test("for its store cannot be opened says why", async () => {
    await expect(startTestServer({ store: "sqlite:/dev/null/sessions.db" })).rejects.toThrow(
      "cannot open /dev/null/sessions.db",
    );
  });
});

async function connectTo(url: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), LOOPBACK.host);
  await once(socket, "connect");
  return socket;
}

/**
 * A connection is reset if it comes just when the port closes, which is a moment after the server says
 * that it stops.
 */
async function expectRefused(url: string): Promise<void> {
  const outcome = async () => {
    try {
      (await connectTo(url)).destroy();
      return "connected";
    } catch (error) {
      return (error as NodeJS.ErrnoException).code;
    }
  };
  await expect.poll(outcome, { timeout: SOON_MS }).toMatch(/^ECONN(REFUSED|RESET)$/);
}
