import { once } from "node:events";
import { type ClientHttp2Session, connect } from "node:http2";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { BytesValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import type { Client, requestCallback, ServiceError } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { encode, pathOf } from "../testing/echo-client.js";
import type { EchoService } from "../testing/echo-service.js";
import { ECHO, openStream, serveEcho } from "../testing/loopback.js";

const MEBIBYTE = 1024 * 1024;
const LIMIT = { "grpc.max_receive_message_length": 4 * MEBIBYTE };

const identity = (message: Buffer) => message;

/** Sends bytes as they are, in a unary call. */
function callWithBytes(
  client: Client,
  method: keyof typeof EchoService.method,
  bytes: Uint8Array,
): Promise<{ error: ServiceError | null; response: Buffer | undefined }> {
  return new Promise((resolve) => {
    const callback: requestCallback<Buffer> = (error, response) => resolve({ error, response });
    client.makeUnaryRequest(pathOf(method), identity, identity, Buffer.from(bytes), callback);
  });
}

describe("a limit of the server", () => {
  test.each(["unary", "serverStream", "clientStream"] as const)(
    "refuses a larger %s request, and the server stays up",
    async (method) => {
      await using loopback = await serveEcho(ECHO, {}, LIMIT);
      const large = "x".repeat(5 * MEBIBYTE);
      expect((await loopback.call(method, [large])).code).toBe(Code.ResourceExhausted);
      expect((await loopback.call("unary", ["hi"])).values).toEqual(["hi"]);
    },
  );

  test("allows a request just below it", async () => {
    await using loopback = await serveEcho({ ...ECHO, unary: () => ({}) }, {}, LIMIT);
    expect((await loopback.call("unary", ["x".repeat(4 * MEBIBYTE - 16)])).code).toBe(0);
  });

  test.each(["unary", "serverStream"] as const)("fails a larger %s response", async (method) => {
    await using loopback = await serveEcho(ECHO, {}, { "grpc.max_send_message_length": 1000 });
    const outcome = await loopback.call(method, ["x".repeat(1001)]);
    expect(outcome.code).toBe(Code.ResourceExhausted);
  });
});

describe("a request that cannot be parsed", () => {
  const truncated = Uint8Array.of(10, 100, 65);

  test.each(["unary", "serverStream"] as const)(
    "is an invalid argument of %s, which interceptors see",
    async (method) => {
      const failures: unknown[] = [];
      const log: Interceptor = (next) => async (req) => {
        try {
          return await next(req);
        } catch (error) {
          failures.push(error);
          throw error;
        }
      };
      await using loopback = await serveEcho(ECHO, { interceptors: [log] });
      const { error } = await callWithBytes(loopback.grpcClient, method, truncated);
      expect(error?.code).toBe(Code.InvalidArgument);
      expect(error?.details).toMatch(/^cannot parse google\.protobuf\.StringValue: ./);
      expect(failures).toEqual([expect.objectContaining({ code: Code.InvalidArgument })]);
      expect((await loopback.call("unary", ["hi"])).values).toEqual(["hi"]);
    },
  );

  test("may be described further by the application", async () => {
    await using loopback = await serveEcho(ECHO, {
      describeMalformed: (error, desc, bytes) =>
        new ConnectError(`${desc.name} of ${bytes.length}: ${error.rawMessage}`, error.code),
    });
    const { error } = await callWithBytes(loopback.grpcClient, "unary", truncated);
    expect(error?.code).toBe(Code.InvalidArgument);
    expect(error?.details).toMatch(/^StringValue of 3: cannot parse /);
  });

  test("is not parsed when an interceptor refuses the call", async () => {
    const refuse: Interceptor = () => async () => {
      throw new Error("refused");
    };
    await using loopback = await serveEcho(ECHO, { interceptors: [refuse] });
    const { error } = await callWithBytes(loopback.grpcClient, "unary", truncated);
    expect(error?.code).toBe(Code.Internal);
  });
});

test.each([
  ["unary", 0],
  ["unary", 2],
  ["serverStream", 0],
  ["serverStream", 2],
] as const)(
  "a %s call with %d requests is unimplemented, as gRPC prescribes",
  async (method, n) => {
    await using loopback = await serveEcho(ECHO);
    const path = pathOf(method);
    const call = loopback.grpcClient.makeClientStreamRequest(path, encode, identity, () => {});
    for (let i = 0; i < n; i++) call.write("x");
    call.end();
    const [{ code }] = await once(call, "status");
    expect(code).toBe(Code.Unimplemented);
  },
);

test("a bytes field is a plain Uint8Array, as with every other transport", async () => {
  let received: Uint8Array = new Uint8Array();
  await using loopback = await serveEcho({
    unaryBytes({ value }) {
      received = value;
      return { value };
    },
  });
  const message = create(BytesValueSchema, { value: Uint8Array.of(1, 2, 3) });
  const bytes = toBinary(BytesValueSchema, message);
  const { response } = await callWithBytes(loopback.grpcClient, "unaryBytes", bytes);
  expect(Object.getPrototypeOf(received)).toBe(Uint8Array.prototype);
  expect(response).toEqual(Buffer.from(bytes));
});

test.each([
  [{}, 5],
  [{ readUnknownFields: false }, 3],
  [{ writeUnknownFields: false }, 3],
])("options of the binary format apply: %j", async (binaryOptions, length) => {
  await using loopback = await serveEcho({ unaryBytes: (request) => request }, { binaryOptions });
  const withUnknownField = Uint8Array.of(10, 1, 65, 0x78, 1);
  const { response } = await callWithBytes(loopback.grpcClient, "unaryBytes", withUnknownField);
  expect(response).toHaveLength(length);
});

describe("a client that does not read", () => {
  /** grpc-js's own client reads ahead of its caller without limit, so this uses plain HTTP/2. */
  async function callWithoutReading(session: ClientHttp2Session) {
    const stream = openStream(session, "serverStream");
    stream.end(Buffer.alloc(5));
    await once(stream, "response");
    return stream;
  }

  test("stops the stream, and costs no memory of the server", async () => {
    const total = 1_000;
    const value = "x".repeat(64 * 1024);
    let produced = 0;
    await using loopback = await serveEcho({
      async *serverStream() {
        for (; produced < total; produced++) yield { value };
      },
    });
    const session = connect(loopback.baseUrl);
    const stream = await callWithoutReading(session);
    let before = -1;
    while (produced !== before) {
      before = produced;
      await sleep(100);
    }
    // grpc-js holds 16 messages, and HTTP/2 one or two.
    expect(produced).toBeLessThan(30);

    let received = 0;
    for await (const bytes of stream) received += bytes.length;
    session.destroy();
    expect(received).toBe(total * (5 + encode(value).length));
  });

  test("and disconnects ends the generator", async () => {
    const closed = Promise.withResolvers<void>();
    await using loopback = await serveEcho({
      async *serverStream() {
        try {
          for (;;) {
            yield { value: "x".repeat(64 * 1024) };
            await setImmediate();
          }
        } finally {
          closed.resolve();
        }
      },
    });
    const session = connect(loopback.baseUrl);
    await callWithoutReading(session);
    await sleep(100);
    session.destroy();
    await closed.promise;
  });
});
