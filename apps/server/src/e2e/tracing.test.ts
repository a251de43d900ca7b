import { context, propagation, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { SimpleSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";
import { createSessionClient, type SessionClient } from "@sessiond/client";
import { startRedisServer } from "@sessiond/core/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type OtlpReceiver,
  type ReceivedSpan,
  startOtlpReceiver,
} from "../testing/otlp-receiver.js";
import {
  developmentToken,
  type ListeningServerProcess,
  spawnServer,
} from "../testing/server-process.js";
import { temporaryDirectory } from "../testing/temporary-directory.js";

const VERIFY = "sessiond.v1.SessionService/VerifySession";
const CALLER = { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", spanId: "00f067aa0ba902b7" };
/** Below the 10 s that a server gives its calls: so its spans did not hold up its end. */
const SOON_MS = 5_000;

const opened = new AsyncDisposableStack();
let dataDir: string;
let token: string;
let redisUrl: string;
let receiver: OtlpReceiver;
let shop: TracerProvider;

beforeAll(async () => {
  dataDir = opened.use(await temporaryDirectory()).path;
  token = await developmentToken(dataDir);
  redisUrl = opened.use(await startRedisServer()).url;
  receiver = opened.use(await startOtlpReceiver());
  // This process is an application with OpenTelemetry, and sends its spans to the same receiver.
  const exporter = new OTLPTraceExporter({ url: `${receiver.url}/v1/traces` });
  shop = new TracerProvider({
    resource: resourceFromAttributes({ "service.name": "shop" }),
    spanProcessors: [new SimpleSpanProcessor({ exporter })],
  });
  opened.defer(() => shop.shutdown());
  trace.setGlobalTracerProvider(shop);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  opened.defer(() => {
    for (const api of [trace, context, propagation]) api.disable();
  });
});
afterAll(() => opened.disposeAsync());

describe.each([
  ["gRPC", "grpc"],
  ["HTTP", "connect"],
] as const)("on the %s port", (_, protocol) => {
  test("a trace leads from the application through the SDK and the server to Redis", async () => {
    await using server = await startServer({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url });
    using client = clientOf(server, protocol);
    const { token: sessionToken } = await client.createSession({ userId: "ann" });
    const traceId = await inSpan("GET /cart", () => client.verifySession(sessionToken));
    await stopped(server);
    await shop.forceFlush();

    const spans = receiver.spans.filter((span) => span.traceId === traceId);
    expect(pathsOf(spans)).toEqual([
      `shop INTERNAL GET /cart > shop CLIENT ${VERIFY} > sessiond SERVER ${VERIFY} > sessiond CLIENT get_session`,
    ]);
    const [call] = spans.filter(({ kind }) => kind === "SERVER");
    expect(call).toMatchObject({
      status: "UNSET",
      attributes: {
        "rpc.system.name": protocol === "grpc" ? "grpc" : "connectrpc",
        "rpc.method": VERIFY,
        "rpc.status_code": "OK",
      },
    });
    // The log's line about the call says where to find it.
    expect(server.logs.find(({ trace_id }) => trace_id === traceId)).toMatchObject({
      method: VERIFY,
      span_id: call?.spanId,
    });
  });

  test("a call that is refused has a span with the reason", async () => {
    await using server = await startServer({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url });
    using client = clientOf(server, protocol, "no.such.token");
    const traceId = await inSpan("POST /login", () => client.countSessions().catch(() => {}));
    await stopped(server);
    await shop.forceFlush();

    const [call] = receiver.spans.filter(
      (span) => span.traceId === traceId && span.kind === "SERVER",
    );
    expect(call).toMatchObject({
      status: "UNSET",
      attributes: { "rpc.status_code": "UNAUTHENTICATED", "error.type": "UNAUTHENTICATED" },
    });
  });
});

test("the first call of an issuer's callers shows the loading of the keys", async () => {
  await using server = await startServer({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url });
  const traceIds = [];
  for (const protocol of ["grpc", "connect"] as const) {
    using client = clientOf(server, protocol);
    traceIds.push(await inSpan("GET /", () => client.countSessions()));
  }
  await stopped(server);

  const names = traceIds.map((traceId) => {
    const spans = receiver.spans.filter((span) => span.traceId === traceId);
    return spans.map(({ name }) => name).toSorted();
  });
  expect(names[0]).toContain("issuer keys");
  expect(names[1]).not.toContain("issuer keys");
});

test("the wait for a replica is a span below the change that waits", async () => {
  const { port } = new URL(redisUrl);
  await using _replica = await startRedisServer({ args: ["--replicaof", "127.0.0.1", port] });
  await using server = await startServer({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }, [
    "--store",
    redisUrl,
    "--durability=replicated",
  ]);
  using client = clientOf(server, "grpc");
  // The replica may still be loading.
  await expect
    .poll(
      () =>
        client.createSession({ userId: "ann" }).then(
          () => true,
          () => false,
        ),
      { timeout: 10_000 },
    )
    .toBe(true);
  // Redis does not know the script yet: to send it twice would be two waits.
  await client.revokeUserSessions("bob");
  const traceId = await inSpan("POST /logout", () => client.revokeUserSessions("ann"));
  await stopped(server);

  const spans = receiver.spans.filter((span) => span.traceId === traceId);
  expect(pathsOf(spans.filter(({ service }) => service === "sessiond"))).toEqual([
    expect.stringContaining("revoke_user > sessiond CLIENT replica wait"),
  ]);
});

test("a store that is down is a failed span, and a refusal by the store is an answer", async () => {
  await using redis = await startRedisServer();
  await using server = await startServer({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url }, [
    "--store",
    redis.url,
  ]);
  using client = clientOf(server, "grpc");
  const create = () => client.createSession({ userId: "ann", sessionId: "taken" }).catch(() => {});
  await create();
  const refused = await inSpan("POST /login", create);
  await redis.kill();
  const failed = await inSpan("POST /login", create);
  await stopped(server);

  const [answer, fault] = [refused, failed].map((trace) =>
    receiver.spans.find(({ traceId, name }) => traceId === trace && name === "create_session"),
  );
  expect(answer).toMatchObject({
    status: "UNSET",
    attributes: { "db.system.name": "redis", "error.type": "SESSION_ALREADY_EXISTS" },
  });
  expect(fault).toMatchObject({
    status: "ERROR",
    attributes: { "db.system.name": "redis", "error.type": "STORE_UNAVAILABLE" },
  });
});

test("OpenTelemetry's own variables hold", async () => {
  await using named = await startServer({
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    OTEL_EXPORTER_OTLP_HEADERS: "x-team=login",
    OTEL_SERVICE_NAME: "sessiond-eu",
  });
  await countSessions(named);
  await stopped(named);
  expect(receiver.spans.filter(({ service }) => service === "sessiond-eu")).toContainEqual(
    expect.objectContaining({ kind: "SERVER", parentSpanId: "" }),
  );
  expect(receiver.headers.at(-1)).toMatchObject({ "x-team": "login" });
});

test("a share of the traces is recorded, and only their lines in the log have trace ids", async () => {
  await using server = await startServer({
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    OTEL_SERVICE_NAME: "half",
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    OTEL_TRACES_SAMPLER_ARG: "0.5",
  });
  for (let i = 0; i < 20; i++) {
    await Promise.all(Array.from({ length: 20 }, () => countSessions(server)));
  }
  await stopped(server);
  const ofServer = receiver.spans.filter(({ service }) => service === "half");
  const recorded = ofServer.filter(({ kind }) => kind === "SERVER").map(({ traceId }) => traceId);
  // Five standard deviations around the half of 400.
  expect(recorded.length).toBeGreaterThan(150);
  expect(recorded.length).toBeLessThan(250);
  const lines = server.logs.filter(({ msg }) => msg === "call");
  const logged = lines.flatMap(({ trace_id }) => trace_id ?? []);
  expect([lines.length, logged.toSorted()]).toEqual([400, recorded.toSorted()]);
});

test("no token, id or data is in what is sent", async () => {
  await using server = await startServer({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url });
  using client = clientOf(server, "grpc");
  const { session, token: sessionToken } = await client.createSession({
    userId: "canary-user",
    displayName: "canary-name",
    data: { note: "canary-data" },
  });
  await client.verifySession(sessionToken);
  await client.verifySession(`${sessionToken.slice(0, -4)}AAAA`);
  await client
    .updateSession(session.id, { displayName: "canary-name" }, { etag: "canary" })
    .catch(() => {});
  await stopped(server);

  const sent = receiver.bytes.toString("latin1");
  expect(sent).toContain("rpc.method");
  for (const secret of ["canary", token, sessionToken.slice(4, 40), session.id]) {
    expect(sent).not.toContain(secret);
  }
});

test("a caller that does not record its trace decides for the server, too", async () => {
  await using server = await startServer({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url });
  await countSessions(server, `00-${CALLER.traceId}-${CALLER.spanId}-00`);
  await countSessions(server, `00-${CALLER.traceId}-${CALLER.spanId}-01`, "vendor=value");
  await stopped(server);

  const calls = receiver.spans.filter(
    ({ traceId, kind }) => traceId === CALLER.traceId && kind === "SERVER",
  );
  expect(calls).toMatchObject([{ parentSpanId: CALLER.spanId, traceState: "vendor=value" }]);
  expect(server.logs.filter(({ msg }) => msg === "call")).toMatchObject([
    // The only span that the first call belongs to is the caller's.
    { trace_id: CALLER.traceId, span_id: CALLER.spanId },
    { trace_id: CALLER.traceId, span_id: calls[0]?.spanId },
  ]);
});

describe("without an endpoint", () => {
  test("a server loads nothing of OpenTelemetry's SDK, and its log has the caller's ids", async () => {
    const env = { NODE_OPTIONS: `--import ${TELL_WHAT_IS_LOADED}` };
    await using tracing = await startServer({ ...env, OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url });
    expect(tracing.stderr).toContain("/@opentelemetry/sdk-trace/");
    await using server = await startServer(env);
    await countSessions(server, `00-${CALLER.traceId}-${CALLER.spanId}-01`);
    await stopped(server);
    // prom-client loads the API, which does nothing by itself.
    expect(server.stderr).not.toMatch(/@opentelemetry\/(?!api\/)/);
    expect(server.logs.find(({ msg }) => msg === "call")).toMatchObject({
      trace_id: CALLER.traceId,
      span_id: CALLER.spanId,
    });
  });
});

describe("an endpoint in trouble", () => {
  test("does not slow calls or the server's end if it never answers", async () => {
    await using deaf = await startOtlpReceiver();
    deaf.respond = () => {};
    await using server = await startServer({ OTEL_EXPORTER_OTLP_ENDPOINT: deaf.url });
    await verifyOften(server);
    const startMs = performance.now();
    await stopped(server);
    expect(performance.now() - startMs).toBeLessThan(SOON_MS);
  });

  test("is one line of the log, however many spans are dropped", async () => {
    await using broken = await startOtlpReceiver();
    let requests = 0;
    broken.respond = (_, response) => {
      requests++;
      response.writeHead(400).end("canary");
    };
    await using server = await startServer({ OTEL_EXPORTER_OTLP_ENDPOINT: broken.url });
    await verifyOften(server);
    await stopped(server);
    expect(requests).toBeGreaterThan(1);
    expect(server.logs.filter(({ level }) => level === "warn" || level === "error")).toMatchObject([
      { msg: "traces cannot be sent, so spans are dropped" },
    ]);
  });
});

/** Makes more spans than one request to the endpoint takes. */
async function verifyOften(server: ListeningServerProcess): Promise<void> {
  // In batches, so many calls would make few spans.
  using client = createSessionClient({ baseUrl: server.grpcUrl, token, batching: false });
  const { token: sessionToken } = await client.createSession({ userId: "ann" });
  for (let i = 0; i < 20; i++) {
    const calls = Array.from({ length: 50 }, () => client.verifySession(sessionToken));
    expect((await Promise.all(calls)).every(Boolean)).toBe(true);
  }
}

/** For `node --import`: writes the URL of every module to stderr. */
const TELL_WHAT_IS_LOADED = `data:text/javascript,${encodeURIComponent(`
import { registerHooks } from "node:module";
registerHooks({ load: (url, context, next) => (process.stderr.write(url + "\\n"), next(url, context)) });
`)}`;

function startServer(
  env: Readonly<Record<string, string>>,
  flags: readonly string[] = ["--store", redisUrl],
): Promise<ListeningServerProcess> {
  return spawnServer({ env, flags: ["--dev", "--data-dir", dataDir, ...flags] });
}

/** Ends a server, which sends its last spans. */
async function stopped(server: ListeningServerProcess): Promise<void> {
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
}

function clientOf(
  { grpcUrl, httpUrl }: ListeningServerProcess,
  protocol: "grpc" | "connect",
  accessToken = token,
): SessionClient {
  const baseUrl = protocol === "grpc" ? grpcUrl : httpUrl;
  return createSessionClient({ baseUrl, protocol, token: accessToken });
}

/** A call by a client without OpenTelemetry. */
async function countSessions(
  { httpUrl }: ListeningServerProcess,
  traceparent?: string,
  tracestate?: string,
): Promise<void> {
  const response = await fetch(`${httpUrl}/sessiond.v1.SessionService/CountSessions`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${token}`,
      ...(traceparent && { traceparent }),
      ...(tracestate && { tracestate }),
    },
    body: "{}",
  });
  expect(response.status).toBe(200);
}

/** Does something in a span of the application. Answers the trace's id. */
function inSpan(name: string, work: () => Promise<unknown>): Promise<string> {
  return trace.getTracer("shop").startActiveSpan(name, async (span) => {
    await work();
    span.end();
    return span.spanContext().traceId;
  });
}

/** The way to each span that has none below it. */
function pathsOf(spans: readonly ReceivedSpan[]): string[] {
  const parents = new Set(spans.map(({ parentSpanId }) => parentSpanId));
  const pathOf = (span: ReceivedSpan): string => {
    const parent = spans.find(({ spanId }) => spanId === span.parentSpanId);
    const own = `${span.service} ${span.kind} ${span.name}`;
    return parent === undefined ? own : `${pathOf(parent)} > ${own}`;
  };
  return spans.filter(({ spanId }) => !parents.has(spanId)).map(pathOf);
}
