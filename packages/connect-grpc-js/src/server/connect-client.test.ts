import { DurationSchema } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  createClient,
  decodeBinaryHeader,
  encodeBinaryHeader,
} from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import {
  compressionGzip,
  createGrpcTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { describe, expect, onTestFinished, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { ECHO, serveEcho } from "../testing/loopback.js";

async function start(...args: Parameters<typeof serveEcho>) {
  const loopback = await serveEcho(...args);
  onTestFinished(() => loopback[Symbol.asyncDispose]());
  const { baseUrl } = loopback;
  const sessionManager = new Http2SessionManager(baseUrl);
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager,
    sendCompression: compressionGzip,
    compressMinBytes: 1000,
  });
  return { client: createClient(EchoService, transport), sessionManager };
}

async function collect(messages: AsyncIterable<{ value: string }>): Promise<string[]> {
  const values: string[] = [];
  for await (const { value } of messages) values.push(value);
  return values;
}

// All other tests use a client of grpc-js. These prove that the client of Connect's own library,
// which the SDK uses, gets the same.
describe("a client of @connectrpc/connect", () => {
  test("calls methods of all kinds, and may compress its requests", async () => {
    const { client } = await start(ECHO);
    const requests = () => createAsyncIterable([{ value: "one" }, { value: "two" }]);
    const large = "x".repeat(10_000);
    expect(await client.unary({ value: large })).toMatchObject({ value: large });
    expect(await collect(client.serverStream({ value: "one two" }))).toEqual(["one", "two"]);
    expect(await client.clientStream(requests())).toMatchObject({ value: "one two" });
    expect(await collect(client.bidi(requests()))).toEqual(["ONE", "TWO"]);
  });

  test("gets messages, then an error with details and metadata, binary values too", async () => {
    const error = new ConnectError("grüezi 👋 100%", Code.Aborted, { "x-error": "e" }, [
      { desc: DurationSchema, value: { seconds: 3n } },
    ]);
    const { client } = await start({
      async *serverStream(_request, { requestHeader, responseHeader, responseTrailer }) {
        responseHeader.set("x-trace-bin", requestHeader.get("x-trace-bin") ?? "");
        responseTrailer.set("x-trailer", "t");
        yield { value: "first" };
        throw error;
      },
    });
    const bytes = Uint8Array.of(0, 1, 254, 255);
    let header = new Headers();
    const onHeader = (headers: Headers) => {
      header = headers;
    };
    const headers = { "x-trace-bin": encodeBinaryHeader(bytes) };
    const stream = client.serverStream({}, { headers, onHeader });
    const messages = stream[Symbol.asyncIterator]();
    expect((await messages.next()).value).toMatchObject({ value: "first" });
    expect(decodeBinaryHeader(header.get("x-trace-bin") ?? "")).toEqual(bytes);
    const failure = ConnectError.from(await messages.next().catch((reason: unknown) => reason));
    expect(failure).toMatchObject({ code: Code.Aborted, rawMessage: "grüezi 👋 100%" });
    expect(failure.findDetails(DurationSchema)).toMatchObject([{ seconds: 3n }]);
    expect(failure.metadata.get("x-error")).toBe("e");
    expect(failure.metadata.get("x-trailer")).toBe("t");
  });

  test("is refused when a request is too large", async () => {
    const { client } = await start(ECHO, {}, { "grpc.max_receive_message_length": 20_000 });
    const call = client.unary({ value: "x".repeat(20_001) });
    await expect(call).rejects.toMatchObject({ code: Code.ResourceExhausted });
  });

  test.each(["deadline", "cancellation", "lost connection"])(
    "ends a handler by its %s",
    async (end) => {
      const started = Promise.withResolvers<void>();
      const reason = Promise.withResolvers<unknown>();
      const { client, sessionManager } = await start({
        async *serverStream(_request, { signal }) {
          signal.addEventListener("abort", () => reason.resolve(signal.reason));
          yield {};
          started.resolve();
          await reason.promise;
        },
      });
      const cancel = new AbortController();
      const options = end === "deadline" ? { timeoutMs: 1_000 } : { signal: cancel.signal };
      const failure = collect(client.serverStream({}, options)).catch((error: unknown) => error);
      await started.promise;
      if (end === "cancellation") cancel.abort();
      if (end === "lost connection") sessionManager.abort();
      const code = end === "deadline" ? Code.DeadlineExceeded : Code.Canceled;
      expect(await failure).toMatchObject({ code });
      // At its deadline the client cancels, often before the server's deadline.
      expect(await reason.promise).toBeInstanceOf(ConnectError);
    },
  );
});
