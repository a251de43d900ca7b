import { Code, ConnectError, decodeBinaryHeader, encodeBinaryHeader } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { serveEcho } from "../testing/loopback.js";

type ResponseHeaders = Record<"responseHeader" | "responseTrailer", Headers>;
const BYTES = Uint8Array.of(0, 1, 254, 255);

test("request headers reach the handler, several values joined", async () => {
  let received = new Headers();
  await using loopback = await serveEcho({
    unary(_request, { requestHeader, responseTrailer }) {
      received = requestHeader;
      responseTrailer.set("x-many-bin", requestHeader.get("x-many-bin") ?? "");
      return {};
    },
  });
  const { trailer } = await loopback.call("unary", [""], {
    header: [
      ["authorization", "Bearer abc"],
      ["X-Mixed-Case", "1"],
      ["x-many", "one"],
      ["x-many", "two"],
      ["x-trace-bin", BYTES],
      ["x-many-bin", Uint8Array.of(1)],
      ["x-many-bin", Uint8Array.of(2)],
    ],
  });
  expect(received.get("authorization")).toBe("Bearer abc");
  expect(received.get("x-mixed-case")).toBe("1");
  expect(received.get("x-many")).toBe("one, two");
  expect(received.get("x-trace-bin")).toBe(encodeBinaryHeader(BYTES));
  expect(received.has("user-agent")).toBe(true);
  expect(received.get("x-many-bin")).toBe("AQ, Ag");
  expect(trailer).toMatchObject({ "x-many-bin": "AQ==,Ag==" });
});

test("response headers and trailers reach the client", async () => {
  await using loopback = await serveEcho({
    unary(_request, { responseHeader, responseTrailer }) {
      responseHeader.set("x-header", "h");
      responseHeader.append("x-many", "one");
      responseHeader.append("x-many", "two");
      responseHeader.set("x-trace-bin", encodeBinaryHeader(BYTES));
      responseTrailer.set("x-trailer", "t");
      return {};
    },
  });
  const { header, trailer } = await loopback.call("unary", [""]);
  expect(header).toMatchObject({ "x-header": "h", "x-many": "one, two" });
  expect(decodeBinaryHeader(header["x-trace-bin"] ?? "")).toEqual(BYTES);
  expect(trailer).toMatchObject({ "x-trailer": "t" });
  expect(header).not.toHaveProperty("x-trailer");
});

test("a stream sends its headers before its first message and its trailers after its last", async () => {
  await using loopback = await serveEcho({
    async *serverStream(_request, { responseHeader, responseTrailer }) {
      responseHeader.set("x-header", "h");
      yield {};
      responseHeader.set("x-late", "too late");
      responseTrailer.set("x-trailer", "t");
    },
  });
  const { header, trailer } = await loopback.call("serverStream", [""]);
  expect(header).toMatchObject({ "x-header": "h" });
  expect(header).not.toHaveProperty("x-late");
  expect(trailer).toMatchObject({ "x-trailer": "t" });
});

test.each(["unary", "serverStream"] as const)(
  "an error of a %s method also has headers and trailers",
  async (method) => {
    const fail = (_request: unknown, context: ResponseHeaders): never => {
      context.responseHeader.set("x-header", "h");
      context.responseTrailer.set("x-trailer", "t");
      throw new ConnectError("no", Code.NotFound, { "x-error": "e" });
    };
    await using loopback = await serveEcho({ unary: fail, serverStream: fail });
    expect(await loopback.call(method, [""])).toMatchObject({
      code: Code.NotFound,
      header: { "x-header": "h" },
      trailer: { "x-trailer": "t", "x-error": "e" },
    });
  },
);

test("a handler cannot set a header of the protocol", async () => {
  await using loopback = await serveEcho({
    unary(_request, { responseHeader, responseTrailer }) {
      for (const name of ["connection", "content-length", "content-type", "grpc-encoding"]) {
        responseHeader.set(name, "gzip");
      }
      responseTrailer.set("grpc-status", "7");
      return { value: "fine" };
    },
  });
  expect(await loopback.call("unary", [""])).toMatchObject({ code: 0, values: ["fine"] });
});

test.each([
  ["unary", "responseHeader"],
  ["unary", "responseTrailer"],
  ["serverStream", "responseHeader"],
  ["serverStream", "responseTrailer"],
] as const)("a %s call fails if gRPC cannot carry its %s", async (method, kind) => {
  await using loopback = await serveEcho({
    unary(_request, context) {
      context[kind].set("x-city", "Zürich");
      return {};
    },
    async *serverStream(_request, context) {
      context[kind].set("x-city", "Zürich");
      yield {};
    },
  });
  expect(await loopback.call(method, [""])).toMatchObject({
    code: Code.Internal,
    message: "gRPC metadata cannot carry the response header x-city",
  });
});

test("an error keeps its code if gRPC cannot carry its metadata", async () => {
  await using loopback = await serveEcho({
    unary(_request, context) {
      context.responseHeader.set("x-city", "Zürich");
      throw new ConnectError("no", Code.PermissionDenied, { "x-city": "Zürich" });
    },
  });
  expect(await loopback.call("unary", [""])).toMatchObject({
    code: Code.PermissionDenied,
    message: "no",
  });
});
