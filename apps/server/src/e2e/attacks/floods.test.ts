import { once } from "node:events";
import { type ClientHttp2Session, connect } from "node:http2";
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
import {
  cancel,
  END_HEADERS,
  END_STREAM,
  frame,
  NO_SETTINGS,
  PREFACE,
} from "../../testing/http2-frames.js";
import { scrape } from "../../testing/scrape.js";

const COUNT = "/sessiond.v1.SessionService/CountSessions";
const CHECK_HEALTH = "/grpc.health.v1.Health/Check";
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

async function cuts(reason: string): Promise<number> {
  const metrics = await scrape(server.urls.httpUrl);
  return metrics.sum("sessiond_cuts_total", { reason }) ?? Number.NaN;
}

/** Calls once, and waits for an answer or for the end of the connection. */
async function checkHealth(session: ClientHttp2Session): Promise<void> {
  if (session.closed) return;
  const grpc = { "content-type": "application/grpc", te: "trailers" };
  const call = session.request({ ":method": "POST", ":path": CHECK_HEALTH, ...grpc });
  call.on("error", () => {});
  call.resume().end(Buffer.alloc(5));
  await new Promise((resolve) => call.once("close", resolve));
}

function emptyMessage(stream: number): Buffer {
  return frame("DATA", { stream, flags: END_STREAM, payload: Buffer.alloc(5) });
}

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

  test("many calls that need no access token, for their connections are cut", async () => {
    const before = await cuts("unauthenticated_calls");
    const session = connect(port === "gRPC" ? server.urls.grpcUrl : server.urls.httpUrl, {
      rejectUnauthorized: false,
    });
    session.on("error", () => {});
    const isCut = once(session, "close");
    // As fast as they are answered, so that no machine is too slow for it.
    while (!session.closed) {
      await Promise.all(Array.from({ length: 20 }, () => checkHealth(session)));
    }
    await isCut;
    expect(await cuts("unauthenticated_calls")).toBeGreaterThan(before);
  });

  // Node tells us of the calls in a connection's first bytes when they have been reset already.
  test.each(["the first bytes", "later bytes"])(
    "calls that are begun and reset in %s of a connection, which is cut",
    async (which) => {
      const before = await cuts("resets");
      const socket = server.open(port);
      const isCut = new Promise((resolve) => socket.once("close", resolve));
      // Each call comes with its reset, so the server does not answer first.
      if (which === "the first bytes") {
        socket.write(Buffer.concat([PREFACE, NO_SETTINGS, RESETS]));
      } else {
        beginHttp2(socket);
        await once(socket, "data");
        socket.write(RESETS);
      }
      await isCut;
      expect(await cuts("resets")).toBeGreaterThan(before);
    },
  );

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
  const refused = async () =>
    (await scrape(server.urls.httpUrl)).sum("sessiond_shed_total", { reason: "streams" });
  const before = (await refused()) ?? Number.NaN;
  await withstand(server, "gRPC", async () => {
    for (let i = 0; i < WATCHING; i++) {
      const socket = server.open("gRPC");
      beginHttp2(socket);
      for (const stream of STREAMS.slice(0, 90)) {
        socket.write(grpcHeaders(stream, WATCH_HEALTH));
        socket.write(emptyMessage(stream));
      }
      await sleep(ATTACK_MS / WATCHING);
    }
  });
  expect(await refused()).toBeGreaterThan(before);
});
