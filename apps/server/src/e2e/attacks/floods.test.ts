import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ATTACK_MS,
  type AttackedServer,
  beginHttp2,
  grpcHeaders,
  PORTS,
  type PortName,
  startAttackedServer,
  withstand,
} from "../../testing/attack.js";
import { cancel, END_HEADERS, END_STREAM, frame, NO_SETTINGS } from "../../testing/http2-frames.js";

const COUNT = "/sessiond.v1.SessionService/CountSessions";
const WATCH_HEALTH = "/grpc.health.v1.Health/Watch";
const CONNECTIONS = Number(process.env["SESSIOND_TEST_ATTACK_CONNECTIONS"] ?? 1_000);
const ATTACKERS = 8;
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

/** Sends the same from several connections, and connects again when one is cut. */
async function flood(port: PortName, bytes: Buffer): Promise<void> {
  const untilMs = performance.now() + ATTACK_MS;
  const attack = async () => {
    while (performance.now() < untilMs) {
      const socket = server.open(port);
      beginHttp2(socket);
      socket.write(bytes);
      await Promise.race([new Promise((resolve) => socket.once("close", resolve)), sleep(100)]);
      socket.destroy();
    }
  };
  await Promise.all(Array.from({ length: ATTACKERS }, attack));
}

describe.each(PORTS)("clients without an access token do not hold up the %s port with", (port) => {
  test.each([
    ["calls", CALLS],
    ["calls that they reset at once", RESETS],
    ["pings", PINGS],
    ["SETTINGS", SETTINGS],
  ])("%s", (_, bytes) => withstand(server, port, () => flood(port, bytes)));

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
    for (let i = 0; i < 40; i++) {
      const socket = server.open("gRPC");
      beginHttp2(socket);
      for (const stream of STREAMS.slice(0, 90)) {
        socket.write(grpcHeaders(stream, WATCH_HEALTH));
        socket.write(frame("DATA", { stream, flags: END_STREAM, payload: message }));
      }
      await sleep(ATTACK_MS / 40);
    }
  });
});
