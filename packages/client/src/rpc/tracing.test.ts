import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { HandlerContext } from "@connectrpc/connect";
import { context, propagation, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import {
  InMemorySpanExporter,
  SimpleSpanProcessor,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import {
  notFound,
  PROTOCOLS,
  protoSession,
  rejection,
  startClient,
  storeUnavailable,
  throwing,
} from "../testing/session-server.js";

const VERIFY = "sessiond.v1.SessionService/VerifySession";
const TOKEN = "sst_c2Vzc2lvbi10b2tlbg";
const exporter = new InMemorySpanExporter();

/** This process is an application that records traces. */
beforeAll(() => {
  const spanProcessors = [new SimpleSpanProcessor({ exporter })];
  trace.setGlobalTracerProvider(new TracerProvider({ spanProcessors }));
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
});
afterAll(() => {
  for (const api of [trace, context, propagation]) api.disable();
});
beforeEach(() => exporter.reset());

/** Does something in a span of the application. */
function inSpan<T>(work: () => Promise<T>) {
  return trace.getTracer("shop").startActiveSpan("shop", async (span) => {
    const value = await work();
    span.end();
    return { value, shop: span.spanContext() };
  });
}

/** The spans of the SDK. */
function calls() {
  return exporter.getFinishedSpans().filter(({ name }) => name !== "shop");
}

test.each(PROTOCOLS)(
  "a call over %s is one span, and each of its attempts carries it to the server",
  async (protocol) => {
    const arrived: (string | null)[] = [];
    const verifySession = (_: unknown, { requestHeader }: HandlerContext) => {
      arrived.push(requestHeader.get("traceparent"));
      if (arrived.length === 1) throw storeUnavailable();
      return { session: protoSession() };
    };
    const { client } = await startClient({ verifySession }, { protocol });
    const { shop } = await inSpan(() => client.verifySession(TOKEN));
    const [call, ...others] = calls();
    expect(others).toEqual([]);
    expect(call).toMatchObject({
      name: VERIFY,
      kind: SpanKind.CLIENT,
      status: { code: SpanStatusCode.UNSET },
      parentSpanContext: { spanId: shop.spanId },
    });
    // All that it says: no token, and no id.
    expect(call?.attributes).toEqual({ "rpc.method": VERIFY, "rpc.status_code": "OK" });
    const traceparent = `00-${shop.traceId}-${call?.spanContext().spanId}-01`;
    expect(arrived).toEqual([traceparent, traceparent]);
  },
);

test("a failed call is a failed span, and a session that has ended is an answer", async () => {
  const { client } = await startClient({
    verifySession: throwing(notFound),
    countSessions: throwing(storeUnavailable),
  });
  expect(await client.verifySession(TOKEN)).toBeUndefined();
  await rejection(client.countSessions());
  expect(calls()).toMatchObject([
    {
      status: { code: SpanStatusCode.UNSET },
      attributes: { "rpc.status_code": "NOT_FOUND", "error.type": "SESSION_NOT_FOUND" },
    },
    {
      status: { code: SpanStatusCode.ERROR },
      attributes: { "rpc.status_code": "UNAVAILABLE", "error.type": "STORE_UNAVAILABLE" },
    },
  ]);
});

test("a watch carries the trace and is no span, because it may never end", async () => {
  let arrived: string | null = null;
  const { client } = await startClient({
    async *watchSessions(_, { requestHeader }) {
      arrived = requestHeader.get("traceparent");
      yield { message: { case: "checkpoint", value: { time: protoSession().createTime } } };
    },
  });
  const { shop } = await inSpan(async () => {
    for await (const _ of client.watchSessions()) break;
  });
  expect(arrived).toBe(`00-${shop.traceId}-${shop.spanId}-01`);
  expect(calls()).toEqual([]);
});

test("an application without OpenTelemetry can use the SDK", async () => {
  const hook = `import { registerHooks } from "node:module";
    registerHooks({ resolve(name, context, next) {
      if (name.includes("opentelemetry")) throw new Error("not installed");
      return next(name, context);
    } });`;
  const program = `
    import { createSessionClient } from ${JSON.stringify(import.meta.resolve("../../dist/index.js"))};
    const client = createSessionClient({ baseUrl: "http://127.0.0.1:1", token: "t" });
    await client.countSessions().catch(({ reason }) => console.log(reason));`;
  const asUrl = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`;
  const args = ["--import", asUrl(hook), "--input-type=module", "--eval", program];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  expect(stdout).toBe("UNAVAILABLE\n");
});
