import { EventEmitter, once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type SessionEvent,
  SessionEventType,
  type WatchSessionsRequestSchema,
  type WatchSessionsResponse,
} from "@sessiond/proto/sessiond/v1/session_service";
import { describe, expect, test } from "vitest";
import { failureIfAny, failureOf } from "../testing/outcome.js";
import {
  clientOver,
  GRPC,
  JSON_OVER_HTTP,
  PROTOCOLS,
  type SessionServiceClient,
} from "../testing/protocols.js";
import { byId, newSession, newUser, renaming } from "../testing/session-requests.js";
import { startTestServer, type TestServer, useTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";
import { within } from "../testing/within.js";

/** What "at once" is on a busy machine. */
const AT_ONCE_MS = 300;
/** Well below the grace of 10 s that other calls are given when a server stops. */
const SOON_MS = 2_000;
const MANY_PER_USER = { maxSessionsPerUser: 1_000 };

/** A watch under way, and its messages so far. */
class Watch implements Disposable {
  readonly messages: WatchSessionsResponse[] = [];
  /** How it failed; undefined if the test ended it. */
  readonly ended: ReturnType<typeof failureIfAny>;
  readonly #abort = new AbortController();
  readonly #emitter = new EventEmitter();

  constructor(
    client: SessionServiceClient,
    request: MessageInitShape<typeof WatchSessionsRequestSchema> = {},
  ) {
    const { signal } = this.#abort;
    const messages = client.watchSessions(request, { signal });
    const failure = failureIfAny(this.#collect(messages));
    this.ended = failure.then((failed) => (signal.aborted ? undefined : failed));
  }

  async #collect(messages: AsyncIterable<WatchSessionsResponse>): Promise<void> {
    for await (const message of messages) {
      this.messages.push(message);
      this.#emitter.emit("message");
    }
  }

  get events(): readonly SessionEvent[] {
    return this.messages.flatMap(({ message }) =>
      message.case === "events" ? message.value.events : [],
    );
  }

  get resumeToken(): string {
    return this.messages.at(-1)?.resumeToken ?? "";
  }

  count(kind: "checkpoint" | "reset"): number {
    return this.messages.filter(({ message }) => message.case === kind).length;
  }

  async until(isDone: (watch: Watch) => boolean): Promise<void> {
    while (!isDone(this)) {
      const failure = await Promise.race([once(this.#emitter, "message"), this.ended]);
      if (failure && "code" in failure) throw new Error(`the watch failed: ${failure.message}`);
    }
  }

  /** Waits until the watch has caught up. Everything that happens from then on is told. */
  async begun(): Promise<this> {
    await this.until((watch) => watch.count("checkpoint") > 0);
    return this;
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
  }
}

/** Many watches that have begun. */
function beginMany(client: SessionServiceClient, count: number): Promise<readonly Watch[]> {
  return Promise.all(Array.from({ length: count }, () => new Watch(client).begun()));
}

/** Creates and ends so many sessions of a new user. Their events are long. */
async function changeMany(client: SessionServiceClient, count: number): Promise<void> {
  const userId = newUser();
  await Promise.all(Array.from({ length: count }, () => newSession(client, { userId })));
  await client.revokeUserSessions({ userId, reason: "r".repeat(256) });
}

/** The lines of the log about watches. */
function watchesIn(logs: TestServer["logs"]) {
  return logs.filter(({ method }) => String(method).endsWith("/WatchSessions"));
}

describe.each(STORES)("on $name", ({ open }) => {
  const server = useTestServer({ open });

  test.each(PROTOCOLS)(
    "the changes of one user's sessions are told at once and in order over $name",
    async (protocol) => {
      const client = clientOver(protocol, server);
      const userId = newUser();
      using watch = await new Watch(client, { userId }).begun();
      await newSession(client);
      const created = newSession(client, { userId });
      const first = watch.until(({ events }) => events.length === 1);
      await within(AT_ONCE_MS, first);
      const { sessionId, token } = await created;
      await client.updateSession(renaming(sessionId, "Ann"));
      const rotated = await client.rotateSessionToken({ token });
      await client.verifySession({ token: rotated.token });
      await client.revokeSession({ ...byId(sessionId), reason: "bye" });
      await watch.until(({ events }) => events.length === 4);
      expect(watch.events).toMatchObject([
        { type: SessionEventType.CREATED, sessionId, userId, version: 1n, reason: "" },
        { type: SessionEventType.UPDATED, sessionId, userId, version: 2n, reason: "" },
        { type: SessionEventType.TOKEN_ROTATED, sessionId, userId, version: 3n, reason: "" },
        { type: SessionEventType.REVOKED, sessionId, userId, version: 4n, reason: "bye" },
      ]);
      for (const { time } of watch.events) {
        expect(Math.abs((time ? timestampMs(time) : 0) - Date.now())).toBeLessThan(60_000);
      }
      expect(watch.count("reset")).toBe(0);
    },
  );
});

describe.each([GRPC, JSON_OVER_HTTP])("over $name", (protocol) => {
  const server = useTestServer();
  const client = clientOver(protocol, server);

  test("a token of a watch of another user is refused, and so is nonsense", async () => {
    using watch = await new Watch(client, { userId: "ann" }).begun();
    const { resumeToken } = watch;
    for (const [field, request] of [
      ["resume_token", { userId: "bob", resumeToken }],
      ["resume_token", { resumeToken }],
      ["resume_token", { userId: "ann", resumeToken: "nonsense" }],
      ["user_id", { userId: "a".repeat(257) }],
    ] as const) {
      expect(await new Watch(client, request).ended).toMatchObject({
        code: "INVALID_ARGUMENT",
        reason: "INVALID_ARGUMENT",
        domain: "sessiond",
        violations: [{ field }],
      });
    }
  });

  test("a watch is logged when it ends, in one line as every call", async () => {
    const claims = { sub: "watcher", scope: "sessions:read" };
    const watcher = clientOver(protocol, server, await server.issuer.sign({ claims }));
    const lines = () => watchesIn(server.logs).filter(({ caller }) => caller === "watcher");
    const watch = await new Watch(watcher).begun();
    await sleep(100);
    expect(lines()).toEqual([]);
    watch[Symbol.dispose]();
    await expect.poll(() => lines().length).toBe(1);
    expect(lines()[0]).toMatchObject({ msg: "call", level: 30, code: "canceled" });
    expect(lines()[0]?.["duration_ms"]).toBeGreaterThan(100);
    expect(lines()[0]).not.toHaveProperty("err");

    await new Watch(watcher, { resumeToken: "nonsense" }).ended;
    await expect.poll(() => lines().length).toBe(2);
    expect(lines()[1]).toMatchObject({ msg: "call", level: 30, code: "invalid_argument" });
  });

  test("a watch with a deadline ends with it, and one without goes on", async () => {
    using endless = await new Watch(client).begun();
    const readAll = async () => {
      for await (const _ of client.watchSessions({}, { timeoutMs: 700 }));
    };
    expect(await failureOf(readAll())).toMatchObject({ code: "DEADLINE_EXCEEDED" });
    const seen = endless.messages.length;
    await endless.until((watch) => watch.messages.length > seen);
  });
});

test("a reader that does not keep up is cut, and goes on from its last token", {
  timeout: 120_000,
}, async () => {
  await using server = await startTestServer({ policy: MANY_PER_USER });
  const client = clientOver(GRPC, server);
  const slow = client.watchSessions({})[Symbol.asyncIterator]();
  let resumeToken = (await slow.next()).value?.resumeToken ?? "";
  const seen: string[] = [];
  const note = ({ message, resumeToken: token }: WatchSessionsResponse) => {
    resumeToken = token;
    if (message.case !== "events") return;
    seen.push(...message.value.events.map(({ sessionId, version }) => `${sessionId} ${version}`));
  };
  // More than may wait for the reader, together with what the connection holds.
  for (let i = 0; i < 60; i++) await changeMany(client, 200);
  const readAll = async () => {
    for (let next = await slow.next(); !next.done; next = await slow.next()) note(next.value);
  };
  expect(await failureOf(readAll())).toMatchObject({
    code: "RESOURCE_EXHAUSTED",
    reason: "OVERLOADED",
    message: "the watcher reads too slowly; resume from the last resume_token",
    retryDelayMs: expect.any(Number),
  });
  expect(seen.length).toBeLessThan(60 * 400);

  using rest = await new Watch(client, { resumeToken }).begun();
  expect(rest.count("reset")).toBe(0);
  for (const message of rest.messages) note(message);
  expect(seen.length).toBe(60 * 400);
  expect(new Set(seen).size).toBe(seen.length);
});

test.each(PROTOCOLS)(
  "a server that is told to stop ends watches at once over $name, also those that nobody reads",
  async (protocol) => {
    await using server = await startTestServer({ policy: MANY_PER_USER });
    const client = clientOver(protocol, server);
    const unread = client.watchSessions({})[Symbol.asyncIterator]();
    await unread.next();
    for (let i = 0; i < 10; i++) await changeMany(client, 100);
    const watches = await beginMany(client, 10);
    await within(SOON_MS, server.stop());
    const told = { code: "UNAVAILABLE", message: "the server is stopping" };
    for (const watch of watches) expect(await watch.ended).toMatchObject(told);
    expect(watchesIn(server.logs).map(({ code }) => code)).toEqual(Array(11).fill("unavailable"));
  },
);

test("clients that go away without a word make room for others", async () => {
  await using server = await startTestServer();
  const client = clientOver(GRPC, server);
  for (let round = 1; round <= 3; round++) {
    for (const watch of await beginMany(client, 400)) watch[Symbol.dispose]();
    await expect.poll(() => watchesIn(server.logs).length).toBe(round * 400);
  }
});
