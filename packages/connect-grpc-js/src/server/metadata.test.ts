import {
  Code,
  ConnectError,
  type ConnectRouter,
  decodeBinaryHeader,
  encodeBinaryHeader,
} from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { CLIENTS, listen } from "../testing/loopback.js";

const BYTES = Uint8Array.of(0, 1, 254, 255);

describe.each(CLIENTS)("called by %s", (client) => {
  test("request headers reach the handler", async () => {
    let received = new Headers();
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.unary, (_request, context) => {
        received = context.requestHeader;
        return {};
      });
    };
    await using loopback = await listen({ routes });
    await loopback.call[client]("unary", [""], {
      header: [
        ["authorization", "Bearer abc"],
        ["X-Mixed-Case", "1"],
        ["x-many", "one"],
        ["x-many", "two"],
        ["x-trace-bin", BYTES],
      ],
    });
    expect(received.get("authorization")).toBe("Bearer abc");
    expect(received.get("x-mixed-case")).toBe("1");
    expect(received.get("x-many")).toBe("one, two");
    expect(received.get("x-trace-bin")).toBe(encodeBinaryHeader(BYTES));
    expect(decodeBinaryHeader(received.get("x-trace-bin") ?? "")).toEqual(BYTES);
    expect(received.has("user-agent")).toBe(true);
  });

  test("response headers and trailers reach the client", async () => {
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.unary, (_request, context) => {
        context.responseHeader.set("x-header", "h");
        context.responseHeader.append("x-many", "one");
        context.responseHeader.append("x-many", "two");
        context.responseHeader.set("x-trace-bin", encodeBinaryHeader(BYTES));
        context.responseTrailer.set("x-trailer", "t");
        return {};
      });
    };
    await using loopback = await listen({ routes });
    const { header, trailer } = await loopback.call[client]("unary", [""]);
    expect(header).toMatchObject({ "x-header": "h", "x-many": "one, two" });
    expect(decodeBinaryHeader(header["x-trace-bin"] ?? "")).toEqual(BYTES);
    expect(trailer).toMatchObject({ "x-trailer": "t" });
    expect(header).not.toHaveProperty("x-trailer");
  });

  test("headers of a stream are sent before its first message, trailers after its last", async () => {
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.serverStream, async function* (_request, context) {
        context.responseHeader.set("x-header", "h");
        yield {};
        context.responseHeader.set("x-late", "too late");
        context.responseTrailer.set("x-trailer", "t");
      });
    };
    await using loopback = await listen({ routes });
    const { header, trailer } = await loopback.call[client]("serverStream", [""]);
    expect(header).toMatchObject({ "x-header": "h" });
    expect(header).not.toHaveProperty("x-late");
    expect(trailer).toMatchObject({ "x-trailer": "t" });
  });

  test("headers and trailers are sent with an error, too", async () => {
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.unary, (_request, context) => {
        context.responseHeader.set("x-header", "h");
        context.responseTrailer.set("x-trailer", "t");
        throw new ConnectError("no", Code.NotFound, { "x-error": "e" });
      });
    };
    await using loopback = await listen({ routes });
    const outcome = await loopback.call[client]("unary", [""]);
    expect(outcome).toMatchObject({
      code: Code.NotFound,
      header: { "x-header": "h" },
      trailer: { "x-trailer": "t", "x-error": "e" },
    });
  });

  test("a header that belongs to the protocol cannot be set", async () => {
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.unary, (_request, { responseHeader, responseTrailer }) => {
        for (const name of ["connection", "content-length", "content-type", "grpc-encoding"]) {
          responseHeader.set(name, "gzip");
        }
        responseTrailer.set("grpc-status", "7");
        return { value: "fine" };
      });
    };
    await using loopback = await listen({ routes });
    const outcome = await loopback.call[client]("unary", [""]);
    expect(outcome).toMatchObject({ code: 0, values: ["fine"] });
  });
});

test("several values of a binary header arrive as several", async () => {
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, (_request, context) => {
      const received = context.requestHeader.get("x-trace-bin");
      context.responseTrailer.set("x-trace-bin", received ?? "");
      return { value: received ?? "" };
    });
  };
  await using loopback = await listen({ routes });
  const outcome = await loopback.call["grpc-js"]("unary", [""], {
    header: [
      ["x-trace-bin", Uint8Array.of(1)],
      ["x-trace-bin", Uint8Array.of(2)],
    ],
  });
  expect(outcome.values).toEqual(["AQ, Ag"]);
  expect(outcome.trailer).toMatchObject({ "x-trace-bin": "AQ==,Ag==" });
});

test.each(["responseHeader", "responseTrailer"] as const)(
  "a %s that gRPC cannot carry fails the call and is named",
  async (kind) => {
    const routes = (router: ConnectRouter) => {
      router.service(EchoService, {
        unary(_request, context) {
          context[kind].set("x-city", "Zürich");
          return {};
        },
        async *serverStream(_request, context) {
          context[kind].set("x-city", "Zürich");
          yield {};
        },
      });
    };
    await using loopback = await listen({ routes });
    for (const method of ["unary", "serverStream"] as const) {
      expect(await loopback.call["grpc-js"](method, [""])).toMatchObject({
        code: Code.Internal,
        message: "gRPC metadata cannot carry the response header x-city",
      });
    }
  },
);

test("an error keeps its code when its metadata cannot be carried", async () => {
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, (_request, context) => {
      context.responseHeader.set("x-city", "Zürich");
      throw new ConnectError("no", Code.PermissionDenied, { "x-city": "Zürich" });
    });
  };
  await using loopback = await listen({ routes });
  expect(await loopback.call["grpc-js"]("unary", [""])).toMatchObject({
    code: Code.PermissionDenied,
    message: "no",
  });
});
