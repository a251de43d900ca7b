import { once } from "node:events";
import { connect, constants } from "node:http2";
import { connect as connectSocket } from "node:net";
import { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { status } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { EchoService } from "../testing/echo-service.js";
import { CLIENTS, listen } from "../testing/loopback.js";

/** Fulfilled by the test's own handler, so that a test never waits for a guess. */
function event<Value = void>() {
  return Promise.withResolvers<Value>();
}

async function aborted(signal: AbortSignal): Promise<unknown> {
  if (!signal.aborted) {
    await once(signal, "abort");
  }
  return signal.reason;
}

/**
 * Sends a unary request whose client does not enforce its deadline: the clients
 * of the libraries cancel a call at its deadline, often before the server does.
 */
async function requestWithTimeout(baseUrl: string, path: string, timeout: string) {
  const session = connect(baseUrl);
  const stream = session.request({
    ":method": "POST",
    ":path": path,
    "content-type": "application/grpc",
    te: "trailers",
    "grpc-timeout": timeout,
  });
  stream.end(Buffer.alloc(5));
  stream.resume();
  const [headers] = await once(stream, "response");
  session.destroy();
  return headers["grpc-status"];
}

/** A client-streaming handler that reads until its client ends the stream. */
function readingRoutes() {
  const started = event();
  const failure = event<unknown>();
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.clientStream, async (requests) => {
      started.resolve();
      try {
        for await (const _request of requests) {
          // Waits for more.
        }
      } catch (error) {
        failure.resolve(error);
      }
      return {};
    });
  };
  return { routes, started: started.promise, failure: failure.promise };
}

describe.each(CLIENTS)("called by %s", (client) => {
  test.each(["unary", "serverStream"] as const)(
    "a %s call that outlasts its deadline fails with DEADLINE_EXCEEDED",
    async (method) => {
      const routes = (router: ConnectRouter) => {
        router.service(EchoService, {
          async unary(_request, { signal }) {
            await aborted(signal);
            return {};
          },
          async *serverStream(_request, { signal }) {
            await aborted(signal);
            yield {};
          },
        });
      };
      await using loopback = await listen({ routes });
      const outcome = await loopback.call[client](method, [""], { timeoutMs: 50 });
      expect(outcome.code).toBe(Code.DeadlineExceeded);
    },
  );

  test("a handler knows how much time is left", async () => {
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.unary, (_request, { timeoutMs }) => ({
        value: String(timeoutMs()),
      }));
    };
    await using loopback = await listen({ routes });
    const limited = await loopback.call[client]("unary", [""], { timeoutMs: 10_000 });
    expect(Number(limited.values[0])).toBeGreaterThan(5_000);
    expect(Number(limited.values[0])).toBeLessThanOrEqual(10_000);
    const unlimited = await loopback.call[client]("unary", [""]);
    expect(unlimited.values).toEqual(["undefined"]);
  });

  test("a timeout longer than the server allows is refused", async () => {
    const routes = (router: ConnectRouter) => {
      router.service(EchoService, { unary: () => ({}), async *serverStream() {} });
    };
    await using loopback = await listen({ routes, maxTimeoutMs: 60_000 });
    for (const method of ["unary", "serverStream"] as const) {
      expect(await loopback.call[client](method, [""], { timeoutMs: 120_000 })).toMatchObject({
        code: Code.InvalidArgument,
        message: "the timeout must not be longer than 60000 ms",
      });
      expect((await loopback.call[client](method, [""], { timeoutMs: 60_000 })).code).toBe(0);
      expect((await loopback.call[client](method, [""])).code).toBe(0);
    }
  });

  test("a cancelled call aborts the handler's signal", async () => {
    const started = event();
    const reason = event<unknown>();
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.unary, async (_request, { signal }) => {
        started.resolve();
        reason.resolve(await aborted(signal));
        return {};
      });
    };
    await using loopback = await listen({ routes });
    const controller = new AbortController();
    const outcome = loopback.call[client]("unary", [""], { signal: controller.signal });
    await started.promise;
    controller.abort();
    expect(await outcome).toMatchObject({ code: Code.Canceled });
    expect(await reason.promise).toMatchObject({ code: Code.Canceled });
  });

  test("a cancelled stream runs the `finally` of its generator", async () => {
    const received = event();
    const closed = event();
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.serverStream, async function* (_request, { signal }) {
        try {
          yield { value: "first" };
          await aborted(signal);
        } finally {
          closed.resolve();
        }
      });
    };
    await using loopback = await listen({ routes });
    const controller = new AbortController();
    const outcome = loopback.call[client]("serverStream", [""], {
      signal: controller.signal,
      onValue: () => received.resolve(),
    });
    await received.promise;
    controller.abort();
    await closed.promise;
    expect(await outcome).toMatchObject({ code: Code.Canceled, values: ["first"] });
  });

  test("a client that hangs up aborts the handler's signal", async () => {
    const received = event();
    const reason = event<unknown>();
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.serverStream, async function* (_request, { signal }) {
        signal.addEventListener("abort", () => reason.resolve(signal.reason));
        yield {};
        await aborted(signal);
      });
    };
    const loopback = await listen({ routes });
    const outcome = loopback.call[client]("serverStream", [""], {
      onValue: () => received.resolve(),
    });
    await received.promise;
    await loopback[Symbol.asyncDispose]();
    expect(await reason.promise).toMatchObject({ code: Code.Canceled });
    await outcome;
  });
});

