import { once } from "node:events";
import { connect } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type AttackedServer,
  expectClosed,
  grpcHeaders,
  PORTS,
  startAttackedServer,
} from "../../testing/attack.js";
import { cancel, NO_SETTINGS, PREFACE } from "../../testing/http2-frames.js";
import { bearer, clientOver, GRPC } from "../../testing/protocols.js";

const WATCH = "/sessiond.v1.SessionService/WatchSessions";
const COUNT = "/sessiond.v1.SessionService/CountSessions";

let server: AttackedServer;
beforeAll(async () => {
  server = await startAttackedServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const urlOf = (port: (typeof PORTS)[number]) =>
  port === "gRPC" ? server.urls.grpcUrl : server.urls.httpUrl;

/** Makes a gRPC call of five empty bytes, and answers its headers or trailers. */
async function callGrpc(url: string, headers: Record<string, string>) {
  const session = connect(url);
  const base = { ":method": "POST", ":path": COUNT, "content-type": "application/grpc" };
  const stream = session.request({ ...base, te: "trailers", ...bearer(server.token), ...headers });
  let answer: Record<string, unknown> = {};
  const note = (received: object) => {
    answer = { ...answer, ...received };
  };
  stream.on("response", note).on("trailers", note).resume();
  stream.end(headers[":method"] === "GET" ? undefined : Buffer.alloc(5));
  await once(stream, "close");
  session.destroy();
  return answer;
}

test("SIGUSR1 does not open the inspector", async () => {
  server.process.kill("SIGUSR1");
  await sleep(500);
  expect(server.process.stderr).not.toContain("Debugger listening");
});

test.each(["", "5", "S", "1x5S", "-1S"])(
  'a call with the timeout "%s" is refused on both ports',
  async (timeout) => {
    for (const port of PORTS) {
      const answer = await callGrpc(urlOf(port), { "grpc-timeout": timeout });
      expect([port, answer["grpc-status"]]).toEqual([port, "3"]);
    }
  },
);

test("the gRPC port serves no GET", async () => {
  const answer = await callGrpc(server.urls.grpcUrl, { ":method": "GET" });
  expect(answer).toMatchObject({ ":status": 405, allow: "POST" });
});

test.each(PORTS)("a client that resets its watch on the %s port is no fault", async (port) => {
  const session = connect(urlOf(port));
  const stream = session.request({
    ":method": "POST",
    ":path": WATCH,
    "content-type": "application/grpc",
    te: "trailers",
    ...bearer(server.token),
  });
  stream.on("error", () => {});
  stream.end(Buffer.alloc(5));
  await once(stream, "data");
  stream.close(8);
  await once(stream, "close");
  const lines = () => server.process.logs.filter(({ method }) => method === WATCH.slice(1));
  await expect.poll(() => lines().length).toBeGreaterThan(0);
  expect(lines().at(-1)).toMatchObject({ level: "info", code: "canceled" });
  session.destroy();
});

test.each(PORTS)(
  "a call on the %s port that waits for 100-continue and is reset in the same moment ends no server",
  async (port) => {
    const socket = server.open(port);
    const headers = grpcHeaders(1, COUNT, { headers: { expect: "100-continue" } });
    socket.write(Buffer.concat([PREFACE, NO_SETTINGS, headers, cancel(1)]));
    await expectClosed(socket);
    expect(await callGrpc(urlOf(port), {})).toMatchObject({ "grpc-status": "0" });
  },
);

test("a server that may open few files takes fewer connections, says so, and goes on", async () => {
  await using poor = await startAttackedServer({ maxFiles: 80 });
  await poor.process.logged(
    "fewer connections than configured: each needs a file descriptor (ulimit -n)",
  );
  for (let i = 0; i < 100; i++) poor.open("gRPC");
  const client = clientOver(GRPC, { ...poor.urls, accessToken: poor.token });
  const count = async () => (await client.countSessions({})).count;
  await expect.poll(count, { timeout: 10_000 }).toBe(1);
  expect(await poor.sockets()).toBeLessThanOrEqual(30);
});
