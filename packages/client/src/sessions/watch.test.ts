import { setTimeout as sleep } from "node:timers/promises";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type WatchSessionsRequest,
  SessionEventType as WireType,
} from "@sessiond/proto/sessiond/v1/session_service";
import { afterEach, describe, expect, test } from "vitest";
import { createSessionClient, type SessionClient } from "../client.js";
import { SessiondError } from "../error.js";
import type { SessionClientOptions } from "../options.js";
import {
  answer,
  type Handlers,
  overloaded,
  type SessionServer,
  startSessionServer,
  storeUnavailable,
} from "../testing/session-server.js";
import type { WatchMessage, WatchSessionsOptions } from "./watch.js";

/** How long a stream may be silent. */
const SILENCE_MS = 5_000;
const TIME_MS = 1_700_000_000_000;

type Serve = NonNullable<Handlers["watchSessions"]>;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) {
    await cleanup();
  }
});

const checkpoint = (resumeToken: string) => ({
  message: { case: "checkpoint", value: { time: timestampFromMs(TIME_MS) } } as const,
  resumeToken,
});

const forever = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(new Error("it has ended")), { once: true });
  });

describe.each(["grpc", "connect"] as const)("a watch over %s", (protocol) => {
  let server: SessionServer;
  let requests: WatchSessionsRequest[];

  /** Serves watches, and counts them. */
  async function serve(watchSessions: Serve, port?: number): Promise<void> {
    requests = [];
    const counted: Serve = (request, context) => {
      requests.push(request);
      return watchSessions(request, context);
    };
    const started = await startSessionServer(protocol, { watchSessions: counted }, port);
    cleanups.push(() => started[Symbol.asyncDispose]());
    server = started;
  }

  function connect(options: Partial<Pick<SessionClientOptions, "token">> = {}): SessionClient {
    const { baseUrl } = server;
    const client = createSessionClient({ baseUrl, protocol, token: "token", ...options });
    cleanups.push(() => client.close());
    return client;
  }

  /** The first messages of a watch. */
  async function take(
    count: number,
    options?: WatchSessionsOptions,
    client = connect(),
  ): Promise<WatchMessage[]> {
    const messages: WatchMessage[] = [];
    for await (const message of client.watchSessions(options)) {
      messages.push(message);
      if (messages.length === count) break;
    }
    return messages;
  }

  test("tells what the server does, and asks for what it was told to", async () => {
    const event = { sessionId: "s", userId: "u", time: timestampFromMs(TIME_MS), version: 3n };
    await serve(async function* (_, { signal }) {
      const events = [
        { ...event, type: WireType.CREATED },
        { ...event, type: WireType.EVICTED, reason: "session limit reached" },
        { ...event, type: 99 as WireType },
      ];
      yield { message: { case: "events", value: { events } }, resumeToken: "1" };
      yield checkpoint("2");
      yield { message: { case: undefined }, resumeToken: "3" };
      yield { message: { case: "reset", value: { reason: "lost" } }, resumeToken: "4" };
      await forever(signal);
    });
    const session = { sessionId: "s", userId: "u", time: new Date(TIME_MS), version: 3 };
    expect(await take(3, { userId: "u", resumeToken: "0" })).toEqual([
      {
        type: "events",
        events: [
          { ...session, type: "created" },
          { ...session, type: "evicted", reason: "session limit reached" },
          { ...session, type: "unknown" },
        ],
        resumeToken: "1",
      },
      { type: "checkpoint", time: new Date(TIME_MS), resumeToken: "2" },
      { type: "reset", reason: "lost", resumeToken: "4" },
    ]);
    expect(requests).toMatchObject([{ userId: "u", resumeToken: "0" }]);
  });

  test.each([
    ["the server stops", () => new ConnectError("the server is stopping", Code.Unavailable)],
    ["it is too slow", () => overloaded(1)],
    ["the store cannot be reached", storeUnavailable],
    ["a proxy gives up", () => new ConnectError("stream reset", Code.Internal)],
    ["the connection breaks", () => server.breakConnections()],
    ["the server just ends it", () => undefined],
  ])("goes on after the last message when %s", async (_, end) => {
    let sent = 0;
    await serve(async function* () {
      yield checkpoint(`${++sent}`);
      yield checkpoint(`${++sent}`);
      // Or the connection would be gone before what was sent has arrived.
      await sleep(50);
      const error = end();
      if (error !== undefined) throw error;
    });
    const messages = await take(6);
    expect(messages.map(({ resumeToken }) => resumeToken)).toEqual(["1", "2", "3", "4", "5", "6"]);
    expect(requests.map(({ resumeToken }) => resumeToken)).toEqual(["", "2", "4"]);
  });

  test("waits for a server that is down, but does not besiege it", async () => {
    await serve(async function* () {
      yield checkpoint("1");
      throw storeUnavailable();
    });
    const { baseUrl } = server;
    const watch = connect().watchSessions();
    await watch.next();
    await server[Symbol.asyncDispose]();
    const next = watch.next();
    await sleep(1_500);

    let attempts = 0;
    await serve(
      () => {
        attempts++;
        throw storeUnavailable();
      },
      Number(new URL(baseUrl).port),
    );
    await sleep(3_000);
    expect(attempts).toBeGreaterThan(0);
    // Half a second apart on average, once it has failed some times.
    expect(attempts).toBeLessThan(30);
    await server[Symbol.asyncDispose]();
    await serve(
      async function* (_, { signal }) {
        yield checkpoint("2");
        await forever(signal);
      },
      Number(new URL(baseUrl).port),
    );
    expect((await next).value).toMatchObject({ resumeToken: "2" });
    expect(requests[0]).toMatchObject({ resumeToken: "1" });
    await watch.return(undefined as never);
  });

  test("gives up a stream that is silent, but not one whose messages wait for their taker", async () => {
    await serve(async function* ({ resumeToken }, { signal }) {
      yield checkpoint("1");
      if (resumeToken === "") await forever(signal);
      for (let i = 2; ; i++) {
        yield checkpoint(`${i}`);
        await sleep(500, undefined, { signal });
      }
    });
    const watch = connect().watchSessions();
    const startMs = performance.now();
    await watch.next();
    expect((await watch.next()).value).toMatchObject({ resumeToken: "1" });
    const waitedMs = performance.now() - startMs;
    expect(waitedMs).toBeGreaterThan(SILENCE_MS - 100);
    expect(waitedMs).toBeLessThan(SILENCE_MS + 2_000);
    expect(requests).toHaveLength(2);

    await sleep(SILENCE_MS + 1_000);
    await watch.next();
    expect(requests).toHaveLength(2);
    await watch.return(undefined as never);
  });

  test.each([
    ["INVALID_ARGUMENT", Code.InvalidArgument],
    ["UNAUTHENTICATED", Code.Unauthenticated],
    ["PERMISSION_DENIED", Code.PermissionDenied],
  ])("fails with %s, which no other attempt would change", async (reason, code) => {
    await serve(() => {
      throw answer(code, reason);
    });
    const failed = take(1);
    await expect(failed).rejects.toBeInstanceOf(SessiondError);
    await expect(failed).rejects.toMatchObject({ reason });
    expect(requests).toHaveLength(1);
  });

  test("fails at a server that is too old to be watched", async () => {
    const started = await startSessionServer(protocol, {});
    cleanups.push(() => started[Symbol.asyncDispose]());
    server = started;
    await expect(take(1)).rejects.toMatchObject({ code: Code.Unimplemented });
  });

  test("ends at the server as well when its loop is left, its signal aborted, or the client closed", async () => {
    let open = 0;
    await serve(async function* (_, { signal }) {
      open++;
      signal.addEventListener("abort", () => open--, { once: true });
      yield checkpoint("1");
      await forever(signal);
    });
    await take(1);
    await expect.poll(() => open).toBe(0);

    const abort = new AbortController();
    const aborted = take(2, { signal: abort.signal });
    await expect.poll(() => open).toBe(1);
    abort.abort(new Error("enough"));
    await expect(aborted).rejects.toMatchObject({ reason: "CANCELED", cause: abort.signal.reason });
    await expect.poll(() => open).toBe(0);

    const client = connect();
    const closed = take(2, {}, client);
    await expect.poll(() => open).toBe(1);
    client.close();
    await expect(closed).rejects.toMatchObject({ reason: "CANCELED" });
    await expect.poll(() => open).toBe(0);
    await expect(take(1, {}, client)).rejects.toMatchObject({ reason: "CANCELED" });
  });

  test("can be aborted while it waits for a server that is down", async () => {
    await serve(() => {
      throw overloaded(60_000);
    });
    const abort = new AbortController();
    const watching = take(1, { signal: abort.signal });
    await expect.poll(() => requests.length).toBe(1);
    await sleep(50);
    abort.abort();
    await expect(watching).rejects.toMatchObject({ reason: "CANCELED" });
  });

  test("asks for the access token anew for each stream, and bears a failure of that later on", async () => {
    await serve(async function* () {
      yield checkpoint("1");
      throw storeUnavailable();
    });
    let asked = 0;
    const token = () => {
      if (++asked === 2) throw new Error("the issuer is down");
      return `token-${asked}`;
    };
    await take(2, {}, connect({ token }));
    expect(server.calls.map(({ authorization }) => authorization)).toEqual([
      "Bearer token-1",
      "Bearer token-3",
    ]);

    const failing = connect({ token: () => Promise.reject(new Error("misconfigured")) });
    await expect(take(1, {}, failing)).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
  });

  test("refuses an empty user id, which would watch everyone", async () => {
    await serve(async function* () {
      yield checkpoint("1");
    });
    for (const userId of ["", undefined as unknown as string]) {
      await expect(take(1, { userId })).rejects.toMatchObject({
        reason: "INVALID_ARGUMENT",
        fieldViolations: [{ field: "user_id" }],
      });
    }
    expect(await take(1, { resumeToken: undefined })).toHaveLength(1);
  });

  test("fails at a message that breaks the contract, which would only come again", async () => {
    await serve(async function* (_, { signal }) {
      yield { message: { case: "checkpoint", value: {} }, resumeToken: "1" };
      await forever(signal);
    });
    await expect(take(1)).rejects.toMatchObject({ reason: "INTERNAL" });
    expect(requests).toHaveLength(1);
  });
});