test("the deadline aborts the handler's signal with DEADLINE_EXCEEDED", async () => {
  const reason = event<unknown>();
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, async (_request, { signal }) => {
      reason.resolve(await aborted(signal));
      return {};
    });
  };
  await using loopback = await listen({ routes });
  const path = "/echo.v1.EchoService/Unary";
  const grpcStatus = await requestWithTimeout(loopback.baseUrl, path, "50m");
  expect(grpcStatus).toBe(String(status.DEADLINE_EXCEEDED));
  expect(await reason.promise).toMatchObject({
    code: Code.DeadlineExceeded,
    rawMessage: "the operation timed out",
  });
});

test("a signal that is first read after a call was cancelled is aborted", async () => {
  const started = event();
  const cancelled = event();
  const reason = event<unknown>();
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, async (_request, context) => {
      started.resolve();
      await cancelled.promise;
      await sleep(20);
      reason.resolve(context.signal.aborted && context.signal.reason);
      return {};
    });
  };
  await using loopback = await listen({ routes });
  const controller = new AbortController();
  const outcome = loopback.call["grpc-js"]("unary", [""], { signal: controller.signal });
  await started.promise;
  controller.abort();
  await outcome;
  cancelled.resolve();
  expect(await reason.promise).toMatchObject({ code: Code.Canceled });
});

test.each(["unary", "serverStream"] as const)(
  "a completed %s call aborts its signal, as in Connect",
  async (method) => {
    const signals: AbortSignal[] = [];
    const routes = (router: ConnectRouter) => {
      router.service(EchoService, {
        unary(_request, { signal }) {
          signals.push(signal);
          return { value: String(signal.aborted) };
        },
        async *serverStream(_request, { signal }) {
          signals.push(signal);
          yield { value: String(signal.aborted) };
        },
      });
    };
    await using loopback = await listen({ routes });
    const outcome = await loopback.call["grpc-js"](method, [""]);
    expect(outcome).toMatchObject({ code: 0, values: ["false"] });
    const [signal] = signals;
    expect(signal && (await aborted(signal))).toMatchObject({
      code: Code.Canceled,
      rawMessage: "the call is complete",
    });
  },
);

test("a cancelled stream closes an iterable that waits for its next item", async () => {
  const received = event();
  const returned = event();
  const items: AsyncIterable<{ value: string }> = {
    [Symbol.asyncIterator]: () => {
      let count = 0;
      return {
        next: () =>
          count++ === 0
            ? Promise.resolve({ done: false, value: { value: "first" } })
            : new Promise(() => {}),
        return: async () => {
          returned.resolve();
          return { done: true, value: undefined };
        },
      };
    },
  };
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.serverStream, () => items);
  };
  await using loopback = await listen({ routes });
  const controller = new AbortController();
  const outcome = loopback.call["grpc-js"]("serverStream", [""], {
    signal: controller.signal,
    onValue: () => received.resolve(),
  });
  await received.promise;
  controller.abort();
  await returned.promise;
  expect(await outcome).toMatchObject({ code: Code.Canceled });
});

