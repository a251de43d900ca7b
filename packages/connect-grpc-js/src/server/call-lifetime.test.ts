import { once } from "node:events";
import { connect, constants } from "node:http2";
import { connect as connectSocket } from "node:net";
import { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Code, ConnectError } from "@connectrpc/connect";
import { status } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { pathOf } from "../testing/echo-client.js";
import { ECHO, openStream, serveEcho } from "../testing/loopback.js";

/** A test's own handler resolves it, so the test does not guess how long to wait. */
function event<Value = void>() {
  return Promise.withResolvers<Value>();
}

async function aborted(signal: AbortSignal): Promise<unknown> {
  if (!signal.aborted) {
    await once(signal, "abort");
  }
  return signal.reason;
}

/** A client-streaming handler that reads until its client ends the stream. */
function readingHandler() {
  const started = event();
  const failure = event<unknown>();
  const handlers = {
    async clientStream(requests: AsyncIterable<unknown>) {
      started.resolve();
      try {
        for await (const _request of requests) {
          // Waits for more.
        }
      } catch (error) {
        failure.resolve(error);
      }
      return {};
    },
  };
  return { handlers, started: started.promise, failure: failure.promise };
}

/** Handlers that wait until their signal aborts. */
function waitingHandlers() {
  const started = event();
  const reason = event<unknown>();
  const wait = async ({ signal }: { signal: AbortSignal }) => {
    started.resolve();
    reason.resolve(await aborted(signal));
  };
  const handlers = {
    async unary(_request: unknown, context: { signal: AbortSignal }) {
      await wait(context);
      return { value: "done" };
    },
    async *serverStream(_request: unknown, context: { signal: AbortSignal }) {
      yield { value: "first" };
      await wait(context);
    },
  };
  return { handlers, started: started.promise, reason: reason.promise };
}

describe("a deadline", () => {
  test.each(["unary", "serverStream"] as const)(
    "ends a %s call with DEADLINE_EXCEEDED",
    async (method) => {
      const { handlers } = waitingHandlers();
      await using loopback = await serveEcho(handlers);
      const outcome = await loopback.call(method, [""], { timeoutMs: 50 });
      expect(outcome.code).toBe(Code.DeadlineExceeded);
    },
  );

  test("aborts the handler's signal, even if the client does not enforce it", async () => {
    const { handlers, reason } = waitingHandlers();
    await using loopback = await serveEcho(handlers);
    const session = connect(loopback.baseUrl);
    const stream = openStream(session, "unary", { "grpc-timeout": "50m" });
    stream.end(Buffer.alloc(5)).resume();
    const [headers] = await once(stream, "response");
    session.destroy();
    expect(headers["grpc-status"]).toBe(String(status.DEADLINE_EXCEEDED));
    expect(await reason).toMatchObject({
      code: Code.DeadlineExceeded,
      rawMessage: "the operation timed out",
    });
  });

  test("is known to the handler", async () => {
    await using loopback = await serveEcho({
      unary: (_request, { timeoutMs }) => ({ value: String(timeoutMs()) }),
    });
    const limited = await loopback.call("unary", [""], { timeoutMs: 10_000 });
    expect(Number(limited.values[0])).toBeGreaterThan(5_000);
    expect(Number(limited.values[0])).toBeLessThanOrEqual(10_000);
    const unlimited = await loopback.call("unary", [""]);
    expect(unlimited.values).toEqual(["undefined"]);
  });

  test.each(["unary", "serverStream"] as const)(
    "of a %s call is refused if it is longer than the server allows",
    async (method) => {
      await using loopback = await serveEcho(ECHO, { maxTimeoutMs: 60_000 });
      expect(await loopback.call(method, [""], { timeoutMs: 120_000 })).toMatchObject({
        code: Code.InvalidArgument,
        message: "the timeout must not be longer than 60000 ms",
      });
      expect((await loopback.call(method, [""], { timeoutMs: 60_000 })).code).toBe(0);
      expect((await loopback.call(method, [""])).code).toBe(0);
    },
  );
});

