import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { SessionService } from "@sessiond/proto/sessiond/v1/session_service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ATTACK_MS,
  type AttackedServer,
  beginHttp2,
  grpcHeaders,
  IS_OVER_TLS,
  IS_SOAK,
  MAX_OPEN_MS,
  PORTS,
  type PortName,
  startAttackedServer,
  withstand,
} from "../../testing/attack.js";
import { END_STREAM, frame, singleBytes, zeroWindow } from "../../testing/http2-frames.js";
import { bearer, clientOver, GRPC, pathOf } from "../../testing/protocols.js";
import { scrape } from "../../testing/scrape.js";

const MEBIBYTE = 1024 * 1024;
const VERIFY = pathOf(SessionService.method.verifySession);
const LIST = pathOf(SessionService.method.listSessions);
const REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/** The streams that each attacking connection opens. */
const STREAMS = Array.from({ length: 60 }, (_, i) => 2 * i + 1);
const FULL_PAGE = envelope(Buffer.from([0x30, 0xc8, 0x01]));
const UNFINISHED = envelope(Buffer.alloc(60_000), { bytes: 4 * MEBIBYTE - 5 });
/** Within the window of a stream, so that no flow control gets in the way. */
const PART = Buffer.alloc(16_000);
const PARTS = 100;
const INFLATING = envelope(gzipSync(Buffer.alloc(4 * MEBIBYTE - 100)), { flags: 1 });
/** Asks reflection for the files of a service (field 4). The answer is a thousand times as long. */
const DESCRIBE = envelope(Buffer.from("\x22\x1asessiond.v1.SessionService"));
/** Connections that ask for it, each as often as a stranger may. */
const ASKING = 60;

// Made before the attacks, so that making them delays no other client.
const INFLATING_DATA = STREAMS.map((stream) => {
  const end = frame("DATA", { stream, flags: END_STREAM, payload: Buffer.alloc(0) });
  return Buffer.concat([dataFrames(stream, INFLATING), end]);
});
const SINGLE_BYTES = singleBytes(1, UNFINISHED);

const LONG_BODY_BYTES = (IS_SOAK ? 64 : 16) * MEBIBYTE;

/**
 * Whether nghttp2 cuts these attackers before they fill the memory: they send more than the connection's
 * window has room for. Without TLS, Node gives the room back while it reads.
 */
const IS_CUT_FIRST = IS_OVER_TLS;

/** Together they are more than one connection may hold of what this server keeps. */
const LISTS = 10;
const MAX_BUFFERED = "24MiB";

let server: AttackedServer;
beforeAll(async () => {
  server = await startAttackedServer({ env: { SESSIOND_MAX_BUFFERED_SIZE: MAX_BUFFERED } });
  const client = clientOver(GRPC, { ...server.urls, accessToken: server.token });
  const data = { text: "x".repeat(15_000) };
  // One after the other, so that a slow machine keeps its promise of two seconds to each.
  for (let i = 0; i < 200; i++) await client.createSession({ userId: `user-${i}`, data });
});
afterAll(() => server[Symbol.asyncDispose]());

async function refusedForMemory(): Promise<number> {
  const metrics = await scrape(server.urls.httpUrl);
  return metrics.sum("sessiond_shed_total", { reason: "buffered_bytes" }) ?? Number.NaN;
}

async function buffered(): Promise<number | undefined> {
  return (await scrape(server.urls.httpUrl)).sum("sessiond_buffered_bytes");
}

function envelope(message: Buffer, { bytes = message.length, flags = 0 } = {}): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(bytes, 1);
  return Buffer.concat([head, message]);
}

function dataFrames(stream: number, bytes: Buffer): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 16_384) {
    frames.push(frame("DATA", { stream, payload: bytes.subarray(at, at + 16_384) }));
  }
  return Buffer.concat(frames);
}

/** Does it again and again for as long as attacks last. */
async function repeat(times: number, attack: (i: number) => void): Promise<void> {
  for (let i = 0; i < times; i++) {
    attack(i);
    await sleep(ATTACK_MS / times);
  }
}

