import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";
import { Code, type ConnectError } from "@connectrpc/connect";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createSessionClient } from "../client.js";
import {
  answer,
  connectClient,
  type Handlers,
  never,
  overloaded,
  PROTOCOLS,
  protoSession,
  rejection,
  type SessionServer,
  startClient,
  startSessionServer,
  storeUnavailable,
  type TestClientOptions,
  throwing,
} from "../testing/session-server.js";

const ACCESS_TOKEN = "header.access-token-payload.signature";
const SESSION_TOKEN = "sst_c2Vzc2lvbi10b2tlbg";

afterEach(() => {
  vi.restoreAllMocks();
});

async function timed<T>(work: Promise<T>): Promise<{ value: T; elapsedMs: number }> {
  const start = performance.now();
  const value = await work;
  return { value, elapsedMs: performance.now() - start };
}

const succeed = () => ({ session: protoSession(), token: SESSION_TOKEN, revoked: true, count: 1 });

/** Calls that fail so many times and then succeed. */
function failing(times: number, error: () => ConnectError): Handlers {
  let calls = 0;
  const handle = () => {
    if (++calls <= times) throw error();
    return succeed();
  };
  return {
    getSession: handle,
    createSession: handle,
    updateSession: handle,
    rotateSessionToken: handle,
    revokeSession: handle,
    countSessions: handle,
  };
}

