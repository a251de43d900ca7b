import { once } from "node:events";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type ClientSessionOptions,
  connect,
  constants,
} from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { describe, expect, onTestFinished, test } from "vitest";
import { DEFAULT_EDGE_LIMITS, type EdgeLimits } from "../edge/edge-limits.js";
import { bearer, pathOf } from "../testing/protocols.js";
import { startTestServer, type TestServer } from "../testing/test-server.js";

const COUNT = pathOf(SessionService.method.countSessions);
const WATCH = pathOf(SessionService.method.watchSessions);
const CHECK_HEALTH = "/grpc.health.v1.Health/Check";

const KIBIBYTE = 1024;
const MEBIBYTE = 1024 * KIBIBYTE;
const EMPTY = Buffer.alloc(5);
/** How a message begins that is longer than any server takes. */
const TOO_LONG = Buffer.from([0, 0xff, 0xff, 0xff, 0xff]);

const PORTS = ["gRPC", "HTTP"] as const;
type PortName = (typeof PORTS)[number];

async function serverWith(limits: Partial<EdgeLimits> = {}): Promise<TestServer> {
  const server = await startTestServer({ config: { edge: { ...DEFAULT_EDGE_LIMITS, ...limits } } });
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

function openSession(server: TestServer, port: PortName, options: ClientSessionOptions = {}) {
  const session = connect(port === "gRPC" ? server.grpcUrl : server.httpUrl, options);
  onTestFinished(() => session.destroy());
  return session.on("error", () => {});
}

/** Begins a gRPC call. */
function call(
  session: ClientHttp2Session,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): ClientHttp2Stream {
  const grpc = { "content-type": "application/grpc", te: "trailers", ...headers };
  return session.request({ ":method": "POST", ":path": path, ...grpc }).on("error", () => {});
}

/** Begins a call that stays open, and answers its headers. */
async function watch(session: ClientHttp2Session, token: string) {
  const stream = call(session, WATCH, bearer(token)).resume();
  stream.end(EMPTY);
  const [headers] = await once(stream, "response");
  return { stream, headers };
}

describe.each(PORTS)("on the %s port", (port) => {
  test("one connection gets half of all streams, and other clients find room", async () => {
    const server = await serverWith({ maxStreams: 8 });
    const greedy = openSession(server, port);
    const watches = [];
    for (let i = 0; i < 6; i++) watches.push(await watch(greedy, server.accessToken));
    const refused = watches.filter(({ headers }) => headers["grpc-status"] === "8");
    expect(refused).toHaveLength(2);
    const { headers } = await watch(openSession(server, port), server.accessToken);
    expect(headers["grpc-status"]).toBeUndefined();
  });

  test("a connection has no more streams at once than it may", async () => {
    const server = await serverWith({ maxStreamsPerConnection: 3 });
    const session = openSession(server, port);
    for (let i = 0; i < 3; i++) await watch(session, server.accessToken);
    const fourth = watch(session, server.accessToken);
    expect(await Promise.race([fourth, sleep(500, "waits")])).toBe("waits");
  });

  test("messages inflate to no more than there is room for", async () => {
    const server = await serverWith({ maxBufferedBytes: 4 * MEBIBYTE });
    const message = gzipSync(Buffer.alloc(3 * MEBIBYTE));
    const head = Buffer.from([1, 0, 0, 0, 0]);
    head.writeUInt32BE(message.length, 1);
    const gzip = { "grpc-encoding": "gzip", ...bearer(server.accessToken) };
    const stream = call(openSession(server, port), COUNT, gzip).resume();
    const answer = once(stream, "response");
    const trailers = once(stream, "trailers").catch(() => [{}]);
    stream.end(Buffer.concat([head, message]));
    const [headers] = await answer;
    const status = headers["grpc-message"] ?? (await trailers)[0]?.["grpc-message"];
    expect(status).toMatch(/too%20much%20memory/);
  });

  test("a request that goes on after its answer is reset as complete, and its connection goes on", async () => {
    const server = await serverWith({ maxMessageBytes: 64 * KIBIBYTE });
    const session = openSession(server, port);
    const startMs = performance.now();
    const stream = call(session, COUNT, bearer(server.accessToken)).resume();
    stream.write(Buffer.concat([TOO_LONG, Buffer.alloc(100 * KIBIBYTE)]));
    await once(stream, "close");
    expect(stream.rstCode).toBe(constants.NGHTTP2_NO_ERROR);
    expect(performance.now() - startMs).toBeLessThan(DEFAULT_EDGE_LIMITS.requestTimeoutMs);
    expect((await watch(session, server.accessToken)).headers[":status"]).toBe(200);
  });

  test("a connection has few streams until its caller is known", async () => {
    const server = await serverWith();
    const session = openSession(server, port);
    const [strangers] = await once(session, "remoteSettings");
    expect(strangers.maxConcurrentStreams).toBe(100);
    const changed = once(session, "remoteSettings");
    await watch(session, server.accessToken);
    expect((await changed)[0].maxConcurrentStreams).toBe(1_000);
  });
});

test("of a request that goes on after its answer, the gRPC port reads little", async () => {
  const server = await serverWith();
  const stream = call(openSession(server, "gRPC"), CHECK_HEALTH).resume();
  const part = Buffer.alloc(16 * KIBIBYTE);
  let takenBytes = 0;
  const send = () => {
    if (stream.destroyed) return;
    stream.write(part, (error) => {
      if (error) return;
      takenBytes += part.length;
      send();
    });
  };
  stream.write(TOO_LONG);
  send();
  await once(stream, "close");
  expect(takenBytes).toBeLessThan(MEBIBYTE);
});
