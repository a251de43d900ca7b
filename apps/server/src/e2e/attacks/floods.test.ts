import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ATTACK_MS,
  type AttackedServer,
  beginHttp2,
  floodFrom,
  grpcHeaders,
  IS_SOAK,
  PORTS,
  startAttackedServer,
  withstand,
} from "../../testing/attack.js";
import { cancel, END_HEADERS, END_STREAM, frame, NO_SETTINGS } from "../../testing/http2-frames.js";

const COUNT = "/sessiond.v1.SessionService/CountSessions";
const WATCH_HEALTH = "/grpc.health.v1.Health/Watch";
const CONNECTIONS = IS_SOAK ? 5_000 : 1_000;
/** Each has 90 streams. */
const WATCHING = IS_SOAK ? 112 : 20;
const STREAMS = Array.from({ length: 500 }, (_, i) => 2 * i + 1);
const ENDS = END_HEADERS | END_STREAM;

const PINGS = times(4_000, () => frame("PING", { stream: 0, payload: Buffer.alloc(8) }));
const SETTINGS = times(4_000, () => NO_SETTINGS);
const CALLS = Buffer.concat(STREAMS.map((s) => grpcHeaders(s, COUNT, { flags: ENDS })));
const RESETS = Buffer.concat(STREAMS.flatMap((s) => [grpcHeaders(s, COUNT), cancel(s)]));

let server: AttackedServer;
beforeAll(async () => {
  server = await startAttackedServer({ env: { SESSIOND_MAX_CONNECTIONS: "500" } });
});
afterAll(() => server[Symbol.asyncDispose]());

function times(count: number, make: () => Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, make));
}

describe.each(PORTS)("clients without an access token do not hold up the %s port with", (port) => {
  test.each([
    ["calls", CALLS],
    ["calls that they reset at once", RESETS],
    ["pings", PINGS],
    ["SETTINGS", SETTINGS],
  ])("%s", (_, bytes) => withstand(server, port, () => floodFrom(server, port, bytes)));

  test("connections", async () => {
    await withstand(server, port, async () => {
      for (let i = 0; i < CONNECTIONS; i++) {
        beginHttp2(server.open(port));
        if (i % 20 === 0) await sleep(ATTACK_MS / (CONNECTIONS / 20));
      }
    });
    expect(await server.sockets()).toBeLessThanOrEqual(500);
  });
});

test("watches of health that stay open are few, and a known caller still calls", async () => {
  const message = Buffer.alloc(5);
  await withstand(server, "gRPC", async () => {
    for (let i = 0; i < WATCHING; i++) {
      const socket = server.open("gRPC");
      beginHttp2(socket);
      for (const stream of STREAMS.slice(0, 90)) {
        socket.write(grpcHeaders(stream, WATCH_HEALTH));
        socket.write(frame("DATA", { stream, flags: END_STREAM, payload: message }));
      }
      await sleep(ATTACK_MS / WATCHING);
    }
  });
});
