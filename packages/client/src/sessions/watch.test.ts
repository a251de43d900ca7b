import { setTimeout as sleep } from "node:timers/promises";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { SessionEventType as ProtoType } from "@sessiond/proto/sessiond/v1/session_service";
import { describe, expect, test } from "vitest";
import type { SessionClient } from "../client.js";
import {
  answer,
  connectClient,
  type Handlers,
  overloaded,
  PROTOCOLS,
  rejection,
  type SessionServer,
  startClient,
  startSessionServer,
  storeUnavailable,
  throwing,
} from "../testing/session-server.js";
import type { WatchMessage, WatchSessionsOptions } from "./watch.js";

/** How long a stream may be silent. */
const SILENCE_MS = 5_000;
const TIME_MS = 1_700_000_000_000;

const checkpoint = (resumeToken: string) => ({
  message: { case: "checkpoint", value: { time: timestampFromMs(TIME_MS) } } as const,
  resumeToken,
});

const forever = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(new Error("it has ended")), { once: true });
  });

/** The first messages of a watch. */
async function take(
  client: SessionClient,
  count: number,
  options?: WatchSessionsOptions,
): Promise<WatchMessage[]> {
  const messages: WatchMessage[] = [];
  for await (const message of client.watchSessions(options)) {
    messages.push(message);
    if (messages.length === count) break;
  }
  return messages;
}

const resumeTokens = (server: SessionServer) =>
  server.requests("watchSessions").map(({ resumeToken }) => resumeToken);

describe.each(PROTOCOLS)("a watch over %s", (protocol) => {
  const start = (watchSessions: NonNullable<Handlers["watchSessions"]>) =>
    startClient({ watchSessions }, { protocol });

  test("yields what the server sends, and sends the caller's options", async () => {
    const event = { sessionId: "s", userId: "u", time: timestampFromMs(TIME_MS), version: 3n };
    const { server, client } = await start(async function* (_, { signal }) {
      const events = [
        { ...event, type: ProtoType.CREATED },
        { ...event, type: ProtoType.EVICTED, reason: "session limit reached", changedBy: "web" },
        { ...event, type: ProtoType.TOKEN_REUSED },
        { ...event, type: 99 as ProtoType },
      ];
      yield { message: { case: "events", value: { events } }, resumeToken: "1" };
      yield checkpoint("2");
      yield { message: { case: undefined }, resumeToken: "3" };
      yield { message: { case: "reset", value: { reason: "lost" } }, resumeToken: "4" };
      await forever(signal);
    });
    const session = { sessionId: "s", userId: "u", time: new Date(TIME_MS), version: 3 };
    expect(await take(client, 3, { userId: "u", resumeToken: "0" })).toEqual([
      {
        type: "events",
        events: [
          { ...session, type: "created" },
          { ...session, type: "evicted", reason: "session limit reached", changedBy: "web" },
          { ...session, type: "token_reused" },
          { ...session, type: "unknown" },
        ],
        resumeToken: "1",
      },
      { type: "checkpoint", time: new Date(TIME_MS), resumeToken: "2" },
      { type: "reset", reason: "lost", resumeToken: "4" },
    ]);
    expect(server.requests("watchSessions")).toMatchObject([{ userId: "u", resumeToken: "0" }]);
  });

  test.each([
    ["the server stops", () => new ConnectError("the server is stopping", Code.Unavailable)],
    ["it is too slow", () => overloaded(1)],
    ["the store cannot be reached", storeUnavailable],
    ["a proxy gives up", () => new ConnectError("stream reset", Code.Internal)],
    ["the connection breaks", (server: SessionServer) => server.breakConnections()],
    ["the server ends it", () => undefined],
  ])("continues after the last message when %s", async (_, end) => {
    let sent = 0;
    const { server, client } = await start(async function* () {
      yield checkpoint(`${++sent}`);
      yield checkpoint(`${++sent}`);
      // Otherwise the connection would break before the messages have arrived.
      await sleep(50);
      const error = end(server);
      if (error !== undefined) throw error;
    });
    const messages = await take(client, 6);
    expect(messages.map(({ resumeToken }) => resumeToken)).toEqual(["1", "2", "3", "4", "5", "6"]);
    expect(resumeTokens(server)).toEqual(["", "2", "4"]);
  });

  test("ends at the server too when its loop is left, its signal aborts, or the client closes", async () => {
    let open = 0;
    const { client } = await start(async function* (_, { signal }) {
      open++;
      signal.addEventListener("abort", () => open--, { once: true });
      yield checkpoint("1");
      await forever(signal);
    });
    await take(client, 1);
    await expect.poll(() => open).toBe(0);

    const abort = new AbortController();
    const aborted = rejection(take(client, 2, { signal: abort.signal }));
    await expect.poll(() => open).toBe(1);
    abort.abort(new Error("enough"));
    expect(await aborted).toMatchObject({ reason: "CANCELED", cause: abort.signal.reason });
    await expect.poll(() => open).toBe(0);

    const closed = rejection(take(client, 2));
    await expect.poll(() => open).toBe(1);
    client.close();
    expect((await closed).reason).toBe("CANCELED");
    await expect.poll(() => open).toBe(0);
    expect((await rejection(take(client, 1))).reason).toBe("CANCELED");
  });
});