/** Begins a call on each of many streams. */
function callOnManyStreams(
  port: PortName,
  data: readonly Buffer[],
  headers: Record<string, string>,
) {
  const socket = server.open(port);
  beginHttp2(socket);
  for (const [i, stream] of STREAMS.entries()) {
    socket.write(grpcHeaders(stream, VERIFY, { headers }));
    socket.write(data[i] ?? "");
  }
  return socket;
}

function sendUnfinished(port: PortName, headers: Record<string, string>): Promise<void> {
  const begin = STREAMS.map((stream) => dataFrames(stream, UNFINISHED.subarray(0, 5)));
  const sockets = [1, 2].map(() => callOnManyStreams(port, begin, headers));
  const parts = Buffer.concat(STREAMS.map((stream) => frame("DATA", { stream, payload: PART })));
  return repeat(PARTS, () => {
    for (const socket of sockets) socket.write(parts);
  });
}

describe.each(PORTS)("the %s port", (port) => {
  test("reads no message of a stranger", () =>
    withstand(server, port, () => sendUnfinished(port, {})));

  test("has room for few messages that never end", async () => {
    const before = await refusedForMemory();
    await withstand(server, port, () => sendUnfinished(port, bearer(server.token)));
    if (!IS_CUT_FIRST) await expect.poll(refusedForMemory).toBeGreaterThan(before);
  });

  test("has room for few messages that become a thousand times as long", async () => {
    const before = await refusedForMemory();
    const headers = { ...bearer(server.token), "grpc-encoding": "gzip" };
    await withstand(server, port, () =>
      repeat(4, () => callOnManyStreams(port, INFLATING_DATA, headers)),
    );
    if (!IS_CUT_FIRST) await expect.poll(refusedForMemory).toBeGreaterThan(before);
  });

  test("is not held up by a message that comes a byte at a time", () =>
    withstand(server, port, () =>
      repeat(4, () => {
        const socket = server.open(port);
        beginHttp2(socket);
        socket.write(grpcHeaders(1, VERIFY, { headers: bearer(server.token) }));
        socket.write(SINGLE_BYTES);
      }),
    ));

  test("keeps nothing of a body that is far too long", () =>
    withstand(server, port, async () => {
      const socket = server.open(port);
      beginHttp2(socket);
      socket.write(grpcHeaders(1, VERIFY, { headers: bearer(server.token) }));
      const begin = envelope(Buffer.alloc(0), { bytes: LONG_BODY_BYTES });
      socket.write(frame("DATA", { stream: 1, payload: begin }));
      const part = frame("DATA", { stream: 1, payload: PART });
      for (let sent = 0; sent < LONG_BODY_BYTES && socket.writable; sent += PART.length) {
        if (!socket.write(part)) await sleep(1);
      }
    }));
});

describe("answers that nobody takes", () => {
  test.each(PORTS)("are few on the %s port", async (port) => {
    // What came before is neither held nor refused any more.
    await expect.poll(buffered, { timeout: MAX_OPEN_MS }).toBeLessThan(MEBIBYTE);
    const before = await refusedForMemory();
    await withstand(server, port, async () => {
      const socket = server.open(port);
      beginHttp2(socket, zeroWindow());
      // To make one takes longer than to keep it, so a few must do, before the first ones are cut.
      for (const stream of STREAMS.slice(0, LISTS)) {
        socket.write(grpcHeaders(stream, LIST, { headers: bearer(server.token) }));
        socket.write(frame("DATA", { stream, flags: END_STREAM, payload: FULL_PAGE }));
        await sleep(50);
      }
    });
    await expect.poll(refusedForMemory).toBeGreaterThan(before);
  });

  test("are few of reflection, which needs no access token", async () => {
    const data = dataFrames(1, Buffer.concat(Array.from({ length: 90 }, () => DESCRIBE)));
    await withstand(server, "gRPC", () =>
      repeat(ASKING, () => {
        const socket = server.open("gRPC");
        beginHttp2(socket, zeroWindow());
        socket.write(Buffer.concat([grpcHeaders(1, REFLECT), data]));
      }),
    );
  });
});

test("after the attacks, the memory that they held is free again within 15 s", async () => {
  await expect.poll(buffered, { timeout: 15_000 }).toBeLessThan(MEBIBYTE);
});
