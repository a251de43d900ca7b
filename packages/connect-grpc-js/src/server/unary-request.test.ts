import { once } from "node:events";
import { connect } from "node:http2";
import { deflateSync, gzipSync } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, onTestFinished, test } from "vitest";
import { decode, encode } from "../testing/echo-client.js";
import { ECHO, openStream, serveEcho } from "../testing/loopback.js";

const LIMIT = { "grpc.max_receive_message_length": 1000 };

/** A message in its envelope, whose flags say that it is compressed unless it is not. */
function envelope(message: Buffer, flags = 0, length = message.length): Buffer {
  const bytes = Buffer.alloc(5 + message.length, message);
  bytes.writeUInt8(flags, 0);
  bytes.writeUInt32BE(length, 1);
  message.copy(bytes, 5);
  return bytes;
}

/** Sends the chunks of a unary request, and waits for the answer. */
async function send(baseUrl: string, chunks: Buffer[], headers: Record<string, string> = {}) {
  const session = connect(baseUrl);
  onTestFinished(() => session.destroy());
  const stream = openStream(session, "unary", headers);
  const answer: Buffer[] = [];
  let trailers: Record<string, unknown> = {};
  stream.on("response", (received) => (trailers = { ...received }));
  stream.on("trailers", (received) => (trailers = { ...trailers, ...received }));
  stream.on("data", (chunk: Buffer) => answer.push(chunk));
  for (const chunk of chunks) {
    stream.write(chunk);
    await new Promise(setImmediate);
  }
  stream.end();
  await once(stream, "close");
  return { trailers, status: Number(trailers["grpc-status"]), answer: Buffer.concat(answer) };
}

const COMPRESS = { gzip: gzipSync, deflate: deflateSync };

test.each(["gzip", "deflate"] as const)("a request may be compressed with %s", async (encoding) => {
  await using loopback = await serveEcho(ECHO, {}, LIMIT);
  const request = envelope(COMPRESS[encoding](encode("hi")), 1);
  const { status, answer } = await send(loopback.baseUrl, [request], { "grpc-encoding": encoding });
  expect(status).toBe(0);
  expect(decode(answer.subarray(5))).toBe("hi");
});

test("a compressed request may not become larger than the limit", async () => {
  await using loopback = await serveEcho(ECHO, {}, LIMIT);
  const request = envelope(gzipSync(encode("x".repeat(100_000))), 1);
  const { status } = await send(loopback.baseUrl, [request], { "grpc-encoding": "gzip" });
  expect(status).toBe(Code.ResourceExhausted);
});

test("a request may come in chunks of any size", async () => {
  await using loopback = await serveEcho(ECHO);
  const bytes = [...envelope(encode("grüezi"))].map((byte) => Buffer.of(byte));
  const { status, answer } = await send(loopback.baseUrl, bytes);
  expect(status).toBe(0);
  expect(decode(answer.subarray(5))).toBe("grüezi");
});

test.each([
  ["ends in its length", [Buffer.of(0, 0, 0)], Code.InvalidArgument],
  ["ends in its message", [envelope(encode("hi"), 0, 100)], Code.InvalidArgument],
  ["has flags that nobody knows", [envelope(encode("hi"), 2)], Code.InvalidArgument],
  ["is said to be too long", [envelope(encode("hi"), 0, 1001)], Code.ResourceExhausted],
  ["is compressed, but does not say how", [envelope(encode("hi"), 1)], Code.InvalidArgument],
  ["is followed by another", [envelope(encode("hi")), envelope(encode("hi"))], Code.Unimplemented],
] as const)("a request that %s is refused, and no other", async (_, chunks, code) => {
  await using loopback = await serveEcho(ECHO, {}, LIMIT);
  expect((await send(loopback.baseUrl, [...chunks])).status).toBe(code);
  expect((await loopback.call("unary", ["hi"])).values).toEqual(["hi"]);
});

test("a client with an encoding that the server does not know learns which ones it does", async () => {
  await using loopback = await serveEcho(ECHO);
  const request = envelope(encode("hi"), 1);
  const { status, trailers } = await send(loopback.baseUrl, [request], { "grpc-encoding": "br" });
  expect(status).toBe(Code.Unimplemented);
  expect(trailers["grpc-accept-encoding"]).toBe("gzip,deflate,identity");
});

test("what is no gRPC request gets HTTP's 415", async () => {
  await using loopback = await serveEcho(ECHO);
  const type = { "content-type": "application/json" };
  const { trailers } = await send(loopback.baseUrl, [Buffer.from("{}")], type);
  expect(trailers[":status"]).toBe(415);
});

test("a request that ends after its deadline is not served any more", async () => {
  let served = 0;
  await using loopback = await serveEcho({
    unary: () => {
      served++;
      return {};
    },
  });
  const session = connect(loopback.baseUrl);
  onTestFinished(() => session.destroy());
  const stream = openStream(session, "unary", { "grpc-timeout": "50m" });
  // The whole message, and no end of the request.
  stream.write(envelope(encode("hi")));
  const [headers] = await once(stream, "response");
  expect(Number(headers["grpc-status"])).toBe(Code.DeadlineExceeded);
  stream.resume();
  await once(stream, "close");
  await loopback.call("serverStream", [""]);
  expect(served).toBe(0);
});

test("the stream of a refused request closes, although its client sends on", async () => {
  const closed = Promise.withResolvers<void>();
  await using loopback = await serveEcho(
    ECHO,
    {
      gate: (stream, _headers, serve) => {
        stream.once("close", closed.resolve);
        serve();
      },
    },
    LIMIT,
  );
  const session = connect(loopback.baseUrl);
  onTestFinished(() => session.destroy());
  const stream = openStream(session, "unary");
  stream.on("error", () => {});
  stream.write(Buffer.alloc(500_000));
  await closed.promise;
  expect((await loopback.call("unary", ["hi"])).values).toEqual(["hi"]);
});

test("no more is read of a request for which there is no room", async () => {
  const failures: unknown[] = [];
  const full = new ConnectError("no room", Code.ResourceExhausted);
  let heldBytes = 0;
  const hold = (_stream: unknown, bytes: number) => {
    heldBytes += bytes;
    if (heldBytes > 100_000) throw full;
  };
  const onFailure = (_stream: unknown, error: unknown) => failures.push(error);
  await using loopback = await serveEcho(ECHO, { unaryBounds: { hold, onFailure } });
  const chunks = [envelope(Buffer.alloc(1_000_000))];
  expect((await send(loopback.baseUrl, chunks)).status).toBe(Code.ResourceExhausted);
  expect(failures).toEqual([full]);
  expect(heldBytes).toBeLessThan(200_000);
});
