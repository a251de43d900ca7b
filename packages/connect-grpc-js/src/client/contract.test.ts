import { DurationSchema } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  createClient,
  createContextKey,
  createContextValues,
  decodeBinaryHeader,
  encodeBinaryHeader,
  type Interceptor,
} from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, onTestFinished, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { ECHO, serveEcho } from "../testing/loopback.js";
import { createGrpcJsTransport } from "./grpc-js-transport.js";

interface Options {
  readonly baseUrl: string;
  readonly interceptors?: Interceptor[];
}

const TRANSPORTS = {
  "connect-node": (options: Options) => createGrpcTransport(options),
  "grpc-js": (options: Options) => {
    const transport = createGrpcJsTransport(options);
    onTestFinished(() => transport.close());
    return transport;
  },
};

async function collect(messages: AsyncIterable<{ value: string }>): Promise<string[]> {
  const values: string[] = [];
  for await (const { value } of messages) values.push(value);
  return values;
}

/** The error that a call rejects with, whatever it is. */
function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  return call.then(
    () => Promise.reject(new Error("the call was expected to fail")),
    (error: ConnectError) => error,
  );
}

const BYTES = Uint8Array.of(0, 1, 254, 255);
const KINDS = ["unary", "serverStream"] as const;
type Kind = (typeof KINDS)[number];

