import { create } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextKey,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { CLIENTS, listen } from "../testing/loopback.js";

function routes(router: ConnectRouter) {
  router.service(EchoService, {
    unary: ({ value }, context) => {
      context.responseHeader.set("x-handler", "was here");
      return { value: `${value}, ${context.requestHeader.get("x-name")}` };
    },
    async *serverStream({ value }, context) {
      context.responseHeader.set("x-handler", "was here");
      yield { value };
      context.responseTrailer.set("x-count", "1");
    },
  });
}

/** Writes down when a call passes it, on the way in and out. */
function trace(name: string, log: string[]): Interceptor {
  return (next) => async (req) => {
    log.push(`${name} in`);
    const res = await next(req);
    log.push(`${name} out`);
    return res;
  };
}

describe.each(CLIENTS)("called by %s", (client) => {
  test("the first interceptor is the outermost", async () => {
    const log: string[] = [];
    const interceptors = [trace("first", log), trace("second", log)];
    await using loopback = await listen({ routes, interceptors });
    await loopback.call[client]("unary", [""]);
    expect(log).toEqual(["first in", "second in", "second out", "first out"]);
  });

  test("an interceptor refuses a call before the handler runs", async () => {
    const refuse: Interceptor = () => () => {
      throw new ConnectError("who are you?", Code.Unauthenticated);
    };
    await using loopback = await listen({ routes, interceptors: [refuse] });
    for (const method of ["unary", "serverStream", "bidi"] as const) {
      const outcome = await loopback.call[client](method, ["hi"]);
      expect(outcome).toMatchObject({ code: Code.Unauthenticated, message: "who are you?" });
      expect(outcome.values).toEqual([]);
      expect(outcome.header).not.toHaveProperty("x-handler");
    }
  });

  test("an interceptor answers in place of the handler", async () => {
    const message = create(StringValueSchema, { value: "cached" });
    const answer: Interceptor = () => async (req) => {
      if (req.stream) {
        throw new ConnectError("unary only", Code.Unimplemented);
      }
      const { service, method } = req;
      const header = new Headers({ "x-cache": "hit" });
      return { stream: false, service, method, message, header, trailer: new Headers() };
    };
    await using loopback = await listen({ routes, interceptors: [answer] });
    const outcome = await loopback.call[client]("unary", ["hi"]);
    expect(outcome).toMatchObject({ code: 0, values: ["cached"], header: { "x-cache": "hit" } });
  });

  test("an interceptor replaces messages, headers and trailers", async () => {
    const replace: Interceptor = (next) => async (req) => {
      const header = new Headers({ "x-name": "Grace" });
      if (req.stream) {
        const res = await next({ ...req, header });
        return {
          ...res,
          header: new Headers({ "x-new": "h" }),
          trailer: new Headers({ "x-new": "t" }),
        };
      }
      const message = create(StringValueSchema, { value: "good evening" });
      const res = await next({ ...req, header, message });
      return {
        ...res,
        header: new Headers({ "x-new": "h" }),
        trailer: new Headers({ "x-new": "t" }),
      };
    };
    await using loopback = await listen({ routes, interceptors: [replace] });
    const unary = await loopback.call[client]("unary", ["good morning"]);
    expect(unary).toMatchObject({
      code: 0,
      values: ["good evening, Grace"],
      header: { "x-new": "h" },
    });
    expect(unary.trailer).toMatchObject({ "x-new": "t" });
    expect(unary.header).not.toHaveProperty("x-handler");
    const stream = await loopback.call[client]("serverStream", ["hi"]);
    expect(stream).toMatchObject({ code: 0, values: ["hi"], trailer: { "x-new": "t" } });
    // The generator started after the interceptors had returned.
    expect(stream.header).toMatchObject({ "x-new": "h", "x-handler": "was here" });
    expect(stream.trailer).not.toHaveProperty("x-count");
  });

  test("an interceptor adds to the headers and trailers of the handler", async () => {
    const add: Interceptor = (next) => async (req) => {
      req.header.set("x-name", "Grace");
      const res = await next(req);
      res.header.set("x-request-id", "7");
      res.trailer.set("x-cost", "3");
      return res;
    };
    await using loopback = await listen({ routes, interceptors: [add] });
    const unary = await loopback.call[client]("unary", ["hi"]);
    expect(unary).toMatchObject({ values: ["hi, Grace"], trailer: { "x-cost": "3" } });
    expect(unary.header).toMatchObject({ "x-request-id": "7", "x-handler": "was here" });
    const stream = await loopback.call[client]("serverStream", ["hi"]);
    expect(stream.header).toMatchObject({ "x-request-id": "7", "x-handler": "was here" });
    expect(stream.trailer).toMatchObject({ "x-cost": "3", "x-count": "1" });
  });

  test("an interceptor sees and changes the messages of a stream", async () => {
    const shout: Interceptor = (next) => async (req) => {
      const res = await next(req);
      if (!res.stream) {
        return res;
      }
      const { message } = res;
      async function* shouted() {
        for await (const item of message) {
          const value = "value" in item ? String(item.value).toUpperCase() : "";
          yield create(StringValueSchema, { value });
        }
      }
      return { ...res, message: shouted() };
    };
    await using loopback = await listen({ routes, interceptors: [shout] });
    const outcome = await loopback.call[client]("serverStream", ["hi"]);
    expect(outcome).toMatchObject({ code: 0, values: ["HI"], trailer: { "x-count": "1" } });
  });
});

