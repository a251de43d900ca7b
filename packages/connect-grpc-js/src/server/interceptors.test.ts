import { create } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextKey,
  createContextValues,
  type Interceptor,
  type ServiceImpl,
} from "@connectrpc/connect";
import { expect, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { listen, serveEcho } from "../testing/loopback.js";

const HANDLERS: Partial<ServiceImpl<typeof EchoService>> = {
  unary({ value }, { requestHeader, responseHeader }) {
    responseHeader.set("x-handler", "was here");
    return { value: `${value}, ${requestHeader.get("x-name")}` };
  },
  async *serverStream({ value }, { responseHeader, responseTrailer }) {
    responseHeader.set("x-handler", "was here");
    yield { value };
    responseTrailer.set("x-count", "1");
  },
};

function serveWith(...interceptors: Interceptor[]) {
  return serveEcho(HANDLERS, { interceptors });
}

/** Logs when a call passes it, on the way in and out. */
function trace(name: string, log: string[]): Interceptor {
  return (next) => async (req) => {
    log.push(`${name} in`);
    const res = await next(req);
    log.push(`${name} out`);
    return res;
  };
}

test("the first interceptor is the outermost", async () => {
  const log: string[] = [];
  await using loopback = await serveWith(trace("first", log), trace("second", log));
  await loopback.call("unary", [""]);
  expect(log).toEqual(["first in", "second in", "second out", "first out"]);
});

test.each(["unary", "serverStream", "bidi"] as const)(
  "an interceptor refuses a %s call before the handler runs",
  async (method) => {
    await using loopback = await serveWith(() => () => {
      throw new ConnectError("who are you?", Code.Unauthenticated);
    });
    const outcome = await loopback.call(method, ["hi"]);
    expect(outcome).toMatchObject({ code: Code.Unauthenticated, message: "who are you?" });
    expect(outcome.values).toEqual([]);
    expect(outcome.header).not.toHaveProperty("x-handler");
  },
);

test("an interceptor answers in place of the handler", async () => {
  const message = create(StringValueSchema, { value: "cached" });
  const header = new Headers({ "x-cache": "hit" });
  await using loopback = await serveWith(() => async (req) => {
    if (req.stream) throw new ConnectError("unary only", Code.Unimplemented);
    const { service, method } = req;
    return { stream: false, service, method, message, header, trailer: new Headers() };
  });
  const outcome = await loopback.call("unary", ["hi"]);
  expect(outcome).toMatchObject({ code: 0, values: ["cached"], header: { "x-cache": "hit" } });
});

test("an interceptor replaces messages, headers and trailers", async () => {
  async function* shouted(messages: AsyncIterable<object>) {
    for await (const message of messages) {
      const value = "value" in message ? String(message.value).toUpperCase() : "";
      yield create(StringValueSchema, { value });
    }
  }
  await using loopback = await serveWith((next) => async (req) => {
    const header = new Headers({ "x-name": "Grace" });
    const message = create(StringValueSchema, { value: "good evening" });
    const res = await next(req.stream ? { ...req, header } : { ...req, header, message });
    const own = { header: new Headers({ "x-new": "h" }), trailer: new Headers({ "x-new": "t" }) };
    return res.stream ? { ...res, ...own, message: shouted(res.message) } : { ...res, ...own };
  });
  const unary = await loopback.call("unary", ["good morning"]);
  expect(unary).toMatchObject({ code: 0, values: ["good evening, Grace"] });
  expect(unary).toMatchObject({ header: { "x-new": "h" }, trailer: { "x-new": "t" } });
  expect(unary.header).not.toHaveProperty("x-handler");
  const stream = await loopback.call("serverStream", ["hi"]);
  expect(stream).toMatchObject({ code: 0, values: ["HI"], trailer: { "x-new": "t" } });
  // The generator started after the interceptors had returned.
  expect(stream.header).toMatchObject({ "x-new": "h", "x-handler": "was here" });
  expect(stream.trailer).not.toHaveProperty("x-count");
});

test("an interceptor adds to the headers and trailers of the handler", async () => {
  await using loopback = await serveWith((next) => async (req) => {
    req.header.set("x-name", "Grace");
    const res = await next(req);
    res.header.set("x-request-id", "7");
    res.trailer.set("x-cost", "3");
    return res;
  });
  const unary = await loopback.call("unary", ["hi"]);
  expect(unary).toMatchObject({ values: ["hi, Grace"], trailer: { "x-cost": "3" } });
  expect(unary.header).toMatchObject({ "x-request-id": "7", "x-handler": "was here" });
  const stream = await loopback.call("serverStream", ["hi"]);
  expect(stream.header).toMatchObject({ "x-request-id": "7", "x-handler": "was here" });
  expect(stream.trailer).toMatchObject({ "x-cost": "3", "x-count": "1" });
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
  const unary = () => {
    throw new Error("disk full");
  };
  await using loopback = await serveEcho({ unary }, { interceptors: [replace] });
  const outcome = await loopback.call("unary", [""]);
  expect(outcome).toMatchObject({ code: Code.Unavailable, message: "try later" });
  expect(seen).toEqual([new Error("disk full")]);
});

test("an interceptor sees the request as Connect describes it", async () => {
  const seen: unknown[] = [];
  await using loopback = await serveWith((next) => (req) => {
    seen.push({ ...req });
    return next(req);
  });
  await loopback.call("unary", ["hi"], { header: [["x-name", "Ada"]] });
  await loopback.call("serverStream", ["hi"]);
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
  const spent = AbortSignal.abort(new ConnectError("budget spent", Code.ResourceExhausted));
  const limit: Interceptor = (next) => (req) => next({ ...req, signal: spent });
  const unary = (_request: unknown, { signal }: { signal: AbortSignal }) => {
    signal.throwIfAborted();
    return {};
  };
  await using loopback = await serveEcho({ unary }, { interceptors: [limit] });
  const outcome = await loopback.call("unary", [""]);
  expect(outcome).toMatchObject({ code: Code.ResourceExhausted, message: "budget spent" });
});

test("an interceptor may assign to a request, as to Connect's own, or change its message", async () => {
  const message = create(StringValueSchema, { value: "assigned" });
  await using assigning = await serveWith((next) => (req) => next(Object.assign(req, { message })));
  expect((await assigning.call("unary", ["sent"])).values).toEqual(["assigned, null"]);
  await using editing = await serveWith((next) => (req) => {
    if (!req.stream) Object.assign(req.message, { value: "edited" });
    return next(req);
  });
  expect((await editing.call("unary", ["sent"])).values).toEqual(["edited, null"]);
});

test("each call makes its own interceptor", async () => {
  const counts: number[] = [];
  await using loopback = await serveWith((next) => {
    let calls = 0;
    return (req) => {
      counts.push(++calls);
      return next(req);
    };
  });
  await loopback.call("unary", [""]);
  await loopback.call("unary", [""]);
  expect(counts).toEqual([1, 1]);
});

test("context values carry facts from an interceptor to the next and to the handler", async () => {
  const caller = createContextKey("nobody");
  const peer = createContextKey("");
  const authenticate: Interceptor = (next) => (req) => {
    req.contextValues.set(caller, "Ada");
    return next(req);
  };
  await using loopback = await serveEcho(
    {
      unary: (_request, { values }) => ({
        value: `${values.get(caller)} from ${values.get(peer)}`,
      }),
    },
    {
      interceptors: [authenticate],
      contextValues: (call) => createContextValues().set(peer, call.getPeer()),
    },
  );
  const outcome = await loopback.call("unary", [""]);
  expect(outcome.values).toEqual([expect.stringMatching(/^Ada from 127\.0\.0\.1:\d+$/)]);
});

test("interceptors of a service replace the interceptors of all services", async () => {
  const log: string[] = [];
  const routes = (router: ConnectRouter) => {
    router.service(EchoService, {}, { interceptors: [trace("own", log)] });
  };
  await using loopback = await listen({ routes, interceptors: [trace("all", log)] });
  await loopback.call("unary", [""]);
  expect(log).toEqual(["own in"]);
});