test("a handler does not take the requests of a client that hung up for complete", async () => {
  const { routes, started, failure } = readingRoutes();
  await using loopback = await listen({ routes });
  const session = connect(loopback.baseUrl);
  const stream = session.request({
    ":method": "POST",
    ":path": "/echo.v1.EchoService/ClientStream",
    "content-type": "application/grpc",
    te: "trailers",
  });
  // An empty message, and no end of the stream.
  stream.write(Buffer.alloc(5));
  await started;
  session.destroy();
  expect(await failure).toBeInstanceOf(ConnectError);
  expect(await failure).toMatchObject({ code: Code.Canceled });
});

test("a handler does not take the requests of a client that cancels for complete", async () => {
  const { routes, started, failure } = readingRoutes();
  await using loopback = await listen({ routes });
  const { hostname, port } = new URL(loopback.baseUrl);
  const socket = connectSocket(Number(port), hostname);
  // Around the socket, so that what HTTP/2 writes can be held back.
  const connection = new Duplex({
    read() {},
    write(bytes, _encoding, done) {
      socket.write(bytes);
      done();
    },
  });
  socket.on("data", (bytes) => connection.push(bytes));
  const session = connect(loopback.baseUrl, { createConnection: () => connection });
  const stream = session.request({
    ":method": "POST",
    ":path": "/echo.v1.EchoService/ClientStream",
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.on("error", () => {});
  stream.write(Buffer.alloc(5));
  await started;
  // Node ends the request and then resets the stream. The two arrive together.
  socket.cork();
  stream.close(constants.NGHTTP2_CANCEL);
  await sleep(20);
  socket.uncork();
  expect(await failure).toBeInstanceOf(ConnectError);
  expect(await failure).toMatchObject({ code: Code.Canceled });
  session.destroy();
  socket.destroy();
});

test("a `finally` that throws after a cancellation does no harm", async () => {
  const received = event();
  const closed = event();
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.serverStream, async function* (_request, { signal }) {
      try {
        yield {};
        await aborted(signal);
        yield {};
      } finally {
        closed.resolve();
        // biome-ignore lint/correctness/noUnsafeFinally: this is the fault to survive.
        throw new Error("close failed");
      }
    });
  };
  await using loopback = await listen({ routes });
  const controller = new AbortController();
  const outcome = loopback.call["grpc-js"]("serverStream", [""], {
    signal: controller.signal,
    onValue: () => received.resolve(),
  });
  await received.promise;
  controller.abort();
  await closed.promise;
  expect(await outcome).toMatchObject({ code: Code.Canceled });
});

test("a handler that fails because its signal aborted fails with the reason of that", async () => {
  const started = event();
  const routes = (router: ConnectRouter) => {
    router.rpc(EchoService.method.unary, async (_request, { signal }) => {
      started.resolve();
      // Rejects with an AbortError.
      await sleep(60_000, undefined, { signal });
      return {};
    });
  };
  const shutdown = new AbortController();
  await using loopback = await listen({ routes, shutdownSignal: shutdown.signal });
  const outcome = loopback.call["grpc-js"]("unary", [""]);
  await started.promise;
  shutdown.abort();
  expect(await outcome).toMatchObject({
    code: Code.Unavailable,
    message: "the server is shutting down",
  });
});

test("a server that may shut down does not remember finished calls", async () => {
  const signals: WeakRef<AbortSignal>[] = [];
  const routes = (router: ConnectRouter) => {
    router.service(EchoService, {
      unary(_request, { signal }) {
        signals.push(new WeakRef(signal));
        return {};
      },
      async *serverStream(_request, { signal }) {
        signals.push(new WeakRef(signal));
        yield {};
      },
    });
  };
  const shutdown = new AbortController();
  await using loopback = await listen({ routes, shutdownSignal: shutdown.signal });
  for (let n = 0; n < 10; n++) {
    await loopback.call["grpc-js"]("unary", [""]);
    await loopback.call["grpc-js"]("serverStream", [""]);
  }
  setFlagsFromString("--expose-gc");
  const collectGarbage: () => void = runInNewContext("gc");
  await sleep(20);
  collectGarbage();
  const alive = signals.filter((signal) => signal.deref() !== undefined);
  expect(signals).toHaveLength(20);
  // The latest ones may be on a stack still.
  expect(alive.length).toBeLessThan(5);
});

