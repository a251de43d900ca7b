import { once } from "node:events";
import * as http2 from "node:http2";
import * as net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { create, type DescMessage } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { describe, expect, onTestFinished, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { ECHO, serveEcho } from "../testing/loopback.js";
import { NotProcessedError } from "./call-error.js";
import { createGrpcJsTransport, type GrpcJsTransportOptions } from "./grpc-js-transport.js";

async function startServer(...args: Parameters<typeof serveEcho>) {
  const loopback = await serveEcho(...args);
  onTestFinished(() => loopback[Symbol.asyncDispose]());
  return loopback;
}

function connect(
  baseUrl: GrpcJsTransportOptions["baseUrl"],
  options: Omit<GrpcJsTransportOptions, "baseUrl"> = {},
) {
  const transport = createGrpcJsTransport({ baseUrl, ...options });
  onTestFinished(() => transport.close());
  return { transport, client: createClient(EchoService, transport) };
}

async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  return call.then(
    () => Promise.reject(new Error("the call was expected to fail")),
    (error: ConnectError) => error,
  );
}

async function listening(server: net.Server | http2.Http2Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
}

test("a header that gRPC cannot carry fails the call, and its value is in no error", async () => {
  const { client } = connect((await startServer(ECHO)).baseUrl);
  const error = await failureOf(client.unary({}, { headers: { "x-secret": "sécret" } }));
  expect(error).toMatchObject({ code: Code.Internal });
  expect(`${error.message} ${error.cause}`).not.toContain("sécret");
});

test("an answer can be parsed by other means than the library's, for some types or some bytes", async () => {
  const { baseUrl } = await startServer({ unary: ({ value }) => ({ value }) });
  const parse = (desc: DescMessage, bytes: Uint8Array) =>
    bytes.length < 5 ? create(desc, { value: `${bytes.length} bytes` }) : undefined;
  const { client } = connect(baseUrl, { parse });
  expect((await client.unary({ value: "a" })).value).toBe("3 bytes");
  expect((await client.unary({ value: "longer" })).value).toBe("longer");
});

test("an answer that other means cannot parse fails the call, and is in no error's message", async () => {
  const { baseUrl } = await startServer(ECHO);
  const parse = () => {
    throw new Error("a secret");
  };
  const error = await failureOf(connect(baseUrl, { parse }).client.unary({ value: "a" }));
  expect(error).toMatchObject({ code: Code.Internal });
  expect(error.message).not.toContain("a secret");
});

test("a server sends no more than the consumer takes", async () => {
  let sent = 0;
  const loopback = await startServer({
    async *serverStream() {
      for (; sent < 10_000; sent++) yield { value: "x".repeat(10_000) };
    },
  });
  const { client } = connect(loopback.baseUrl);
  const messages = client.serverStream({})[Symbol.asyncIterator]();
  await messages.next();
  await sleep(300);
  expect(sent).toBeLessThan(100);
});

describe("the error of a call that no server processed says so", () => {
  test("without a server", async () => {
    const { client } = connect("http://127.0.0.1:1");
    const error = await failureOf(client.unary({}));
    expect(error).toMatchObject({ code: Code.Unavailable });
    expect(error.cause).toBeInstanceOf(NotProcessedError);
  });

  test("without such a name", async () => {
    const error = await failureOf(connect("http://no-such-host.invalid:1").client.unary({}));
    expect(error).toMatchObject({ code: Code.Unavailable });
    expect(error.cause).toBeInstanceOf(NotProcessedError);
  });

  test("when the server refuses its stream twice", async () => {
    const server = http2.createServer();
    server.on("stream", (stream) => {
      stream.on("error", () => {});
      stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    });
    const error = await failureOf(connect(await listening(server)).client.unary({}));
    expect(error).toMatchObject({ code: Code.Unavailable });
    expect(error.cause).toBeInstanceOf(NotProcessedError);
  });

  test("and a lost connection does not", async () => {
    const server = http2.createServer();
    server.on("stream", (stream) => stream.session?.socket.destroy());
    const error = await failureOf(connect(await listening(server)).client.unary({}));
    expect(error).toMatchObject({ code: Code.Unavailable });
    expect(error.cause).toBeUndefined();
  });

  test("nor does a server that only claims it", async () => {
    const loopback = await startServer({
      unary: () => {
        throw new ConnectError("Stream refused by server", Code.Unavailable);
      },
    });
    const error = await failureOf(connect(loopback.baseUrl).client.unary({}));
    expect(error.cause).toBeUndefined();
  });
});

test("a server that accepts connections and stays silent is given up, and tried again", async () => {
  const good = await startServer(ECHO);
  let isSilent = true;
  const relay = net.createServer((inbound) => {
    inbound.on("error", () => {});
    if (isSilent) return;
    const outbound = net.connect(Number(new URL(good.baseUrl).port), "127.0.0.1");
    outbound.on("error", () => {});
    inbound.pipe(outbound).pipe(inbound);
  });
  const { client } = connect(await listening(relay), { handshakeTimeoutMs: 200 });
  expect(await failureOf(client.unary({}, { timeoutMs: 2000 }))).toMatchObject({
    code: Code.Unavailable,
  });
  isSilent = false;
  await expect.poll(() => client.unary({ value: "back" }).catch(() => {})).toBeDefined();
});

test("a closed transport fails its calls and makes no others", async () => {
  const started = Promise.withResolvers<void>();
  const loopback = await startServer({
    unary: () => {
      started.resolve();
      return new Promise<never>(() => {});
    },
  });
  const { client, transport } = connect(loopback.baseUrl);
  const call = failureOf(client.unary({}));
  await started.promise;
  transport.close();
  expect(await call).toMatchObject({ code: Code.Canceled });
  expect(await failureOf(client.unary({}))).toMatchObject({ code: Code.Canceled });
});

describe("several addresses", () => {
  /** A server that says who it is. */
  const named = (name: string) => startServer({ unary: () => ({ value: name }) });
  const askAll = async (client: ReturnType<typeof connect>["client"], calls: number) => {
    const answers: string[] = [];
    for (let i = 0; i < calls; i++) answers.push((await client.unary({})).value);
    return answers;
  };

  test("get calls in turn, without those that cannot be reached", async () => {
    const [a, b] = await Promise.all([named("a"), named("b")]);
    const { client } = connect([a.baseUrl, "http://127.0.0.1:1", b.baseUrl]);
    await expect.poll(() => askAll(client, 4)).toContain("b");
    const answers = await askAll(client, 40);
    expect(answers.filter((each) => each === "a").length).toBeGreaterThan(10);
    expect(answers.filter((each) => each === "b").length).toBeGreaterThan(10);
  });

  test("of which none can be reached fail the call quickly", async () => {
    const { client } = connect(["http://127.0.0.1:1", "http://127.0.0.1:2"]);
    expect(await failureOf(client.unary({}))).toMatchObject({ code: Code.Unavailable });
  });

  test.each([[[]], [["http://a:1", "https://b:1"]], [["dns:///a:1", "dns:///b:1"]], ["ftp://a"]])(
    "must be of one scheme that we know, not %j",
    (baseUrl) => {
      expect(() => createGrpcJsTransport({ baseUrl })).toThrow(TypeError);
    },
  );
});

test("dns:/// reaches the server of a name", async () => {
  const { port } = new URL((await startServer(ECHO)).baseUrl);
  const { client } = connect(`dns:///localhost:${port}`);
  expect(await client.unary({ value: "here" })).toMatchObject({ value: "here" });
});
