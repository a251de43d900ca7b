import { once } from "node:events";
import { connect } from "node:http2";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { BytesValueSchema, StringValueSchema } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createClient,
  type Interceptor,
} from "@connectrpc/connect";
import { compressionGzip, createGrpcTransport } from "@connectrpc/connect-node";
import type { Client, requestCallback, ServiceError } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { CLIENTS, listen } from "../testing/loopback.js";
import type { ConnectRoutesOptions } from "./add-connect-routes.js";

const MEBIBYTE = 1024 * 1024;

function echoRoutes(router: ConnectRouter) {
  router.service(EchoService, {
    unary: ({ value }) => ({ value }),
    unaryBytes: ({ value }) => ({ value }),
    async *serverStream({ value }) {
      yield { value };
    },
    async clientStream(requests) {
      let count = 0;
      for await (const _request of requests) {
        count++;
      }
      return { value: String(count) };
    },
  });
}

/** Sends bytes as they are, in a unary call. */
function callWithBytes(
  client: Client,
  method: string,
  bytes: Uint8Array,
): Promise<{ error: ServiceError | null; response: Buffer | undefined }> {
  const identity = (message: Buffer) => message;
  return new Promise((resolve) => {
    const callback: requestCallback<Buffer> = (error, response) => resolve({ error, response });
    const path = `/echo.v1.EchoService/${method}`;
    client.makeUnaryRequest(path, identity, identity, Buffer.from(bytes), callback);
  });
}

describe.each(CLIENTS)("called by %s", (client) => {
  test.each(["unary", "serverStream", "clientStream"] as const)(
    "a %s request larger than the server allows fails, and the server stays up",
    async (method) => {
      const limit = { "grpc.max_receive_message_length": 4 * MEBIBYTE };
      await using loopback = await listen({ routes: echoRoutes }, limit);
      const large = "x".repeat(5 * MEBIBYTE);
      expect((await loopback.call[client](method, [large])).code).toBe(Code.ResourceExhausted);
      expect((await loopback.call[client]("unary", ["hi"])).values).toEqual(["hi"]);
    },
  );

  test("a request just below the limit is served", async () => {
    const limit = { "grpc.max_receive_message_length": 4 * MEBIBYTE };
    await using loopback = await listen({ routes: echoRoutes }, limit);
    const large = "x".repeat(4 * MEBIBYTE - 16);
    const outcome = await loopback.call[client]("clientStream", [large]);
    expect(outcome).toMatchObject({ code: 0, values: ["1"] });
  });

  test("a response larger than the server allows fails", async () => {
    const limit = { "grpc.max_send_message_length": 1000 };
    await using loopback = await listen({ routes: echoRoutes }, limit);
    for (const method of ["unary", "serverStream"] as const) {
      const outcome = await loopback.call[client](method, ["x".repeat(1001)]);
      expect(outcome.code).toBe(Code.ResourceExhausted);
    }
    expect((await loopback.call[client]("unary", ["hi"])).values).toEqual(["hi"]);
  });
});

describe("a request that cannot be parsed", () => {
  const invalidUtf8 = Uint8Array.of(10, 2, 0xc3, 0x28);
  const truncated = Uint8Array.of(10, 100, 65);

  test.each(["Unary", "ServerStream", "ClientStream"])(
    "is an invalid argument of %s",
    async (method) => {
      await using loopback = await listen({ routes: echoRoutes });
      for (const bytes of [invalidUtf8, truncated]) {
        const { error } = await callWithBytes(loopback.grpcClient, method, bytes);
        expect(error?.code).toBe(Code.InvalidArgument);
        expect(error?.details).toMatch(/^cannot parse google\.protobuf\.StringValue: ./);
      }
      expect((await loopback.call["grpc-js"]("unary", ["hi"])).values).toEqual(["hi"]);
    },
  );

  test.each(["Unary", "ServerStream", "ClientStream"])(
    "is seen by the interceptors of %s",
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
      await using loopback = await listen({ routes: echoRoutes, interceptors: [log] });
      await callWithBytes(loopback.grpcClient, method, invalidUtf8);
      expect(failures).toEqual([expect.objectContaining({ code: Code.InvalidArgument })]);
    },
  );

  test("may be described further by who knows its type", async () => {
    const describeMalformed: ConnectRoutesOptions["describeMalformed"] = (error, desc, bytes) =>
      new ConnectError(`${desc.name} of ${bytes.length}: ${error.rawMessage}`, error.code);
    await using loopback = await listen({ routes: echoRoutes, describeMalformed });
    for (const method of ["Unary", "ServerStream"]) {
      const { error } = await callWithBytes(loopback.grpcClient, method, truncated);
      expect(error?.code).toBe(Code.InvalidArgument);
      expect(error?.details).toMatch(/^StringValue of 3: cannot parse /);
    }
  });

  test("is not parsed when an interceptor refuses the call", async () => {
    const refuse: Interceptor = () => async () => {
      throw new Error("refused");
    };
    await using loopback = await listen({ routes: echoRoutes, interceptors: [refuse] });
    const { error } = await callWithBytes(loopback.grpcClient, "Unary", invalidUtf8);
    expect(error?.code).toBe(Code.Internal);
  });
});