describe("a client that cancels", () => {
  test("aborts the handler's signal", async () => {
    const cancel = new AbortController();
    const { handlers, started, reason } = waitingHandlers();
    await using loopback = await serveEcho(handlers);
    const outcome = loopback.call("unary", [""], { signal: cancel.signal });
    await started;
    cancel.abort();
    expect((await outcome).code).toBe(Code.Canceled);
    expect(await reason).toMatchObject({ code: Code.Canceled });
  });

  test("is seen in a signal that the handler reads only afterwards", async () => {
    const cancel = new AbortController();
    const canceled = event();
    const reason = event<unknown>();
    await using loopback = await serveEcho({
      async unary(_request, context) {
        cancel.abort();
        await canceled.promise;
        await sleep(20);
        reason.resolve(context.signal.aborted && context.signal.reason);
        return {};
      },
    });
    await loopback.call("unary", [""], { signal: cancel.signal });
    canceled.resolve();
    expect(await reason.promise).toMatchObject({ code: Code.Canceled });
  });

  test("runs the `finally` of a generator, and survives an error in it", async () => {
    const cancel = new AbortController();
    const closed = event();
    await using loopback = await serveEcho({
      async *serverStream(_request, { signal }) {
        try {
          yield { value: "first" };
          await aborted(signal);
          yield { value: "second" };
        } finally {
          closed.resolve();
          // biome-ignore lint/correctness/noUnsafeFinally: this is the fault to survive.
          throw new Error("close failed");
        }
      },
    });
    const options = { signal: cancel.signal, onValue: () => cancel.abort() };
    const outcome = await loopback.call("serverStream", [""], options);
    await closed.promise;
    expect(outcome).toMatchObject({ code: Code.Canceled, values: ["first"] });
  });

  test("closes an iterable that waits for its next item", async () => {
    const cancel = new AbortController();
    const returned = event();
    const items = [Promise.resolve({ done: false, value: { value: "first" } } as const)];
    const never = new Promise<never>(() => {});
    await using loopback = await serveEcho({
      serverStream: () => ({
        [Symbol.asyncIterator]: () => ({
          next: () => items.shift() ?? never,
          return: async () => {
            returned.resolve();
            return { done: true, value: undefined };
          },
        }),
      }),
    });
    const options = { signal: cancel.signal, onValue: () => cancel.abort() };
    const outcome = await loopback.call("serverStream", [""], options);
    await returned.promise;
    expect(outcome.code).toBe(Code.Canceled);
  });

  test("has not sent its requests completely", async () => {
    const { handlers, started, failure } = readingHandler();
    await using loopback = await serveEcho(handlers);
    const { hostname, port } = new URL(loopback.baseUrl);
    const socket = connectSocket(Number(port), hostname);
    // Wraps the socket, so that the test can hold back what HTTP/2 writes.
    const connection = new Duplex({
      read() {},
      write(bytes, _encoding, done) {
        socket.write(bytes);
        done();
      },
    });
    socket.on("data", (bytes) => connection.push(bytes));
    const session = connect(loopback.baseUrl, { createConnection: () => connection });
    const stream = openStream(session, "clientStream");
    stream.on("error", () => {});
    stream.write(Buffer.alloc(5));
    await started;
    // Node ends the request and then resets the stream. The two arrive together.
    socket.cork();
    stream.close(constants.NGHTTP2_CANCEL);
    await once(stream, "close");
    await sleep(20);
    socket.uncork();
    expect(await failure).toBeInstanceOf(ConnectError);
    expect(await failure).toMatchObject({ code: Code.Canceled });
    session.destroy();
    socket.destroy();
  });
});

describe("a client that disconnects", () => {
  test("aborts the handler's signal", async () => {
    const { handlers, started, reason } = waitingHandlers();
    await using loopback = await serveEcho(handlers);
    const session = connect(loopback.baseUrl);
    openStream(session, "serverStream").end(Buffer.alloc(5));
    await started;
    session.destroy();
    expect(await reason).toMatchObject({ code: Code.Canceled });
  });

  test("has not sent its requests completely", async () => {
    const { handlers, started, failure } = readingHandler();
    await using loopback = await serveEcho(handlers);
    const session = connect(loopback.baseUrl);
    // An empty message, and no end of the stream.
    openStream(session, "clientStream").write(Buffer.alloc(5));
    await started;
    session.destroy();
    expect(await failure).toBeInstanceOf(ConnectError);
    expect(await failure).toMatchObject({ code: Code.Canceled });
  });
});

/** Handlers that only show their signal. */
function showSignal(show: (signal: AbortSignal) => void) {
  const unary = (_request: unknown, { signal }: { signal: AbortSignal }) => {
    show(signal);
    return { value: String(signal.aborted) };
  };
  return {
    unary,
    async *serverStream(request: unknown, context: { signal: AbortSignal }) {
      yield unary(request, context);
    },
  };
}

