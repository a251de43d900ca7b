import { anyUnpack, DurationSchema, StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { serveEcho } from "../testing/loopback.js";

/** A mistake that only untyped code can make. */
const NO_STRING: string = Object.create(null);

/** Serves methods of all kinds that throw an error. */
function serveThrowing(error: unknown) {
  const fail = () => {
    throw error;
  };
  return serveEcho({
    unary: fail,
    // biome-ignore lint/correctness/useYield: it fails first.
    async *serverStream() {
      fail();
    },
    async clientStream() {
      return fail();
    },
    // biome-ignore lint/correctness/useYield: it fails first.
    async *bidi() {
      fail();
    },
  });
}

describe.each(["unary", "serverStream", "clientStream", "bidi"] as const)(
  "an error of a %s method",
  (method) => {
    test("keeps its code, message and details", async () => {
      const message = "grüezi 👋 100% \n, that is all";
      const error = new ConnectError(message, Code.ResourceExhausted, undefined, [
        { desc: DurationSchema, value: { seconds: 3n } },
        { desc: StringValueSchema, value: { value: "grüezi" } },
      ]);
      await using loopback = await serveThrowing(error);
      const { status, ...outcome } = await loopback.call(method, [""]);
      expect(outcome).toMatchObject({ code: Code.ResourceExhausted, message, values: [] });
      expect(status).toMatchObject({ code: Code.ResourceExhausted, message });
      const [retry, text] = status?.details ?? [];
      expect(retry?.typeUrl).toBe("type.googleapis.com/google.protobuf.Duration");
      expect(retry && anyUnpack(retry, DurationSchema)?.seconds).toBe(3n);
      expect(text && anyUnpack(text, StringValueSchema)?.value).toBe("grüezi");
    });

    test("does not leak if it is unknown", async () => {
      await using loopback = await serveThrowing(new Error("password: hunter2"));
      const outcome = await loopback.call(method, [""]);
      expect(outcome).toMatchObject({ code: Code.Internal, message: "internal error" });
      expect(JSON.stringify(outcome)).not.toContain("hunter2");
      expect(outcome.status).toBeUndefined();
    });

    test("may contain half a character", async () => {
      const truncated = "bad name: 👋".slice(0, -1);
      const error = new ConnectError(truncated, Code.InvalidArgument, undefined, [
        { desc: StringValueSchema, value: { value: "detail" } },
      ]);
      await using loopback = await serveThrowing(error);
      const outcome = await loopback.call(method, [""]);
      expect(outcome).toMatchObject({ code: Code.InvalidArgument, message: "bad name: \uFFFD" });
      expect(outcome.status?.message).toBe("bad name: \uFFFD");
    });
  },
);

test("an error in mid-stream comes after the messages before it", async () => {
  await using loopback = await serveEcho({
    async *serverStream() {
      for (let n = 0; n < 100; n++) yield { value: String(n) };
      throw new ConnectError("enough", Code.Aborted);
    },
  });
  const outcome = await loopback.call("serverStream", [""]);
  expect(outcome).toMatchObject({ code: Code.Aborted, message: "enough" });
  expect(outcome.values).toHaveLength(100);
});

test("an error from another server keeps its details, but not its headers", async () => {
  const inner = new ConnectError("no", Code.NotFound, { "x-secret": "inner" }, [
    { desc: StringValueSchema, value: { value: "hi" } },
  ]);
  await using upstream = await serveThrowing(inner);
  const client = createClient(EchoService, createGrpcTransport({ baseUrl: upstream.baseUrl }));
  await using loopback = await serveEcho({ unary: () => client.unary({}) });
  const { status, ...outcome } = await loopback.call("unary", [""]);
  expect(outcome).toMatchObject({ code: Code.NotFound, message: "no" });
  expect(outcome.trailer).not.toHaveProperty("x-secret");
  const [detail] = status?.details ?? [];
  expect(detail?.typeUrl).toBe("type.googleapis.com/google.protobuf.StringValue");
  expect(detail && anyUnpack(detail, StringValueSchema)?.value).toBe("hi");
});

test("an error keeps its code when a detail cannot be serialized", async () => {
  const error = new ConnectError("no", Code.NotFound, undefined, [
    { desc: StringValueSchema, value: { value: NO_STRING } },
  ]);
  await using loopback = await serveThrowing(error);
  const outcome = await loopback.call("unary", [""]);
  expect(outcome).toMatchObject({ code: Code.NotFound, message: "no" });
});

test.each([undefined, "text", { code: 5 }])("a thrown %j is an internal error", async (thrown) => {
  await using loopback = await serveThrowing(thrown);
  const outcome = await loopback.call("unary", [""]);
  expect(outcome).toMatchObject({ code: Code.Internal, message: "internal error" });
});

test("a response that cannot be serialized fails its call and no other", async () => {
  const closed = Promise.withResolvers<void>();
  await using loopback = await serveEcho({
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
  const failure = { code: Code.Internal, message: "cannot serialize google.protobuf.StringValue" };
  expect(await loopback.call("unary", ["bad"])).toMatchObject(failure);
  const stream = await loopback.call("serverStream", [""]);
  expect(stream).toMatchObject({ ...failure, values: ["good"] });
  await closed.promise;
  expect(await loopback.call("unary", ["good"])).toMatchObject({ values: ["good"] });
});
