import { once } from "node:events";
import { setImmediate } from "node:timers/promises";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { decode, encode, pathOf } from "../testing/echo-client.js";
import { EchoService } from "../testing/echo-service.js";
import { ECHO, listen, serveEcho } from "../testing/loopback.js";
import { addConnectRoutes } from "./add-connect-routes.js";

test.each([
  ["unary", ["grüezi 👋"], ["grüezi 👋"]],
  ["unary", [""], [""]],
  ["serverStream", ["one two three"], ["one", "two", "three"]],
  ["clientStream", ["one", "two", "three"], ["one two three"]],
  ["bidi", ["one", "two"], ["ONE", "TWO"]],
  ["bidi", ["", ""], ["", ""]],
  ["bidi", [], []],
] as const)("a %s method answers %j with %j", async (method, requests, responses) => {
  await using loopback = await serveEcho(ECHO);
  expect(await loopback.call(method, requests)).toMatchObject({ code: 0, values: responses });
});

test("a method that the service leaves out is unimplemented", async () => {
  await using loopback = await serveEcho({});
  const code = Code.Unimplemented;
  const unary = "echo.v1.EchoService.Unary is not implemented";
  expect(await loopback.call("unary", [""])).toMatchObject({ code, message: unary });
  const stream = "echo.v1.EchoService.ServerStream is not implemented";
  expect(await loopback.call("serverStream", [""])).toMatchObject({ code, message: stream });
});

test("a single method can be served without its service", async () => {
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, ({ value }) => ({ value }));
  };
  await using loopback = await listen({ routes });
  expect(await loopback.call("unary", ["hi"])).toMatchObject({ code: 0, values: ["hi"] });
  expect(await loopback.call("bidi", [""])).toMatchObject({ code: Code.Unimplemented });
});

test("a bidirectional method answers before the client has sent all", async () => {
  await using loopback = await serveEcho(ECHO);
  const call = loopback.grpcClient.makeBidiStreamRequest(pathOf("bidi"), encode, decode);
  for (const word of ["ping", "pong"]) {
    call.write(word);
    expect(await once(call, "data")).toEqual([word.toUpperCase()]);
  }
  call.end();
  const [{ code }] = await once(call, "status");
  expect(code).toBe(0);
});

test("a handler may stop reading its requests and still respond", async () => {
  await using loopback = await serveEcho({
    async clientStream(requests) {
      for await (const { value } of requests) return { value };
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
  const values = ["one", "two", "three"];
  const single = await loopback.call("clientStream", values);
  expect(single).toMatchObject({ code: 0, values: ["one"] });
  const stream = await loopback.call("bidi", values);
  expect(stream).toMatchObject({ code: 0, values: ["one", "enough"] });
});

test("a handler keeps the `this` of its service", async () => {
  class Greeter {
    greeting = "hello";
    unary() {
      return { value: this.greeting };
    }
  }
  await using loopback = await serveEcho(new Greeter());
  expect(await loopback.call("unary", [""])).toMatchObject({ values: ["hello"] });
});

test("the context, or a copy of it, tells a handler which call it serves", async () => {
  const seen: unknown[] = [];
  await using loopback = await serveEcho({
    unary(_request, context) {
      const { signal, timeoutMs, requestHeader, ...rest } = { ...context };
      seen.push(rest);
      return { value: `${signal.aborted} ${timeoutMs()} ${requestHeader.get("x-name")}` };
    },
  });
  const outcome = await loopback.call("unary", [""], { header: [["x-name", "Ada"]] });
  expect(outcome.values).toEqual(["false undefined Ada"]);
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

test("the same method cannot be served twice", async () => {
  await using loopback = await serveEcho({});
  const routes = (router: ConnectRouter) => {
    router.service(EchoService, {});
  };
  expect(() => addConnectRoutes(loopback.server, { routes })).toThrow(
    "cannot serve /echo.v1.EchoService/Unary: the server has a handler for it already",
  );
});

test.each([
  ["requestGate", { requestGate: async () => {} }],
  ["readMaxBytes", { readMaxBytes: 10 }],
  ["writeMaxBytes", { writeMaxBytes: 10 }],
])("the option %s, which would have no effect, is refused", async (name, option) => {
  const routes = (router: ConnectRouter) => {
    router.service(EchoService, {}, option);
  };
  await expect(listen({ routes })).rejects.toThrow(`the option ${name} is not supported`);
});