test("a request with two messages for one is unimplemented, as gRPC prescribes", async () => {
  await using loopback = await listen({ routes: echoRoutes });
  const bytes = Buffer.from(toBinary(StringValueSchema, create(StringValueSchema, { value: "x" })));
  const identity = (message: Buffer) => message;
  for (const method of ["Unary", "ServerStream"]) {
    for (const count of [0, 2]) {
      const path = `/echo.v1.EchoService/${method}`;
      const call = loopback.grpcClient.makeClientStreamRequest(path, identity, identity, () => {});
      for (let n = 0; n < count; n++) {
        call.write(bytes);
      }
      call.end();
      const [{ code }] = await once(call, "status");
      expect(code).toBe(Code.Unimplemented);
    }
  }
});

test("a bytes field is a plain Uint8Array, as with every other transport", async () => {
  let received: Uint8Array = new Uint8Array();
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unaryBytes, ({ value }) => {
      received = value;
      return { value };
    });
  };
  await using loopback = await listen({ routes });
  const message = create(BytesValueSchema, { value: Uint8Array.of(1, 2, 3) });
  const bytes = toBinary(BytesValueSchema, message);
  const { response } = await callWithBytes(loopback.grpcClient, "UnaryBytes", bytes);
  expect(Object.getPrototypeOf(received)).toBe(Uint8Array.prototype);
  expect(response).toEqual(Buffer.from(bytes));
});

test("options of the binary format apply", async () => {
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unaryBytes, (request) => request);
  };
  const withUnknownField = Uint8Array.of(10, 1, 65, 0x78, 1);
  await using keeping = await listen({ routes });
  await using notReading = await listen({ routes, binaryOptions: { readUnknownFields: false } });
  await using notWriting = await listen({ routes, binaryOptions: { writeUnknownFields: false } });
  for (const [loopback, length] of [
    [keeping, 5],
    [notReading, 3],
    [notWriting, 3],
  ] as const) {
    const { response } = await callWithBytes(loopback.grpcClient, "UnaryBytes", withUnknownField);
    expect(response).toHaveLength(length);
  }
});

test("a compressed request is understood", async () => {
  await using loopback = await listen({ routes: echoRoutes });
  const transport = createGrpcTransport({
    baseUrl: loopback.baseUrl,
    sendCompression: compressionGzip,
    compressMinBytes: 0,
  });
  const value = "x".repeat(10_000);
  expect((await createClient(EchoService, transport).unary({ value })).value).toBe(value);
});

/**
 * Opens a server-streaming call and reads nothing of the response: grpc-js's
 * own client reads ahead of its caller without limit.
 */
function requestWithoutReading(baseUrl: string) {
  const session = connect(baseUrl);
  const stream = session.request({
    ":method": "POST",
    ":path": "/echo.v1.EchoService/ServerStream",
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.end(Buffer.alloc(5));
  return { session, stream };
}

test("a client that does not read stops the stream, not the server's memory", async () => {
  const total = 1_000;
  const message = { value: "x".repeat(64 * 1024) };
  const frameLength = 5 + toBinary(StringValueSchema, create(StringValueSchema, message)).length;
  let produced = 0;
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.serverStream, async function* () {
      for (; produced < total; produced++) {
        yield message;
      }
    });
  };
  await using loopback = await listen({ routes });
  const { session, stream } = requestWithoutReading(loopback.baseUrl);
  await once(stream, "response");
  let before = -1;
  while (produced !== before) {
    before = produced;
    await sleep(100);
  }
  // grpc-js holds 16 messages, and HTTP/2 one or two.
  expect(produced).toBeLessThan(30);

  let received = 0;
  for await (const bytes of stream) {
    received += bytes.length;
  }
  session.destroy();
  expect(received).toBe(total * frameLength);
});

test("a client that neither reads nor stays ends the generator", async () => {
  const closed = Promise.withResolvers<void>();
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.serverStream, async function* () {
      try {
        for (;;) {
          yield { value: "x".repeat(64 * 1024) };
          await setImmediate();
        }
      } finally {
        closed.resolve();
      }
    });
  };
  await using loopback = await listen({ routes });
  const { session, stream } = requestWithoutReading(loopback.baseUrl);
  await once(stream, "response");
  await sleep(100);
  session.destroy();
  await closed.promise;
});