// What the one answers, the other answers: so an application may take either.
describe.each(Object.keys(TRANSPORTS) as (keyof typeof TRANSPORTS)[])("over %s", (name) => {
  async function start(
    handlers: Parameters<typeof serveEcho>[0],
    interceptors: Interceptor[] = [],
  ) {
    const loopback = await serveEcho(handlers);
    onTestFinished(() => loopback[Symbol.asyncDispose]());
    const transport = TRANSPORTS[name]({ baseUrl: loopback.baseUrl, interceptors });
    const client = createClient(EchoService, transport);
    const call = (kind: Kind, options?: Parameters<typeof client.unary>[1]) =>
      kind === "unary"
        ? client.unary({ value: "one two" }, options).then(({ value }) => [value])
        : collect(client.serverStream({ value: "one two" }, options));
    return { client, call };
  }

  test("all kinds of methods answer", async () => {
    const { client, call } = await start(ECHO);
    const requests = () => createAsyncIterable([{ value: "one" }, { value: "two" }]);
    expect(await call("unary")).toEqual(["one two"]);
    expect(await call("serverStream")).toEqual(["one", "two"]);
    expect(await client.clientStream(requests())).toMatchObject({ value: "one two" });
    expect(await collect(client.bidi(requests()))).toEqual(["ONE", "TWO"]);
  });

  test("a stream without messages ends well", async () => {
    const { call } = await start({ async *serverStream() {} });
    expect(await call("serverStream")).toEqual([]);
  });

  test.each(KINDS)("headers and trailers come and go, binary ones too: %s", async (kind) => {
    let requested = new Headers();
    const answer = (context: {
      requestHeader: Headers;
      responseHeader: Headers;
      responseTrailer: Headers;
    }) => {
      requested = context.requestHeader;
      context.responseHeader.set("x-header-bin", encodeBinaryHeader(BYTES));
      context.responseTrailer.append("x-trailer", "a");
      context.responseTrailer.append("x-trailer", "b");
      return { value: "" };
    };
    const { call } = await start({
      unary: (_, context) => answer(context),
      async *serverStream(_, context) {
        yield answer(context);
      },
    });
    let [header, trailer] = [new Headers(), new Headers()];
    await call(kind, {
      headers: { "X-Plain": "p", "x-trace-bin": encodeBinaryHeader(BYTES) },
      onHeader: (headers) => {
        header = headers;
      },
      onTrailer: (headers) => {
        trailer = headers;
      },
    });
    expect(requested.get("x-plain")).toBe("p");
    expect(decodeBinaryHeader(requested.get("x-trace-bin") ?? "")).toEqual(BYTES);
    expect(decodeBinaryHeader(header.get("x-header-bin") ?? "")).toEqual(BYTES);
    expect(trailer.get("x-trailer")).toBe("a, b");
  });

  test.each(KINDS)("an error has its code, message, details and metadata: %s", async (kind) => {
    const details = [{ desc: DurationSchema, value: { seconds: 3n } }];
    const fail = (): never => {
      throw new ConnectError("grüezi 👋 100%", Code.Aborted, { "x-error": "e" }, details);
    };
    const { call } = await start({
      unary: (_, { responseHeader }) => {
        responseHeader.set("x-header", "h");
        return fail();
      },
      async *serverStream(_, { responseHeader }) {
        responseHeader.set("x-header", "h");
        yield { value: "first" };
        fail();
      },
    });
    const error = await failureOf(call(kind));
    expect(error).toBeInstanceOf(ConnectError);
    expect(error).toMatchObject({ code: Code.Aborted, rawMessage: "grüezi 👋 100%" });
    expect(error.message).toBe("[aborted] grüezi 👋 100%");
    expect(error.findDetails(DurationSchema)).toMatchObject([{ seconds: 3n }]);
    expect(error.metadata.get("x-error")).toBe("e");
    if (kind === "serverStream") expect(error.metadata.get("x-header")).toBe("h");
    expect(error.cause).toBeUndefined();
  });

  test.each(KINDS)("an error before anything else comes alone: %s", async (kind) => {
    const { call } = await start({});
    expect(await failureOf(call(kind))).toMatchObject({ code: Code.Unimplemented });
  });

  test.each(KINDS)("a call ends at its timeout, and the handler is told: %s", async (kind) => {
    const told = Promise.withResolvers<number | undefined>();
    const wait = (context: { signal: AbortSignal; timeoutMs(): number | undefined }) => {
      told.resolve(context.timeoutMs());
      return new Promise<never>(() => {});
    };
    const { call } = await start({
      unary: (_, context) => wait(context),
      // biome-ignore lint/correctness/useYield: it never gets there.
      async *serverStream(_, context) {
        await wait(context);
      },
    });
    const error = await failureOf(call(kind, { timeoutMs: 300 }));
    expect(error).toMatchObject({
      code: Code.DeadlineExceeded,
      rawMessage: "the operation timed out",
    });
    expect(await told.promise).toBeLessThanOrEqual(300);
  });

  test.each(KINDS)("a signal cancels a call, here and at the server: %s", async (kind) => {
    const started = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    const wait = ({ signal }: { signal: AbortSignal }) => {
      signal.addEventListener("abort", () => ended.resolve());
      started.resolve();
      return new Promise<never>(() => {});
    };
    const { call } = await start({
      unary: (_, context) => wait(context),
      // biome-ignore lint/correctness/useYield: it never gets there.
      async *serverStream(_, context) {
        await wait(context);
      },
    });
    const cancel = new AbortController();
    const failure = failureOf(call(kind, { signal: cancel.signal }));
    await started.promise;
    const reason = new Error("the user went away");
    cancel.abort(reason);
    expect(await failure).toMatchObject({ code: Code.Canceled, cause: reason });
    await ended.promise;
    const late = await failureOf(call(kind, { signal: cancel.signal }));
    expect(late).toMatchObject({ code: Code.Canceled, cause: reason });
  });

  test("interceptors wrap the call, and may change what goes and comes", async () => {
    const key = createContextKey("none");
    const seen: string[] = [];
    const outer: Interceptor = (next) => async (request) => {
      seen.push(`outer ${new URL(request.url).pathname} ${request.contextValues.get(key)}`);
      const response = await next(request);
      response.header.set("x-seen", "outer");
      return response;
    };
    const inner: Interceptor = (next) => (request) => {
      seen.push("inner");
      request.header.set("x-inner", "i");
      return next(request);
    };
    const { client } = await start(
      { unary: (_, { requestHeader }) => ({ value: requestHeader.get("x-inner") ?? "" }) },
      [outer, inner],
    );
    let header = new Headers();
    const answer = await client.unary(
      {},
      {
        contextValues: createContextValues().set(key, "value"),
        onHeader: (headers) => {
          header = headers;
        },
      },
    );
    expect(answer.value).toBe("i");
    expect(header.get("x-seen")).toBe("outer");
    expect(seen).toEqual(["outer /echo.v1.EchoService/Unary value", "inner"]);
  });

  test.each(KINDS)("without a server is an error of the connection, quickly: %s", async (kind) => {
    const loopback = await serveEcho({});
    await loopback[Symbol.asyncDispose]();
    const transport = TRANSPORTS[name]({ baseUrl: loopback.baseUrl });
    const client = createClient(EchoService, transport);
    const start = performance.now();
    const call = kind === "unary" ? client.unary({}) : collect(client.serverStream({}));
    const error = await failureOf(call);
    expect(error.rawMessage).toMatch(/^connect ECONNREFUSED 127\.0\.0\.1:\d+$/);
    expect(performance.now() - start).toBeLessThan(1000);
  });
});