test("an interceptor sees an error of the handler and may replace it", async () => {
  const seen: unknown[] = [];
  const replace: Interceptor = (next) => async (req) => {
    try {
      return await next(req);
    } catch (error) {
      seen.push(error);
      throw new ConnectError("try later", Code.Unavailable);
    }
  };
  const failing = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, () => {
      throw new Error("disk full");
    });
  };
  await using loopback = await listen({ routes: failing, interceptors: [replace] });
  const outcome = await loopback.call["grpc-js"]("unary", [""]);
  expect(outcome).toMatchObject({ code: Code.Unavailable, message: "try later" });
  expect(seen).toEqual([new Error("disk full")]);
});

test("an interceptor sees the request as Connect describes it", async () => {
  const seen: unknown[] = [];
  const look: Interceptor = (next) => (req) => {
    seen.push({ ...req });
    return next(req);
  };
  await using loopback = await listen({ routes, interceptors: [look] });
  await loopback.call["grpc-js"]("unary", ["hi"], { header: [["x-name", "Ada"]] });
  await loopback.call["grpc-js"]("serverStream", ["hi"]);
  expect(seen).toEqual([
    expect.objectContaining({
      stream: false,
      method: EchoService.method.unary,
      service: EchoService,
      requestMethod: "POST",
      url: `${loopback.baseUrl}/echo.v1.EchoService/Unary`,
      message: create(StringValueSchema, { value: "hi" }),
      header: expect.any(Headers),
      signal: expect.any(AbortSignal),
      contextValues: expect.any(Object),
    }),
    expect.objectContaining({ stream: true, method: EchoService.method.serverStream }),
  ]);
});

test("the handler gets the signal that an interceptor put in place of the call's", async () => {
  const controller = new AbortController();
  controller.abort(new ConnectError("budget spent", Code.ResourceExhausted));
  const limit: Interceptor = (next) => (req) => next({ ...req, signal: controller.signal });
  const obedient = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, (_request, { signal }) => {
      signal.throwIfAborted();
      return {};
    });
  };
  await using loopback = await listen({ routes: obedient, interceptors: [limit] });
  const outcome = await loopback.call["grpc-js"]("unary", [""]);
  expect(outcome).toMatchObject({ code: Code.ResourceExhausted, message: "budget spent" });
});

test("an interceptor may assign to a request, as to Connect's own", async () => {
  const assign: Interceptor = (next) => (req) =>
    next(Object.assign(req, { message: create(StringValueSchema, { value: "assigned" }) }));
  await using loopback = await listen({ routes, interceptors: [assign] });
  const outcome = await loopback.call["grpc-js"]("unary", ["sent"]);
  expect(outcome.values).toEqual(["assigned, null"]);
});

test("an interceptor may change a message in place", async () => {
  const edit: Interceptor = (next) => (req) => {
    if (!req.stream) {
      Object.assign(req.message, { value: "edited" });
    }
    return next(req);
  };
  await using loopback = await listen({ routes, interceptors: [edit] });
  const outcome = await loopback.call["grpc-js"]("unary", ["sent"]);
  expect(outcome.values).toEqual(["edited, null"]);
});

test("an interceptor is made anew for each call", async () => {
  const counts: number[] = [];
  const count: Interceptor = (next) => {
    let calls = 0;
    return (req) => {
      calls++;
      counts.push(calls);
      return next(req);
    };
  };
  await using loopback = await listen({ routes, interceptors: [count] });
  await loopback.call["grpc-js"]("unary", [""]);
  await loopback.call["grpc-js"]("unary", [""]);
  expect(counts).toEqual([1, 1]);
});

test("context values carry what one interceptor knows to the next and to the handler", async () => {
  const caller = createContextKey("nobody");
  const peer = createContextKey("");
  const authenticate: Interceptor = (next) => (req) => {
    req.contextValues.set(caller, "Ada");
    return next(req);
  };
  const whoami = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, (_request, { values }) => ({
      value: `${values.get(caller)} from ${values.get(peer)}`,
    }));
  };
  await using loopback = await listen({
    routes: whoami,
    interceptors: [authenticate],
    contextValues: (call) => createContextValues().set(peer, call.getPeer()),
  });
  const outcome = await loopback.call["grpc-js"]("unary", [""]);
  expect(outcome.values).toEqual([expect.stringMatching(/^Ada from 127\.0\.0\.1:\d+$/)]);
});

test("interceptors of a service take the place of those of all services", async () => {
  const log: string[] = [];
  const own = (router: ConnectRouter) => {
    router.service(EchoService, {}, { interceptors: [trace("own", log)] });
  };
  await using loopback = await listen({ routes: own, interceptors: [trace("all", log)] });
  await loopback.call["grpc-js"]("unary", [""]);
  expect(log).toEqual(["own in"]);
});
