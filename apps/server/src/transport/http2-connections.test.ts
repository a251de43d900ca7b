import { once } from "node:events";
import { createServer, type Server } from "node:http";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from "node:http2";
import { type AddressInfo, connect } from "node:net";
import { text } from "node:stream/consumers";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { Edge } from "../edge/edge.js";
import { DEFAULT_EDGE_LIMITS } from "../edge/edge-limits.js";
import { guardConnections } from "./guard-connections.js";
import { Http2Connections } from "./http2-connections.js";

const REQUEST_TIMEOUT_MS = 300;
/** More than a client takes that has room for nothing. */
const MUCH = "x".repeat(1_000);
/** Every HTTP/2 connection begins with it, and a SETTINGS frame (RFC 9113, 3.4). */
const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/** How the SETTINGS frame of the server begins, after its length. */
const SETTINGS = "\x04\0\0\0\0\0";
const HTTP1_REQUEST = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

let server: Server;
let edge: Edge;
let http2: Http2Connections;
let port: number;

beforeAll(async () => {
  server = createServer((request, response) => response.end(`HTTP/${request.httpVersion}`));
  edge = new Edge({ ...DEFAULT_EDGE_LIMITS, requestTimeoutMs: REQUEST_TIMEOUT_MS });
  const serve = async (request: Http2ServerRequest, response: Http2ServerResponse) => {
    const body = await text(request).catch(() => "");
    if (request.url === "/later") await sleep(2 * REQUEST_TIMEOUT_MS);
    response.end(`HTTP/${request.httpVersion}${body}${request.url === "/much" ? MUCH : ""}`);
  };
  http2 = new Http2Connections(serve, edge);
  http2.takeFrom(server);
  guardConnections(server, edge, () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  port = (server.address() as AddressInfo).port;
});
afterAll(() => {
  edge[Symbol.dispose]();
  http2.destroy();
  server.close();
});

function openHttp2(settings = {}): ClientHttp2Session {
  const session = connectHttp2(`http://127.0.0.1:${port}`, { settings });
  onTestFinished(() => session.destroy());
  return session;
}

/** With which error code of HTTP/2 a request ended. */
async function endOf(stream: ClientHttp2Stream): Promise<number> {
  stream.on("error", () => {});
  await once(stream.resume(), "close");
  return stream.rstCode ?? 0;
}

test("one port answers both versions of HTTP, in the one that the client speaks", async () => {
  const session = openHttp2();
  expect(await text(session.request({ ":path": "/" }))).toBe("HTTP/2.0");
  // Two of these begin like HTTP/2 does.
  for (const method of ["GET", "PUT", "PROPFIND"]) {
    const response = await fetch(`http://127.0.0.1:${port}/`, { method });
    expect(await response.text()).toBe("HTTP/1.1");
  }
});

test.each([
  ["HTTP/1.1", HTTP1_REQUEST, "HTTP/1.1 200"],
  ["HTTP/2", PREFACE, SETTINGS],
])("a client may send its %s a byte at a time", async (_, request, answer) => {
  const socket = connect(port, "127.0.0.1").setNoDelay().setEncoding("latin1");
  for (const byte of request) {
    socket.write(byte, "latin1");
    await setImmediate();
  }
  expect((await once(socket, "data"))[0]).toContain(answer);
  socket.destroy();
});

test.each(["", "PR"])(
  'a client that sends "%s" and ends is let go, one that waits only for a while',
  async (start) => {
    const [ending, waiting] = [connect(port, "127.0.0.1"), connect(port, "127.0.0.1")];
    const gone = [once(ending.resume(), "end"), once(waiting.resume(), "end")];
    ending.end(start);
    waiting.write(start);
    await Promise.all(gone);
  },
);

test("a request that does not come to its end in time is reset, and no other on its connection", async () => {
  const session = openHttp2();
  const slow = session.request({ ":method": "POST", ":path": "/" });
  slow.write("the beginning");
  const whole = session.request({ ":method": "POST", ":path": "/" });
  whole.end(", whole");
  expect(await text(whole)).toBe("HTTP/2.0, whole");
  expect(await endOf(slow)).not.toBe(0);
  expect(await text(session.request({ ":path": "/" }))).toBe("HTTP/2.0");
});

test("an answer that its client takes nothing of is reset, and the connection goes on", async () => {
  const session = openHttp2({ initialWindowSize: 0 });
  const stuck = session.request({ ":path": "/much" });
  expect(await endOf(stuck)).not.toBe(0);
  await once(session.request({ ":method": "HEAD", ":path": "/" }), "response");
});

test("an idle connection is closed, also where its client does not close its end", async () => {
  const session = openHttp2();
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  socket.write(PREFACE, "latin1");
  await Promise.all([once(session, "close"), once(socket.resume(), "end")]);
  // The server lets go of it altogether: what is sent then is refused.
  const refused = once(socket, "error");
  const sending = setInterval(() => socket.write("anybody there?"), 100);
  expect((await refused)[0]).toMatchObject({ code: expect.stringMatching(/EPIPE|ECONNRESET/) });
  clearInterval(sending);
  socket.destroy();
});

test("a call may be silent for long, and no connection is idle while one is under way", async () => {
  const session = openHttp2();
  const calls = ["/later", "/later", "/later"].map(async (path, i) => {
    await sleep(i * REQUEST_TIMEOUT_MS);
    return text(session.request({ ":path": path }));
  });
  expect(await Promise.all(calls)).toEqual(["HTTP/2.0", "HTTP/2.0", "HTTP/2.0"]);
});