describe("a shutdown", () => {
  const reasons = [
    ["a plain abort", undefined, Code.Unavailable, "the server is shutting down"],
    [
      "a ConnectError",
      new ConnectError("moving house", Code.Aborted),
      Code.Aborted,
      "moving house",
    ],
  ] as const;

  test.each(reasons)("by %s ends streams", async (_name, reason, code, message) => {
    const received = event();
    const closed = event();
    const routes = (router: ConnectRouter) => {
      // Heeds no signal.
      router.rpc(EchoService.method.serverStream, async function* () {
        try {
          for (;;) {
            yield { value: "tick" };
            await sleep(5);
          }
        } finally {
          closed.resolve();
        }
      });
    };
    const shutdown = new AbortController();
    await using loopback = await listen({ routes, shutdownSignal: shutdown.signal });
    const outcome = loopback.call["grpc-js"]("serverStream", [""], {
      onValue: () => received.resolve(),
    });
    await received.promise;
    shutdown.abort(reason);
    expect(await outcome).toMatchObject({ code, message });
    await closed.promise;
  });

  test("ends a stream that the client sends", async () => {
    const { routes, started, failure } = readingRoutes();
    const shutdown = new AbortController();
    await using loopback = await listen({ routes, shutdownSignal: shutdown.signal });
    const identity = (bytes: Buffer) => bytes;
    const path = "/echo.v1.EchoService/ClientStream";
    const call = loopback.grpcClient.makeClientStreamRequest(path, identity, identity, () => {});
    await started;
    shutdown.abort();
    const [{ code }] = await once(call, "status");
    expect(code).toBe(Code.Unavailable);
    expect(await failure).toBeInstanceOf(ConnectError);
    expect(await failure).toMatchObject({ code: Code.Unavailable });
  });

  test("lets unary calls respond", async () => {
    const started = event();
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.unary, async (_request, { signal }) => {
        started.resolve();
        await aborted(signal);
        return { value: "done" };
      });
    };
    const shutdown = new AbortController();
    await using loopback = await listen({ routes, shutdownSignal: shutdown.signal });
    const outcome = loopback.call["grpc-js"]("unary", [""]);
    await started.promise;
    shutdown.abort();
    expect(await outcome).toMatchObject({ code: 0, values: ["done"] });
  });

  test("that has begun refuses new streams", async () => {
    const routes = (router: ConnectRouter) => {
      router.service(EchoService, {
        unary: (_request, { signal }) => ({ value: String(signal.aborted) }),
        async *serverStream() {
          yield { value: "never" };
        },
      });
    };
    await using loopback = await listen({ routes, shutdownSignal: AbortSignal.abort() });
    expect(await loopback.call["grpc-js"]("serverStream", [""])).toMatchObject({
      code: Code.Unavailable,
      values: [],
    });
    expect(await loopback.call["grpc-js"]("unary", [""])).toMatchObject({ values: ["true"] });
  });

  test("lets the server finish", async () => {
    const received = event();
    const routes = (router: ConnectRouter) => {
      router.rpc(EchoService.method.serverStream, async function* (_request, { signal }) {
        yield {};
        await aborted(signal);
      });
    };
    const shutdown = new AbortController();
    await using loopback = await listen({ routes, shutdownSignal: shutdown.signal });
    const outcome = loopback.call["grpc-js"]("serverStream", [""], {
      onValue: () => received.resolve(),
    });
    await received.promise;
    shutdown.abort();
    await new Promise((resolve) => loopback.server.tryShutdown(resolve));
    expect(await outcome).toMatchObject({ code: Code.Unavailable });
  });
});
