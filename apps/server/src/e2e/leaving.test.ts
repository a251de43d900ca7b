import { once } from "node:events";
import { Agent, get } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createSessionClient } from "@sessiond/client";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { expect, test } from "vitest";
import { DEFAULT_EDGE_LIMITS } from "../edge/edge-limits.js";
import { bearer, clientOver, GRPC, JSON_OVER_HTTP, pathOf } from "../testing/protocols.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";
import { within } from "../testing/within.js";

const { countSessions } = SessionService.method;
/** What clients get to read answers, and some time for a busy machine. */
const STOP_MS = 4_000;
const DELAY_MS = 1_000;
/** Old enough that no call meets the end of two connections, one after the other. */
const AGEING = { edge: { ...DEFAULT_EDGE_LIMITS, maxConnectionAgeMs: 500 } };

test("a half-sent request of any kind does not hold up the end of a server", async () => {
  await using server = await startTestServer();
  const length = { "content-length": "100", "content-type": "application/json" };
  const headers = Object.entries({ host: "x", ...length, ...bearer(server.accessToken) });
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const begun = `POST ${pathOf(countSessions)} HTTP/1.1\r\n`;
  const halves = ["P", "PRI * HTTP/2.0\r\n", begun, begun + lines, `${begun}${lines}\r\n{`];
  const sockets = await Promise.all(halves.map((half) => sendTo(server.httpUrl, half)));
  for (const url of [server.grpcUrl, server.httpUrl]) {
    const session = connectHttp2(url).on("error", () => {});
    const path = { ":method": "POST", ":path": pathOf(countSessions) };
    const type = { "content-type": "application/grpc+proto", te: "trailers" };
    const stream = session.request({ ...path, ...type, ...bearer(server.accessToken) });
    stream.on("error", () => {}).write(Buffer.from([0, 0, 0, 0, 100, 1]));
    await new Promise<void>((resolve) => session.ping(() => resolve()));
  }
  // The server must have read them, or it would close the connections as idle.
  await sleep(300);
  await within(STOP_MS, server.stop());
  for (const socket of sockets) socket.destroy();
});

test("a server that was told to stop goes on serving until load balancers know", async () => {
  await using server = await startTestServer({ config: { shutdownDelayMs: DELAY_MS } });
  const stopped = server.stop();
  const startMs = performance.now();
  const agent = new Agent({ keepAlive: true });
  const [ready] = await once(get(`${server.httpUrl}/readyz`, { agent }), "response");
  // A client that keeps its connection would meet its end with the delay's.
  expect(ready.resume()).toMatchObject({ statusCode: 503, headers: { connection: "close" } });
  for (const protocol of [GRPC, JSON_OVER_HTTP])
    await clientOver(protocol, server).countSessions({});
  expect(performance.now() - startMs).toBeLessThan(DELAY_MS);
  await stopped;
  expect(performance.now() - startMs).toBeGreaterThan(DELAY_MS - 50);
  await expect(clientOver(GRPC, server).countSessions({})).rejects.toThrow();
});

test.each(["grpc", "connect"] as const)(
  "clients over %s leave connections that are old, and lose neither a call nor an event",
  async (protocol) => {
    await using server = await startTestServer({ config: AGEING });
    const baseUrl = protocol === "grpc" ? server.grpcUrl : server.httpUrl;
    await expectNoLoss(server, protocol, baseUrl);
    expect(watchesOf(server).length).toBeGreaterThan(1);
  },
);

test("clients of gRPC leave old connections of the HTTP port, too", async () => {
  await using server = await startTestServer({ config: AGEING });
  await expectNoLoss(server, "grpc", server.httpUrl);
});

test("an old connection takes no new call, and finishes those that it has", async () => {
  await using server = await startTestServer({ config: AGEING });
  for (const url of [server.grpcUrl, server.httpUrl]) {
    const session = connectHttp2(url).on("error", () => {});
    const type = { "content-type": "application/grpc+proto", te: "trailers" };
    const path = { ":method": "POST", ":path": pathOf(countSessions) };
    const stream = session.request({ ...path, ...type, ...bearer(server.accessToken) });
    await once(session, "goaway");
    stream.end(Buffer.alloc(5));
    const [headers] = await once(stream, "response");
    expect(headers[":status"]).toBe(200);
    stream.resume();
    await once(session, "close");
  }
  const agent = new Agent({ keepAlive: true });
  const connections: (string | undefined)[] = [];
  for (let i = 0; i < 2; i++) {
    const [response] = await once(get(`${server.httpUrl}/healthz`, { agent }), "response");
    connections.push(response.headers.connection);
    response.resume();
    await sleep(600);
  }
  expect(connections).toEqual(["keep-alive", "close"]);
});

/** Calls for some seconds, and watches what the calls change. */
async function expectNoLoss(server: TestServer, protocol: "grpc" | "connect", baseUrl: string) {
  const { accessToken: token } = server;
  using client = createSessionClient({ baseUrl, protocol, token, maxAttempts: 2 });
  const told: string[] = [];
  const watch = client.watchSessions();
  await watch.next();
  const watching = (async () => {
    for await (const message of watch) {
      if (message.type === "reset") throw new Error(message.reason);
      if (message.type === "events") told.push(...message.events.map(({ sessionId }) => sessionId));
    }
  })();
  const created: string[] = [];
  const endMs = performance.now() + 3_000;
  const call = async (caller: number) => {
    while (performance.now() < endMs) {
      const userId = `user-${caller}-${created.length}`;
      const { session } = await client.createSession({ userId });
      created.push(session.id);
      await client.rateLimits.check("burst", session.id);
    }
  };
  await Promise.all(Array.from({ length: 8 }, (_, caller) => call(caller)));
  await expect.poll(() => told.length, { timeout: 5_000 }).toBeGreaterThanOrEqual(created.length);
  expect(told.toSorted()).toEqual(created.toSorted());
  client.close();
  await expect(watching).rejects.toMatchObject({ reason: "CANCELED" });
}

function watchesOf({ logs }: TestServer) {
  return logs.filter(
    ({ msg, method }) => msg === "call" && String(method).includes("WatchSessions"),
  );
}

async function sendTo(url: string, text: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1").on("error", () => {});
  await once(socket, "connect");
  socket.write(text);
  return socket;
}