describe("a watch", () => {
  test("waits for a server that is down, but does not flood it", async () => {
    const { server, client } = await startClient({
      async *watchSessions() {
        yield checkpoint("1");
        throw storeUnavailable();
      },
    });
    const port = Number(new URL(server.baseUrl).port);
    const watch = client.watchSessions();
    await watch.next();
    await server[Symbol.asyncDispose]();
    const next = watch.next();
    await sleep(1_500);

    const failing = { watchSessions: throwing(storeUnavailable) };
    const down = await startSessionServer("grpc", failing, port);
    await sleep(3_000);
    expect(down.calls.length).toBeGreaterThan(0);
    // Half a second apart on average, after the first failures.
    expect(down.calls.length).toBeLessThan(30);
    await down[Symbol.asyncDispose]();
    const up: Handlers = {
      async *watchSessions(_, { signal }) {
        yield checkpoint("2");
        await forever(signal);
      },
    };
    const restarted = await startSessionServer("grpc", up, port);
    expect((await next).value).toMatchObject({ resumeToken: "2" });
    expect(resumeTokens(restarted)).toEqual(["1"]);
    await watch.return(undefined as never);
  });

  test("gives up a silent stream, but not one whose messages wait for the consumer", async () => {
    const { server, client } = await startClient({
      async *watchSessions({ resumeToken }, { signal }) {
        yield checkpoint("1");
        if (resumeToken === "") await forever(signal);
        for (let i = 2; ; i++) {
          yield checkpoint(`${i}`);
          await sleep(500, undefined, { signal });
        }
      },
    });
    const watch = client.watchSessions();
    const startMs = performance.now();
    await watch.next();
    expect((await watch.next()).value).toMatchObject({ resumeToken: "1" });
    const waitedMs = performance.now() - startMs;
    expect(waitedMs).toBeGreaterThan(SILENCE_MS - 100);
    expect(waitedMs).toBeLessThan(SILENCE_MS + 2_000);
    expect(server.calls).toHaveLength(2);

    await sleep(SILENCE_MS + 1_000);
    await watch.next();
    expect(server.calls).toHaveLength(2);
    await watch.return(undefined as never);
  });

  test.each([
    ["INVALID_ARGUMENT", Code.InvalidArgument],
    ["UNAUTHENTICATED", Code.Unauthenticated],
    ["PERMISSION_DENIED", Code.PermissionDenied],
  ])("fails with %s, because another attempt would too", async (reason, code) => {
    const watchSessions = throwing(() => answer(code, reason));
    const { server, client } = await startClient({ watchSessions });
    expect(await rejection(take(client, 1))).toMatchObject({ reason });
    expect(server.calls).toHaveLength(1);
  });

  test("fails at a server that is too old to be watched", async () => {
    const { client } = await startClient({});
    expect((await rejection(take(client, 1))).code).toBe(Code.Unimplemented);
  });

  test("waits as long as an overloaded server asks, if only after a month", async () => {
    const watchSessions = throwing(() => overloaded(2 ** 31));
    const { server, client } = await startClient({ watchSessions });
    const abort = new AbortController();
    const watching = rejection(take(client, 1, { signal: abort.signal }));
    await expect.poll(() => server.calls).toHaveLength(1);
    await sleep(300);
    expect(server.calls).toHaveLength(1);
    abort.abort();
    await watching;
  });

  test("can be aborted while it waits for a server that is down", async () => {
    const watchSessions = throwing(() => overloaded(60_000));
    const { server, client } = await startClient({ watchSessions });
    const abort = new AbortController();
    const watching = rejection(take(client, 1, { signal: abort.signal }));
    await expect.poll(() => server.calls).toHaveLength(1);
    await sleep(50);
    abort.abort();
    expect((await watching).reason).toBe("CANCELED");
  });

  test("asks for the access token for each stream, and waits for one in an outage", async () => {
    let asked = 0;
    const token = () => {
      if (++asked % 2 === 1) throw new Error("the issuer is down");
      return `token-${asked}`;
    };
    const handlers: Handlers = {
      async *watchSessions() {
        yield checkpoint("1");
        throw storeUnavailable();
      },
    };
    const { server, client } = await startClient(handlers, { token });
    await take(client, 2);
    const tokens = server.calls.map(({ authorization }) => authorization);
    expect(tokens).toEqual(["Bearer token-2", "Bearer token-4"]);

    const misconfigured = connectClient(server.baseUrl, { token: () => "" });
    expect((await rejection(take(misconfigured, 1))).reason).toBe("UNAUTHENTICATED");
  });

  test("refuses an empty user id, which would watch all users", async () => {
    const { server, client } = await startClient({
      async *watchSessions() {
        yield checkpoint("1");
      },
    });
    for (const userId of ["", undefined as unknown as string]) {
      expect(await rejection(take(client, 1, { userId }))).toMatchObject({
        reason: "INVALID_ARGUMENT",
        fieldViolations: [{ field: "user_id" }],
      });
    }
    expect(server.calls).toEqual([]);
    expect(await take(client, 1, { resumeToken: undefined })).toHaveLength(1);
  });

  test("fails at a message that breaks the contract, which would come again", async () => {
    const { server, client } = await startClient({
      async *watchSessions(_, { signal }) {
        yield { message: { case: "checkpoint", value: {} }, resumeToken: "1" };
        await forever(signal);
      },
    });
    expect((await rejection(take(client, 1))).reason).toBe("INTERNAL");
    expect(server.calls).toHaveLength(1);
  });
});
