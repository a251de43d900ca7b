import type { Socket } from "node:net";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type AttackedServer,
  beginHttp2,
  expectClosed,
  grpcHeaders,
  MAX_OPEN_MS,
  PORTS,
  startAttackedServer,
} from "../../testing/attack.js";
import { frame, headerBlock, PREFACE } from "../../testing/http2-frames.js";
import { bearer, pathOf } from "../../testing/protocols.js";

const COUNT = pathOf(SessionService.method.countSessions);
/** What a server reads of a request that has its answer, and what the system holds on the way. */
const MAX_WRITTEN_BYTES = 64 * 1024 * 1024;

let server: AttackedServer;
beforeAll(async () => {
  server = await startAttackedServer();
});
afterAll(() => server[Symbol.asyncDispose]());

/** Sends a byte now and then, until the socket closes. */
function drip(socket: Socket, bytes: string | Buffer): void {
  const timer = setInterval(() => socket.write(bytes), 100);
  socket.once("close", () => clearInterval(timer));
}

describe.concurrent.each(PORTS)("on the %s port a connection is closed in time", (port) => {
  test.each<[string, (socket: Socket) => void]>([
    ["that says nothing", () => {}],
    ["that begins HTTP/2 without SETTINGS", (socket) => socket.write(PREFACE)],
    ["that makes no call", (socket) => beginHttp2(socket)],
    [
      "that only pings",
      (socket) => {
        beginHttp2(socket);
        drip(socket, frame("PING", { stream: 0, payload: Buffer.alloc(8) }));
      },
    ],
    [
      "whose HEADERS do not end",
      (socket) => {
        beginHttp2(socket);
        socket.write(grpcHeaders(1, COUNT, { flags: 0 }));
      },
    ],
    [
      "whose call has no body",
      (socket) => {
        beginHttp2(socket);
        socket.write(grpcHeaders(1, "/grpc.health.v1.Health/Check"));
      },
    ],
  ])("%s", async (_, begin) => {
    const socket = server.open(port);
    begin(socket);
    await expectClosed(socket);
  });

  test("a call of a known caller whose body does not end is reset", async () => {
    const socket = server.open(port);
    beginHttp2(socket);
    socket.write(grpcHeaders(1, COUNT, { headers: bearer(server.token) }));
    drip(socket, frame("DATA", { stream: 1, payload: Buffer.alloc(1) }));
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    const hasReset = () => Buffer.concat(chunks).includes(Buffer.from([0, 0, 4, 3, 0, 0, 0, 0, 1]));
    await expect.poll(hasReset, { timeout: MAX_OPEN_MS }).toBe(true);
  });
});

describe.concurrent("on the HTTP port a connection is closed in time", () => {
  test("whose headers come a byte at a time", async () => {
    const socket = server.open("HTTP");
    socket.write(`POST ${COUNT} HTTP/1.1\r\nhost: x\r\n`);
    drip(socket, "x");
    await expectClosed(socket);
  });

  test("whose body comes a byte at a time", async () => {
    const socket = server.open("HTTP");
    const { authorization } = bearer(server.token);
    socket.write(
      `POST ${COUNT} HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\n` +
        "content-type: application/json\r\ncontent-length: 1000\r\n\r\n",
    );
    drip(socket, " ");
    await expectClosed(socket);
  });

  test("that has its answer, and whose body has no end", async () => {
    const socket = server.open("HTTP");
    const head = `POST ${COUNT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`;
    socket.write(`${head}transfer-encoding: chunked\r\n\r\n`);
    const chunk = Buffer.from(`10000\r\n${" ".repeat(0x10000)}\r\n`);
    let answer = "";
    socket.on("data", (text) => {
      answer += text;
    });
    const send = () => {
      if (socket.writable) socket.write(chunk, () => setImmediate(send));
    };
    send();
    await expectClosed(socket);
    expect(answer).toMatch(/^HTTP\/1.1 401/);
    expect(socket.bytesWritten).toBeLessThan(MAX_WRITTEN_BYTES);
  });
});

test("a header larger than the limit ends its stream on both ports", async () => {
  for (const port of PORTS) {
    const socket = server.open(port);
    beginHttp2(socket);
    socket.write(grpcHeaders(1, COUNT, { flags: 0, headers: { "x-large": "x".repeat(14_000) } }));
    for (let i = 0; i < 100 && socket.writable; i++) {
      const payload = headerBlock({ "x-more": "x".repeat(14_000) });
      socket.write(frame("CONTINUATION", { stream: 1, payload }));
    }
    await expectClosed(socket);
  }
});