describe.each(PROTOCOLS)("a call over %s", (protocol) => {
  const start = (handlers: Handlers, options: TestClientOptions = {}) =>
    startClient(handlers, { protocol, ...options });

  test("carries the access token, and tells the server its timeout", async () => {
    let timeoutMs: number | undefined;
    const { server, client } = await start(
      {
        countSessions(_, context) {
          timeoutMs = context.timeoutMs();
          return { count: 0 };
        },
      },
      { token: ACCESS_TOKEN },
    );
    await client.countSessions({}, { timeoutMs: 12_345.5 });
    expect(timeoutMs).toBeGreaterThan(10_000);
    expect(timeoutMs).toBeLessThanOrEqual(12_345);
    expect(server.calls).toMatchObject([
      { method: "countSessions", authorization: `Bearer ${ACCESS_TOKEN}` },
    ]);
  });

  test("has a complete error when the server refuses it", async () => {
    const message = "user_id: expected 1 to 256 bytes";
    const violations = [{ field: "user_id", description: "expected 1 to 256 bytes" }];
    const metadata = { field: "user_id" };
    const { client } = await start({
      createSession: throwing(() =>
        answer(Code.InvalidArgument, "INVALID_ARGUMENT", { message, metadata, violations }),
      ),
    });
    const error = await rejection(client.createSession({ userId: "" }));
    expect(error).toMatchObject({
      name: "SessiondError",
      reason: "INVALID_ARGUMENT",
      code: Code.InvalidArgument,
      message,
      metadata,
      fieldViolations: violations,
    });
    expect(error.stack).toContain("rpc-caller.test.ts");
  });

  test("ends at its timeout, the client's or its own", async () => {
    const { server, client } = await start({ getSession: never }, { timeoutMs: 80 });
    const ofClient = await timed(rejection(client.getSession("s")));
    expect(ofClient.value.reason).toBe("DEADLINE_EXCEEDED");
    expect(ofClient.elapsedMs).toBeGreaterThanOrEqual(75);
    expect(ofClient.elapsedMs).toBeLessThan(1000);
    const ofCall = await timed(rejection(client.getSession("s", { timeoutMs: 300 })));
    expect(ofCall.value.reason).toBe("DEADLINE_EXCEEDED");
    expect(ofCall.elapsedMs).toBeGreaterThanOrEqual(290);
    expect(server.calls).toHaveLength(2);
  });

  test.each(["a read", "an update"])("is canceled by its signal: %s", async (kind) => {
    const { server, client } = await start({ getSession: never, updateSession: never });
    const controller = new AbortController();
    const options = { signal: controller.signal };
    const call = rejection(
      kind === "a read"
        ? client.getSession("s", options)
        : client.updateSession("s", { displayName: "Ada" }, options),
    );
    await vi.waitFor(() => expect(server.calls).toHaveLength(1));
    const cause = new Error("the user went away");
    controller.abort(cause);
    const error = await call;
    expect(error).toMatchObject({ reason: "CANCELED", code: Code.Canceled });
    expect(error.cause).toBe(cause);
  });

  test("is canceled when the client closes, as are later calls", async () => {
    const { server, client } = await start({ getSession: never, createSession: never });
    const read = rejection(client.getSession("s"));
    const creation = rejection(client.createSession({ userId: "u" }));
    await vi.waitFor(() => expect(server.calls).toHaveLength(2));
    client.close();
    const closed = { reason: "CANCELED", message: "the client is closed" };
    expect(await read).toMatchObject(closed);
    expect(await creation).toMatchObject(closed);
    expect(await rejection(client.getSession("s"))).toMatchObject(closed);
    client.close();
  });

  describe("whose connection breaks before the answer", () => {
    async function startBreaking() {
      const handle = () => {
        if (server.calls.length > 1) return succeed();
        server.breakConnections();
        return never();
      };
      const handlers = { getSession: handle, createSession: handle, updateSession: handle };
      const server: SessionServer = await startSessionServer(protocol, handlers);
      return { server, client: connectClient(server.baseUrl, { protocol }) };
    }

    test("is repeated if it is a read or a creation", async () => {
      const read = await startBreaking();
      expect(await read.client.getSession("s")).toBeDefined();
      expect(read.server.calls).toHaveLength(2);
      const creation = await startBreaking();
      expect((await creation.client.createSession({ userId: "u" })).token).toBe(SESSION_TOKEN);
      expect(creation.server.calls).toHaveLength(2);
    });

    test("fails if it is an update, which may have happened", async () => {
      const { server, client } = await startBreaking();
      const error = await rejection(client.updateSession("s", { displayName: "Ada" }));
      expect(error).toMatchObject({ reason: "UNAVAILABLE", code: Code.Unavailable });
      expect(server.calls).toHaveLength(1);
      expect((await client.updateSession("s", { displayName: "Ada" })).session.id).toBe(
        "session-1",
      );
    });
  });

  test("without a server is UNAVAILABLE, and the message says where", async () => {
    const { server, client } = await start({ countSessions: succeed });
    await client.countSessions();
    await server[Symbol.asyncDispose]();
    const gone = await rejection(client.getSession("s"));
    expect(gone.reason).toBe("UNAVAILABLE");
    expect(gone.message).toMatch(/^connect ECONNREFUSED 127\.0\.0\.1:\d+$/);
    const never = await rejection(connectClient(server.baseUrl, { protocol }).getSession("s"));
    expect(never.message).toBe(
      `${gone.message}: nothing listens there. Is this the right port and protocol? ` +
        "Unless configured, sessiond has gRPC on port 50051 and HTTP on port 8080.",
    );
  });

  test("without a server is repeated for a second even if it is an update, since nothing was sent", async () => {
    const before = await startSessionServer(protocol, {});
    await before[Symbol.asyncDispose]();
    const client = connectClient(before.baseUrl, { protocol, maxAttempts: 2 });
    const update = client.updateSession("s", { displayName: "Ada" });
    await sleep(600);
    const port = Number(new URL(before.baseUrl).port);
    const server = await startSessionServer(protocol, { updateSession: succeed }, port);
    expect((await update).session.id).toBe("session-1");
    expect(server.calls).toHaveLength(1);
  });

  test("shows no token, nor do its client and its error", async () => {
    const { server, client } = await start(
      {
        verifySession: throwing(storeUnavailable),
        rotateSessionToken: throwing(() => answer(Code.Internal, "INTERNAL")),
        refreshSession: never,
        createSession: () => {
          server.breakConnections();
          return never();
        },
      },
      { maxAttempts: 1, token: ACCESS_TOKEN },
    );
    const half = `${SESSION_TOKEN}\ud800`;
    const shown: unknown[] = [
      client,
      await rejection(client.verifySession(SESSION_TOKEN)),
      await rejection(client.revokeSession({ token: half }, { userId: "u" })),
      await rejection(client.verifySession({ secret: SESSION_TOKEN } as unknown as string)),
      await client.batchVerifySessions([half]),
      await rejection(client.rotateSessionToken(SESSION_TOKEN)),
      await rejection(client.refreshSession({ token: SESSION_TOKEN }, { timeoutMs: 30 })),
      await rejection(client.createSession({ userId: "u" })),
    ];
    client.close();
    shown.push(client, await rejection(client.verifySession(SESSION_TOKEN)));
    const broken = connectClient(server.baseUrl, { protocol, token: () => `${ACCESS_TOKEN}\n` });
    shown.push(broken, await rejection(broken.verifySession(SESSION_TOKEN)));
    for (const each of shown) {
      const text = inspect(each, { depth: Number.POSITIVE_INFINITY, showHidden: true });
      expect(text).not.toContain("access-token-payload");
      expect(text).not.toContain(SESSION_TOKEN);
    }
  });
});

