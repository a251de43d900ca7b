import { once } from "node:events";
import { setImmediate } from "node:timers/promises";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { CLIENTS, listen } from "../testing/loopback.js";
import { addConnectRoutes } from "./add-connect-routes.js";

function echoRoutes(router: ConnectRouter) {
  router.service(EchoService, {
    unary: ({ value }) => ({ value: `you said ${value}` }),
    async *serverStream({ value }) {
      for (const word of value.split(" ")) {
        yield { value: word };
      }
    },
    async clientStream(requests) {
      const values: string[] = [];
      for await (const { value } of requests) {
        values.push(value);
      }
      return { value: values.join(" ") };
    },
    async *bidi(requests) {
      for await (const { value } of requests) {
        yield { value: value.toUpperCase() };
      }
    },
  });
}

describe.each(CLIENTS)("called by %s", (client) => {
  test("a unary method answers", async () => {
    await using loopback = await listen({ routes: echoRoutes });
    const outcome = await loopback.call[client]("unary", ["grüezi 👋"]);
    expect(outcome).toMatchObject({ code: 0, values: ["you said grüezi 👋"] });
  });

  test("a server-streaming method sends its messages in order", async () => {
    await using loopback = await listen({ routes: echoRoutes });
    const outcome = await loopback.call[client]("serverStream", ["one two three"]);
    expect(outcome).toMatchObject({ code: 0, values: ["one", "two", "three"] });
  });

  test("a client-streaming method receives all messages", async () => {
    await using loopback = await listen({ routes: echoRoutes });
    const outcome = await loopback.call[client]("clientStream", ["one", "two", "three"]);
    expect(outcome).toMatchObject({ code: 0, values: ["one two three"] });
  });

  test("a bidirectional method answers each message", async () => {
    await using loopback = await listen({ routes: echoRoutes });
    const outcome = await loopback.call[client]("bidi", ["one", "two"]);
    expect(outcome).toMatchObject({ code: 0, values: ["ONE", "TWO"] });
  });

  test("messages without content are messages all the same", async () => {
    await using loopback = await listen({ routes: echoRoutes });
    expect(await loopback.call[client]("unary", [""])).toMatchObject({ values: ["you said "] });
    expect(await loopback.call[client]("bidi", ["", ""])).toMatchObject({ values: ["", ""] });
  });

  test("a stream may be empty", async () => {
    const routes = (router: ConnectRouter) => {
      router.service(EchoService, { async *serverStream() {} });
    };
    await using loopback = await listen({ routes });
    expect(await loopback.call[client]("serverStream", [""])).toMatchObject({
      code: 0,
      values: [],
    });
    expect(await loopback.call[client]("serverStream", [""])).toMatchObject({
      code: 0,
      values: [],
    });
  });

  test("a method that the service leaves out is unimplemented", async () => {
    const routes = (router: ConnectRouter) => {
      router.service(EchoService, {});
    };
    await using loopback = await listen({ routes });
    expect(await loopback.call[client]("unary", [""])).toMatchObject({
      code: Code.Unimplemented,
      message: "echo.v1.EchoService.Unary is not implemented",
    });
    expect(await loopback.call[client]("serverStream", [""])).toMatchObject({
      code: Code.Unimplemented,
      message: "echo.v1.EchoService.ServerStream is not implemented",
    });
  });

  test("a single method can be served without its service", async () => {
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.unary, ({ value }) => ({ value }));
    };
    await using loopback = await listen({ routes });
    expect(await loopback.call[client]("unary", ["hi"])).toMatchObject({ code: 0, values: ["hi"] });
    expect(await loopback.call[client]("bidi", [""])).toMatchObject({ code: Code.Unimplemented });
  });
});

test("a bidirectional method answers before the client has sent all", async () => {
  await using loopback = await listen({ routes: echoRoutes });
  const encode = (value: string) =>
    Buffer.from(toBinary(StringValueSchema, create(StringValueSchema, { value })));
  const decode = (bytes: Buffer) => fromBinary(StringValueSchema, bytes).value;
  const path = "/echo.v1.EchoService/Bidi";
  const call = loopback.grpcClient.makeBidiStreamRequest(path, encode, decode);
  for (const word of ["ping", "pong"]) {
    call.write(word);
    const [answer] = await once(call, "data");
    expect(answer).toBe(word.toUpperCase());
  }
  call.end();
  const [{ code }] = await once(call, "status");
  expect(code).toBe(0);
});

test("a handler may stop reading its requests and still respond", async () => {
  const routes = (router: ConnectRouter) => {
    router.service(EchoService, {
      async clientStream(requests) {
        for await (const { value } of requests) {
          return { value };
        }
        return {};
      },
      async *bidi(requests) {
        for await (const { value } of requests) {
          yield { value };
          break;
        }
        await setImmediate();
        yield { value: "enough" };
      },
    });
  };
  await using loopback = await listen({ routes });
  for (const client of CLIENTS) {
    const call = loopback.call[client];
    const values = ["one", "two", "three"];
    expect(await call("clientStream", values)).toMatchObject({ code: 0, values: ["one"] });
    expect(await call("bidi", values)).toMatchObject({ code: 0, values: ["one", "enough"] });
  }
});

test("a handler keeps the `this` of its service", async () => {
  class Greeter {
    greeting = "hello";
    unary() {
      return { value: this.greeting };
    }
  }
  const routes = (router: ConnectRouter) => {
    router.service(EchoService, new Greeter());
  };
  await using loopback = await listen({ routes });
  expect(await loopback.call["grpc-js"]("unary", [""])).toMatchObject({ values: ["hello"] });
});

test("the context tells a handler which call it serves", async () => {
  const seen: unknown[] = [];
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, (_request, context) => {
      seen.push(context);
      return {};
    });
  };
  await using loopback = await listen({ routes });
  await loopback.call["grpc-js"]("unary", [""]);
  expect(seen).toEqual([
    expect.objectContaining({
      method: EchoService.method.unary,
      service: EchoService,
      protocolName: "grpc",
      requestMethod: "POST",
      url: `${loopback.baseUrl}/echo.v1.EchoService/Unary`,
    }),
  ]);
});

test("a copy of the context is a context", async () => {
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, (_request, context) => {
      const { signal, timeoutMs, requestHeader } = { ...context };
      return { value: `${signal.aborted} ${timeoutMs()} ${requestHeader.get("x-name")}` };
    });
  };
  await using loopback = await listen({ routes });
  const outcome = await loopback.call["grpc-js"]("unary", [""], { header: [["x-name", "Ada"]] });
  expect(outcome.values).toEqual(["false undefined Ada"]);
});

test("the same method cannot be served twice", async () => {
  await using loopback = await listen({ routes: echoRoutes });
  expect(() => addConnectRoutes(loopback.server, { routes: echoRoutes })).toThrow(
    "cannot serve /echo.v1.EchoService/Unary: the server has a handler for it already",
  );
});

test("a service option that would guard a service is refused when it has no effect", async () => {
  const requestGate = () => {
    throw new ConnectError("no", Code.PermissionDenied);
  };
  await using loopback = await listen({ routes: () => {} });
  for (const [name, option] of Object.entries({
    requestGate: { requestGate },
    readMaxBytes: { readMaxBytes: 10 },
    writeMaxBytes: { writeMaxBytes: 10 },
  })) {
    const routes = (router: ConnectRouter) => {
      router.service(EchoService, {}, option);
    };
    expect(() => addConnectRoutes(loopback.server, { routes })).toThrow(
      `the option ${name} is not supported`,
    );
  }
});