test.each(["unary", "serverStream"] as const)(
  "a completed %s call aborts its signal, as in Connect",
  async (method) => {
    const signals: AbortSignal[] = [];
    await using loopback = await serveEcho(showSignal((signal) => signals.push(signal)));
    const outcome = await loopback.call(method, [""]);
    expect(outcome).toMatchObject({ code: 0, values: ["false"] });
    const [signal] = signals;
    expect(signal && (await aborted(signal))).toMatchObject({
      code: Code.Canceled,
      rawMessage: "the call is complete",
    });
  },
);

test("a server that may shut down does not remember finished calls", async () => {
  const signals: WeakRef<AbortSignal>[] = [];
  const handlers = showSignal((signal) => signals.push(new WeakRef(signal)));
  const shutdown = new AbortController();
  await using loopback = await serveEcho(handlers, { shutdownSignal: shutdown.signal });
  for (let n = 0; n < 10; n++) {
    await loopback.call("unary", [""]);
    await loopback.call("serverStream", [""]);
  }
  setFlagsFromString("--expose-gc");
  const collectGarbage: () => void = runInNewContext("gc");
  await sleep(20);
  collectGarbage();
  const alive = signals.filter((signal) => signal.deref() !== undefined);
  expect(signals).toHaveLength(20);
  // The latest signals may still be on a stack.
  expect(alive.length).toBeLessThan(5);
});

describe("a shutdown", () => {
  test.each([
    ["a plain abort", undefined, Code.Unavailable, "the server is shutting down"],
    ["a ConnectError", new ConnectError("moved", Code.Aborted), Code.Aborted, "moved"],
  ] as const)("by %s ends a stream that ignores its signal", async (_, reason, code, message) => {
    const shutdown = new AbortController();
    const closed = event();
    await using loopback = await serveEcho(
      {
        async *serverStream() {
          try {
            for (;;) {
              yield { value: "tick" };
              await sleep(5);
            }
          } finally {
            closed.resolve();
          }
        },
      },
      { shutdownSignal: shutdown.signal },
    );
    const onValue = () => shutdown.abort(reason);
    const outcome = await loopback.call("serverStream", [""], { onValue });
    expect(outcome).toMatchObject({ code, message });
    await closed.promise;
    // No call is left that the server would wait for.
    await new Promise((resolve) => loopback.server.tryShutdown(resolve));
  });

  test("ends a stream that the client sends", async () => {
    const { handlers, started, failure } = readingHandler();
    const shutdown = new AbortController();
    await using loopback = await serveEcho(handlers, { shutdownSignal: shutdown.signal });
    const identity = (bytes: Buffer) => bytes;
    const path = pathOf("clientStream");
    const call = loopback.grpcClient.makeClientStreamRequest(path, identity, identity, () => {});
    await started;
    shutdown.abort();
    const [{ code }] = await once(call, "status");
    expect(code).toBe(Code.Unavailable);
    expect(await failure).toBeInstanceOf(ConnectError);
    expect(await failure).toMatchObject({ code: Code.Unavailable });
  });

  test("lets unary calls respond", async () => {
    const { handlers, started } = waitingHandlers();
    const shutdown = new AbortController();
    await using loopback = await serveEcho(handlers, { shutdownSignal: shutdown.signal });
    const outcome = loopback.call("unary", [""]);
    await started;
    shutdown.abort();
    expect(await outcome).toMatchObject({ code: 0, values: ["done"] });
  });

  test("is the error of a handler that fails with an AbortError of its signal", async () => {
    const shutdown = new AbortController();
    const unary = async (_request: unknown, { signal }: { signal: AbortSignal }) => {
      setImmediate(() => shutdown.abort());
      return sleep(60_000, {}, { signal });
    };
    await using loopback = await serveEcho({ unary }, { shutdownSignal: shutdown.signal });
    expect(await loopback.call("unary", [""])).toMatchObject({
      code: Code.Unavailable,
      message: "the server is shutting down",
    });
  });

  test("that has begun refuses new streams", async () => {
    const shutdownSignal = AbortSignal.abort();
    await using loopback = await serveEcho(
      showSignal(() => {}),
      { shutdownSignal },
    );
    const refused = await loopback.call("serverStream", [""]);
    expect(refused).toMatchObject({ code: Code.Unavailable, values: [] });
    expect(await loopback.call("unary", [""])).toMatchObject({ values: ["true"] });
  });
});