describe("a timeout", () => {
  test("covers all attempts together", async () => {
    const handlers: Handlers = {
      async getSession() {
        await sleep(60);
        throw storeUnavailable();
      },
    };
    const { client } = await startClient(handlers, { maxAttempts: 10 });
    const failed = await timed(rejection(client.getSession("s", { timeoutMs: 200 })));
    expect(["STORE_UNAVAILABLE", "DEADLINE_EXCEEDED"]).toContain(failed.value.reason);
    expect(failed.elapsedMs).toBeLessThan(400);
  });

  test.each([0, -5, Number.NaN])("of %d ms is refused", async (timeoutMs) => {
    const { client } = await startClient({});
    const error = await rejection(client.getSession("s", { timeoutMs }));
    expect(error.fieldViolations[0]?.field).toBe("timeoutMs");
  });
});

describe("a signal", () => {
  test("cancels the wait for another attempt", async () => {
    const { server, client } = await startClient({ getSession: throwing(() => overloaded(3000)) });
    const signal = AbortSignal.timeout(100);
    const canceled = await timed(rejection(client.getSession("s", { signal })));
    expect(canceled.value.reason).toBe("CANCELED");
    expect(canceled.elapsedMs).toBeLessThan(1000);
    expect(server.calls).toHaveLength(1);
  });

  test("that has aborted already prevents the call", async () => {
    const token = vi.fn(() => ACCESS_TOKEN);
    const { server, client } = await startClient({}, { token });
    const error = await rejection(client.getSession("s", { signal: AbortSignal.abort() }));
    expect(error.reason).toBe("CANCELED");
    expect(token).not.toHaveBeenCalled();
    expect(server.calls).toHaveLength(0);
  });
});

describe("another attempt", () => {
  test("is made of a read, and of a revocation, while the store is unavailable", async () => {
    const read = await startClient(failing(2, storeUnavailable));
    expect(await read.client.getSession("s")).toBeDefined();
    expect(read.server.calls).toHaveLength(3);
    const revocation = await startClient(failing(1, storeUnavailable));
    expect(await revocation.client.revokeSession({ sessionId: "s" })).toBe(true);
    expect(revocation.server.calls).toHaveLength(2);
  });

  test("is made up to the maximum", async () => {
    const { server, client } = await startClient(failing(100, storeUnavailable));
    expect((await rejection(client.getSession("s"))).reason).toBe("STORE_UNAVAILABLE");
    expect(server.calls).toHaveLength(3);
    await rejection(connectClient(server.baseUrl, { maxAttempts: 1 }).getSession("s"));
    expect(server.calls).toHaveLength(4);
  });

  test.each(["createSession", "rotateSessionToken"] as const)(
    "is made of %s, which may have happened, with the same request id",
    async (method) => {
      const { server, client } = await startClient(failing(2, storeUnavailable));
      const call = (options = {}) =>
        method === "createSession"
          ? client.createSession({ userId: "u", ...options })
          : client.rotateSessionToken("old", options);
      expect((await call()).token).toBe(SESSION_TOKEN);
      await call();
      await call({ requestId: "job-7" });
      const [first, ...others] = server.requests(method).map(({ requestId }) => requestId);
      expect(first).toHaveLength(36);
      expect(others).toEqual([first, first, expect.not.stringMatching(`${first}`), "job-7"]);
    },
  );

  test("is not made of an update that may have happened", async () => {
    const { server, client } = await startClient(failing(1, storeUnavailable));
    const error = await rejection(client.updateSession("s", { displayName: "Ada" }));
    expect(error.reason).toBe("STORE_UNAVAILABLE");
    expect(server.calls).toHaveLength(1);
  });

  test("is made of an update that an overloaded server refused", async () => {
    const { server, client } = await startClient(failing(2, overloaded));
    expect((await client.updateSession("s", { displayName: "Ada" })).session.id).toBe("session-1");
    expect(server.calls).toHaveLength(3);
  });

  test("waits as long as the server asks", async () => {
    const { server, client } = await startClient(failing(1, () => overloaded(400)));
    const created = await timed(client.createSession({ userId: "u" }));
    expect(created.elapsedMs).toBeGreaterThanOrEqual(395);
    expect(server.calls).toHaveLength(2);
  });

  test("is not made if the server asks for more time than is left", async () => {
    const { server, client } = await startClient(failing(1, () => overloaded(60_000)));
    const failed = await timed(rejection(client.getSession("s")));
    expect(failed.value).toMatchObject({ reason: "OVERLOADED", retryAfterMs: 60_000 });
    expect(failed.elapsedMs).toBeLessThan(1000);
    expect(server.calls).toHaveLength(1);
  });
});

test("a client closes at the end of a `using` block", async () => {
  const server = await startSessionServer("grpc", { countSessions: succeed });
  let outside: { countSessions(): Promise<number> };
  {
    using client = createSessionClient({ baseUrl: server.baseUrl, token: ACCESS_TOKEN });
    expect(await client.countSessions()).toBe(1);
    outside = client;
  }
  expect((await rejection(outside.countSessions())).reason).toBe("CANCELED");
});
