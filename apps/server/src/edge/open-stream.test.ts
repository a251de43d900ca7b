import { once } from "node:events";
import { connect, createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test, vi } from "vitest";
import type { CutReason } from "./cut-reasons.js";
import { Edge } from "./edge.js";
import { DEFAULT_EDGE_LIMITS } from "./edge-limits.js";

const REQUEST_TIMEOUT_MS = 200;
const LIMITS = { ...DEFAULT_EDGE_LIMITS, requestTimeoutMs: REQUEST_TIMEOUT_MS };
/** More than a client takes before it reads. */
const ANSWER = Buffer.alloc(1024 * 1024);

test("a client that stops reading a stream is cut, also after the stream was idle for long", async () => {
  const cuts: CutReason[] = [];
  using edge = new Edge(LIMITS, (reason) => cuts.push(reason));
  const server = createServer()
    .prependListener("connection", (socket) => edge.accept(socket))
    .on("session", (session) => edge.takeSession(session))
    .on("stream", (stream) => edge.takeStream(stream as ServerHttp2Stream))
    .listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const request = client.request().on("error", () => {});
  const [stream] = (await once(server, "stream")) as [ServerHttp2Stream];
  stream.respond();
  stream.write(ANSWER);
  await sleep(REQUEST_TIMEOUT_MS / 2);
  request.resume();
  await vi.waitUntil(() => stream.writableLength === 0);
  await sleep(2 * REQUEST_TIMEOUT_MS);
  expect(cuts).toEqual([]);
  request.pause();
  stream.write(ANSWER);
  await vi.waitFor(() => expect(cuts).toEqual(["answer_not_taken"]), 10 * REQUEST_TIMEOUT_MS);
  client.destroy();
  server.close();
});
