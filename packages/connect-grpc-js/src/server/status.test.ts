import { create, toBinary } from "@bufbuild/protobuf";
import { anyUnpack, DurationSchema, StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { CLIENTS, listen } from "../testing/loopback.js";

/** A mistake that only untyped code can make. */
const NO_STRING: string = Object.create(null);

/** Routes whose methods of all kinds throw an error. */
function throwing(error: unknown) {
  return (router: ConnectRouter) => {
    router.service(EchoService, {
      unary() {
        throw error;
      },
      // biome-ignore lint/correctness/useYield: it fails first.
      async *serverStream() {
        throw error;
      },
      async clientStream() {
        throw error;
      },
      // biome-ignore lint/correctness/useYield: it fails first.
      async *bidi() {
        throw error;
      },
    });
  };
}

const METHODS = ["unary", "serverStream", "clientStream", "bidi"] as const;

describe.each(CLIENTS)("called by %s", (client) => {
  test.each(METHODS)("an error of a %s method keeps its code and message", async (method) => {
    const message = "grüezi 👋 100% \n, that is all";
    const routes = throwing(new ConnectError(message, Code.FailedPrecondition));
    await using loopback = await listen({ routes });
    const outcome = await loopback.call[client](method, [""]);
    expect(outcome).toMatchObject({ code: Code.FailedPrecondition, message, values: [] });
    expect(outcome.status).toBeUndefined();
  });

  test.each(METHODS)("an error of a %s method keeps its details", async (method) => {
    const error = new ConnectError("no", Code.ResourceExhausted, undefined, [
      { desc: DurationSchema, value: { seconds: 3n } },
      { desc: StringValueSchema, value: { value: "grüezi" } },
    ]);
    await using loopback = await listen({ routes: throwing(error) });
    const { status } = await loopback.call[client](method, [""]);
    expect(status).toMatchObject({ code: Code.ResourceExhausted, message: "no" });
    const [retry, text] = status?.details ?? [];
    expect(retry?.typeUrl).toBe("type.googleapis.com/google.protobuf.Duration");
    expect(retry && anyUnpack(retry, DurationSchema)?.seconds).toBe(3n);
    expect(text && anyUnpack(text, StringValueSchema)?.value).toBe("grüezi");
  });

  test.each(METHODS)("an unknown error of a %s method does not leak", async (method) => {
    await using loopback = await listen({ routes: throwing(new Error("password: hunter2")) });
    const outcome = await loopback.call[client](method, [""]);
    expect(outcome).toMatchObject({ code: Code.Internal, message: "internal error" });
    expect(JSON.stringify(outcome)).not.toContain("hunter2");
  });

  test("an error in mid-stream comes after the messages before it", async () => {
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.serverStream, async function* () {
        for (let n = 0; n < 100; n++) {
          yield { value: String(n) };
        }
        throw new ConnectError("enough", Code.Aborted);
      });
    };
    await using loopback = await listen({ routes });
    const outcome = await loopback.call[client]("serverStream", [""]);
    expect(outcome).toMatchObject({ code: Code.Aborted, message: "enough" });
    expect(outcome.values).toHaveLength(100);
  });
});

test("details received from another server are passed on", async () => {
  const error = new ConnectError("no", Code.NotFound);
  const value = toBinary(StringValueSchema, create(StringValueSchema, { value: "hi" }));
  error.details.push({ type: "google.protobuf.StringValue", value });
  await using loopback = await listen({ routes: throwing(error) });
  const { status } = await loopback.call["grpc-js"]("unary", [""]);
  const [detail] = status?.details ?? [];
  expect(detail?.typeUrl).toBe("type.googleapis.com/google.protobuf.StringValue");
  expect(detail && anyUnpack(detail, StringValueSchema)?.value).toBe("hi");
});

test("headers received from another server with an error are not passed on", async () => {
  const inner = throwing(new ConnectError("no", Code.NotFound, { "x-secret": "inner" }));
  await using upstream = await listen({ routes: inner });
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, async () => {
      const transport = createGrpcTransport({ baseUrl: upstream.baseUrl });
      return await createClient(EchoService, transport).unary({});
    });
  };
  await using loopback = await listen({ routes });
  const outcome = await loopback.call["grpc-js"]("unary", [""]);
  expect(outcome).toMatchObject({ code: Code.NotFound, message: "no" });
  expect(outcome.trailer).not.toHaveProperty("x-secret");
});

test.each(METHODS)(
  "a message of a %s method that holds half a character does no harm",
  async (method) => {
    const truncated = "bad name: 👋".slice(0, -1);
    const error = new ConnectError(truncated, Code.InvalidArgument, undefined, [
      { desc: StringValueSchema, value: { value: "detail" } },
    ]);
    await using loopback = await listen({ routes: throwing(error) });
    const outcome = await loopback.call["grpc-js"](method, [""]);
    expect(outcome).toMatchObject({ code: Code.InvalidArgument, message: "bad name: \uFFFD" });
    expect(outcome.status?.message).toBe("bad name: \uFFFD");
  },
);

test("an error keeps its code when a detail cannot be serialized", async () => {
  const error = new ConnectError("no", Code.NotFound, undefined, [
    { desc: StringValueSchema, value: { value: NO_STRING } },
  ]);
  await using loopback = await listen({ routes: throwing(error) });
  const outcome = await loopback.call["grpc-js"]("unary", [""]);
  expect(outcome).toMatchObject({ code: Code.NotFound, message: "no" });
});

test("what is thrown need not be an error", async () => {
  for (const thrown of [undefined, null, "text", { code: 5 }]) {
    await using loopback = await listen({ routes: throwing(thrown) });
    const outcome = await loopback.call["grpc-js"]("unary", [""]);
    expect(outcome).toMatchObject({ code: Code.Internal, message: "internal error" });
  }
});

test("a response that cannot be serialized fails its call and no other", async () => {
  const closed = Promise.withResolvers<void>();
  const routes = (router: ConnectRouter) => {
    router.service(EchoService, {
      unary: ({ value }) => ({ value: value === "bad" ? NO_STRING : value }),
      async *serverStream() {
        try {
          yield { value: "good" };
          yield { value: NO_STRING };
        } finally {
          closed.resolve();
        }
      },
    });
  };
  await using loopback = await listen({ routes });
  const failure = { code: Code.Internal, message: "cannot serialize google.protobuf.StringValue" };
  expect(await loopback.call["grpc-js"]("unary", ["bad"])).toMatchObject(failure);
  expect(await loopback.call["grpc-js"]("serverStream", [""])).toMatchObject({
    ...failure,
    values: ["good"],
  });
  await closed.promise;
  expect(await loopback.call["grpc-js"]("unary", ["good"])).toMatchObject({ values: ["good"] });
});
