import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { createSessionClient } from "@sessiond/client";
import { Keyring } from "@sessiond/core";
import {
  type SessionEvent,
  SessionEventType,
  type WatchSessionsRequestSchema,
  type WatchSessionsResponse,
} from "@sessiond/proto/sessiond/v1/session_service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Failure, failureOf } from "../testing/outcome.js";
import {
  bearer,
  clientOver,
  GRPC,
  JSON_OVER_HTTP,
  PROTOCOLS,
  type SessionServiceClient,
  sessionClient,
} from "../testing/protocols.js";
import {
  type ListeningServerProcess,
  spawnServer,
  spawnSessiond,
} from "../testing/server-process.js";
import { startTestIssuer, startTestServer, type TestServer } from "../testing/test-server.js";
import { STORES, type TestStore } from "../testing/test-stores.js";

/** What "at once" is on a machine that does much else. */
const AT_ONCE_MS = 300;
/** Checkpoints come at least this often, give or take what the machine does else. */
const CHECKPOINT_INTERVAL_MS = 1_000;
/** Well below the grace of 10 s that other calls are given when a server stops. */
const SOON_MS = 2_000;
const MANY_PER_USER = 1_000;

/** A watch under way, and what it has brought so far. */
class Watch implements Disposable {
  readonly messages: WatchSessionsResponse[] = [];
  readonly #abort = new AbortController();
  /** How it failed; undefined where it was this side that ended it. */
  readonly ended: Promise<Failure | undefined>;
  #onMessage = () => {};

  constructor(
    client: SessionServiceClient,
    request: MessageInitShape<typeof WatchSessionsRequestSchema> = {},
  ) {
    const { signal } = this.#abort;
    const messages = client.watchSessions(request, { signal });
    this.ended = this.#collect(messages).then(
      () => undefined,
      (error) => (signal.aborted ? undefined : failureOf(Promise.reject(error))),
    );
  }

  async #collect(messages: AsyncIterable<WatchSessionsResponse>): Promise<void> {
    for await (const message of messages) {
      this.messages.push(message);
      this.#onMessage();
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

  count(kind: "events" | "checkpoint" | "reset"): number {
    return this.messages.filter(({ message }) => message.case === kind).length;
  }

  /** Waits until it is as asked for. */
  async until(isDone: (watch: Watch) => boolean): Promise<void> {
    while (!isDone(this)) {
      const message = new Promise<void>((resolve) => {
        this.#onMessage = resolve;
      });
      const failure = await Promise.race([message, this.ended]);
      if (failure) throw new Error(`the watch has failed: ${failure.message}`);
    }
  }

  /** Waits until it has caught up. From then on whatever happens is told. */
  async begun(): Promise<this> {
    await this.until((watch) => watch.count("checkpoint") > 0);
    return this;
  }

  [Symbol.dispose](): void {
    this.#abort.abort();
  }
}

/** The lines of the log that tell of watches. */
function watchesIn(logs: TestServer["logs"]) {
  return logs.filter(({ method }) => String(method).endsWith("/WatchSessions"));
}

describe.each(STORES)("on $name", ({ open }) => {
  let store: TestStore;
  let server: TestServer;
  beforeAll(async () => {
    store = await open();
    server = await startTestServer({
      store: store.url,
      policy: { maxSessionsPerUser: MANY_PER_USER },
    });
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  });

  test.each(PROTOCOLS)(
    "a session's changes are told at once and in order over $name",
    async (protocol) => {
      const client = clientOver(protocol, server);
      const userId = `ann ${protocol.name}`;
      using watch = await new Watch(client, { userId }).begun();
      const startMs = Date.now();
      const { session, token } = await client.createSession({ userId });
      const sessionId = session?.id ?? "";
      await watch.until(({ events }) => events.length === 1);
      expect(Date.now() - startMs).toBeLessThan(AT_ONCE_MS);

      const updateMask = { paths: ["display_name"] };
      await client.updateSession({ sessionId, session: { displayName: "Ann" }, updateMask });
      const rotated = await client.rotateSessionToken({ token });
      await client.verifySession({ token: rotated.token });
      await client.revokeSession({
        target: { case: "sessionId", value: sessionId },
        reason: "bye",
      });
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

  describe.each([GRPC, JSON_OVER_HTTP])("over $name", (protocol) => {
    test("checkpoints come every second while nothing happens, and their times move on", async () => {
      using watch = await new Watch(clientOver(protocol, server)).begun();
      const arrivalsMs: number[] = [];
      const seen = watch.messages.length;
      for (let i = 1; i <= 5; i++) {
        await watch.until(({ messages }) => messages.length >= seen + i);
        arrivalsMs.push(performance.now());
      }
      for (const [i, arrivalMs] of arrivalsMs.slice(1).entries()) {
        expect(arrivalMs - (arrivalsMs[i] ?? 0)).toBeLessThan(CHECKPOINT_INTERVAL_MS);
      }
      const timesMs = watch.messages.map(({ message }) =>
        message.case === "checkpoint" && message.value.time ? timestampMs(message.value.time) : 0,
      );
      expect(timesMs).toEqual(timesMs.toSorted((a, b) => a - b));
      expect(timesMs.at(-1)).toBeGreaterThan(timesMs[0] ?? 0);
    });

    test("a watch of one user tells of that one only, a watch of all of everyone", async () => {
      const client = clientOver(protocol, server);
      const [mine, others] = [`mine ${protocol.name}`, `other ${protocol.name}`];
      using all = await new Watch(client).begun();
      using one = await new Watch(client, { userId: mine }).begun();
      for (const userId of [others, mine, others, mine]) await client.createSession({ userId });
      await client.revokeUserSessions({ userId: others, reason: "password changed" });
      await client.revokeUserSessions({ userId: mine });
      await all.until(({ events }) => events.length === 8);
      await one.until(({ events }) => events.length === 4);
      await sleep(50);
      expect(one.events.map(({ userId }) => userId)).toEqual([mine, mine, mine, mine]);
      expect(all.events.filter(({ reason }) => reason === "password changed")).toHaveLength(2);
    });

    test("whoever resumes with the last token misses nothing and hears nothing twice", async () => {
      const client = clientOver(protocol, server);
      const userId = `resuming ${protocol.name}`;
      const { session } = await client.createSession({ userId });
      let resumeToken = "";
      const versions: bigint[] = [];
      const changing = (async () => {
        for (let i = 0; i < 60; i++) {
          await client.updateSession({
            sessionId: session?.id ?? "",
            session: { displayName: `${i}` },
            updateMask: { paths: ["display_name"] },
          });
        }
      })();
      while (versions.at(-1) !== 61n) {
        using watch = new Watch(client, { userId, resumeToken });
        await watch.until(({ messages }) => messages.length >= 3);
        expect(watch.count("reset")).toBe(0);
        // From now on: of what was before its first message a watch without a token says nothing.
        versions.push(...watch.events.map(({ version }) => version));
        resumeToken = watch.resumeToken;
      }
      await changing;
      const first = Number(versions[0]);
      expect(versions.map(Number)).toEqual(versions.map((_, i) => first + i));
    });

    test("a token of a watch of another user is refused, as is what is no token", async () => {
      const client = clientOver(protocol, server);
      using watch = await new Watch(client, { userId: "ann" }).begun();
      for (const request of [
        { userId: "bob", resumeToken: watch.resumeToken },
        { resumeToken: watch.resumeToken },
        { userId: "ann", resumeToken: "nonsense" },
      ]) {
        expect(await new Watch(client, request).ended).toMatchObject({
          code: "INVALID_ARGUMENT",
          reason: "INVALID_ARGUMENT",
          domain: "sessiond",
          violations: [{ field: "resume_token" }],
        });
      }
      expect(await new Watch(client, { userId: "a".repeat(257) }).ended).toMatchObject({
        reason: "INVALID_ARGUMENT",
        violations: [{ field: "user_id" }],
      });
    });

    test("a watch is logged when it ends, in one line as every call", async () => {
      const sub = `watcher over ${protocol.name}`;
      const token = await server.issuer.sign({ claims: { sub, scope: "sessions:read" } });
      const client = sessionClient(protocol.open(server), bearer(token));
      const lines = () => watchesIn(server.logs).filter(({ caller }) => caller === sub);
      const watch = await new Watch(client).begun();
      await sleep(100);
      expect(lines()).toEqual([]);
      watch[Symbol.dispose]();
      await expect.poll(() => lines().length).toBe(1);
      expect(lines()[0]).toMatchObject({ msg: "call", level: 30, code: "canceled" });
      expect(lines()[0]?.["duration_ms"]).toBeGreaterThan(100);
      expect(lines()[0]).not.toHaveProperty("err");

      await new Watch(client, { resumeToken: "nonsense" }).ended;
      await expect.poll(() => lines().length).toBe(2);
      expect(lines()[1]).toMatchObject({ msg: "call", level: 30, code: "invalid_argument" });
    });

    test("a watch with a deadline ends with it, and one without goes on", async () => {
      const client = clientOver(protocol, server);
      using endless = await new Watch(client).begun();
      const messages = client.watchSessions({}, { timeoutMs: 700 });
      const failed = failureOf(
        (async () => {
          for await (const _ of messages);
        })(),
      );
      expect(await failed).toMatchObject({ code: "DEADLINE_EXCEEDED" });
      const seen = endless.messages.length;
      await endless.until((watch) => watch.messages.length > seen);
    });
  });

  test("a reader that does not keep up is cut, and goes on from its last token", async () => {
    const client = clientOver(GRPC, server);
    const abort = new AbortController();
    const slow = client.watchSessions({}, { signal: abort.signal })[Symbol.asyncIterator]();
    let resumeToken = (await slow.next()).value?.resumeToken ?? "";
    // More than may wait for it, and than the connection holds besides.
    const users = Array.from({ length: 60 }, (_, i) => `slow-${i}`);
    const reason = "r".repeat(256);
    for (const userId of users) {
      await Promise.all(Array.from({ length: 200 }, () => client.createSession({ userId })));
      await client.revokeUserSessions({ userId, reason });
    }

    const seen: string[] = [];
    const note = ({ message, resumeToken: token }: WatchSessionsResponse) => {
      resumeToken = token;
      if (message.case !== "events") return;
      seen.push(...message.value.events.map(({ sessionId, version }) => `${sessionId} ${version}`));
    };
    const failure = await failureOf(
      (async () => {
        for (;;) {
          const { value, done } = await slow.next();
          if (done) return;
          note(value);
        }
      })(),
    );
    expect(failure).toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      reason: "OVERLOADED",
      message: "the watcher reads too slowly; resume from the last resume_token",
      retryDelayMs: expect.any(Number),
    });
    expect(seen.length).toBeLessThan(users.length * 400);

    using rest = new Watch(client, { resumeToken });
    await rest.until((watch) => watch.count("checkpoint") > 0);
    if (rest.count("reset") === 0) {
      for (const message of rest.messages) note(message);
      expect(seen.length).toBe(users.length * 400);
    }
    expect(new Set(seen).size).toBe(seen.length);
  });
});

test("a change through one server is told by another at once", async () => {
  const redis = STORES.find(({ name }) => name === "Redis");
  if (redis === undefined) throw new Error("there is no Redis");
  await using store = await redis.open();
  const keyring = Keyring.parse(Keyring.generateKey("shared"));
  await using first = await startTestServer({ store: store.url, keyring });
  await using second = await startTestServer({ store: store.url, keyring });
  using watch = await new Watch(clientOver(GRPC, first)).begun();
  // The hints of the store come over a connection of their own, which takes its time.
  await sleep(200);
  for (let i = 1; i <= 5; i++) {
    const startMs = performance.now();
    await clientOver(GRPC, second).createSession({ userId: `user-${i}` });
    await watch.until(({ events }) => events.length === i);
    expect(performance.now() - startMs).toBeLessThan(AT_ONCE_MS);
  }
});

test.each([GRPC, JSON_OVER_HTTP])(
  "a server that is told to stop ends watches at once over $name",
  async (protocol) => {
    await using server = await startTestServer();
    const client = clientOver(protocol, server);
    const watches = await Promise.all(Array.from({ length: 10 }, () => new Watch(client).begun()));
    const startMs = performance.now();
    await server.stop();
    expect(performance.now() - startMs).toBeLessThan(SOON_MS);
    for (const watch of watches) {
      expect(await watch.ended).toMatchObject({
        code: "UNAVAILABLE",
        message: "the server is stopping",
      });
    }
    expect(watchesIn(server.logs)).toHaveLength(10);
    expect(watchesIn(server.logs)[0]).toMatchObject({ code: "unavailable" });
  },
);

test.each(PROTOCOLS)(
  "a server that is told to stop does not wait for watchers that do not read over $name",
  async (protocol) => {
    await using server = await startTestServer({ policy: { maxSessionsPerUser: 1_000 } });
    const client = clientOver(protocol, server);
    const idle = client.watchSessions({})[Symbol.asyncIterator]();
    const behind = client.watchSessions({})[Symbol.asyncIterator]();
    await Promise.all([idle.next(), behind.next()]);
    for (let batch = 0; batch < 10; batch++) {
      const userId = `user-${batch}`;
      await Promise.all(Array.from({ length: 100 }, () => client.createSession({ userId })));
      await client.revokeUserSessions({ userId, reason: "r".repeat(256) });
    }
    const startMs = performance.now();
    await server.stop();
    expect(performance.now() - startMs).toBeLessThan(SOON_MS);
  },
);

test.each([
  ["grpc", ({ grpcUrl }: TestServer) => grpcUrl],
  ["connect", ({ httpUrl }: TestServer) => httpUrl],
] as const)(
  "the SDK over %s goes on by itself when its server is replaced",
  async (protocol, urlOf) => {
    await using opened = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "sessiond-watch-"));
    opened.defer(() => rm(directory, { recursive: true }));
    const issuer = opened.adopt(await startTestIssuer(), (started) => started.close());
    const keyring = Keyring.parse(Keyring.generateKey("shared"));
    const store = `sqlite:${join(directory, "sessions.db")}`;
    const first = await startTestServer({ store, keyring, issuer });
    const baseUrl = urlOf(first);
    using client = createSessionClient({ baseUrl, protocol, token: first.accessToken });
    const watch = client.watchSessions();
    const told: string[] = [];
    const next = async () => {
      const { value } = await watch.next();
      if (value.type === "events") told.push(...value.events.map(({ sessionId }) => sessionId));
      return value.type;
    };
    expect(await next()).toBe("checkpoint");
    const created = [(await client.createSession({ userId: "ann" })).session.id];
    while (told.length < 1) await next();
    await first.stop();

    const addresses = (({ grpcUrl, httpUrl }) => ({
      grpcAddress: { host: "127.0.0.1", port: Number(new URL(grpcUrl).port) },
      httpAddress: { host: "127.0.0.1", port: Number(new URL(httpUrl).port) },
    }))(first);
    await using other = await startTestServer({ store, keyring, issuer });
    const missed = await clientOver(GRPC, other).createSession({ userId: "ann" });
    created.push(missed.session?.id ?? "");
    await using second = await startTestServer({ store, keyring, issuer, config: addresses });
    const later = await clientOver(GRPC, second).createSession({ userId: "ann" });
    created.push(later.session?.id ?? "");
    while (told.length < 3) expect(await next()).not.toBe("reset");
    expect(told).toEqual(created);
  },
);

test("clients that go away without a word make room for others", async () => {
  await using server = await startTestServer();
  const client = clientOver(GRPC, server);
  for (let round = 0; round < 3; round++) {
    const watches = await Promise.all(Array.from({ length: 400 }, () => new Watch(client).begun()));
    for (const watch of watches) watch[Symbol.dispose]();
    await expect.poll(() => watchesIn(server.logs).length).toBe((round + 1) * 400);
  }
});

describe("a server in a process of its own", () => {
  let directory: string;
  let env: Record<string, string>;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "sessiond-watch-"));
    env = { SESSIOND_DATA_DIR: directory };
  });
  afterAll(() => rm(directory, { recursive: true }));

  async function start(): Promise<ListeningServerProcess> {
    return spawnServer({ env, flags: ["--store", `sqlite:${join(directory, "sessions.db")}`] });
  }

  async function accessToken(): Promise<string> {
    const permissions = ["sessions:create", "sessions:read", "sessions:delete"].join(",");
    await using minting = spawnSessiond(["token", "--permissions", permissions], { env });
    await minting.ended;
    return minting.stdout.trim();
  }

  test("that is killed and started again goes on with its watches where they were", async () => {
    let server = await start();
    const headers = bearer(await accessToken());
    const created: string[] = [];
    const told: string[] = [];
    let resumeToken = "";
    for (let round = 0; round < 3; round++) {
      const client = sessionClient(GRPC.open(server), headers);
      const watch = new Watch(client, { resumeToken });
      await watch.begun();
      for (let i = 0; i < 20; i++) {
        const { session } = await client.createSession({ userId: `user-${round}` });
        created.push(session?.id ?? "");
      }
      // In the midst of it: some of these it has told of, and some not.
      await server[Symbol.asyncDispose]();
      expect(await watch.ended).toBeInstanceOf(Object);
      expect(watch.count("reset")).toBe(0);
      told.push(...idsOf(watch));
      resumeToken = watch.resumeToken;
      server = await start();
    }
    using last = new Watch(sessionClient(JSON_OVER_HTTP.open(server), headers), { resumeToken });
    await last.begun();
    expect(last.count("reset")).toBe(0);
    told.push(...idsOf(last));
    expect(told).toEqual(created);
    await server[Symbol.asyncDispose]();
  });

  test("that gets a SIGTERM ends soon, whatever is being watched", async () => {
    const server = await start();
    const headers = bearer(await accessToken());
    const watches = await Promise.all(
      [GRPC, JSON_OVER_HTTP, GRPC].map((protocol) =>
        new Watch(sessionClient(protocol.open(server), headers)).begun(),
      ),
    );
    const startMs = performance.now();
    server.kill("SIGTERM");
    expect(await server.ended).toBe(0);
    expect(performance.now() - startMs).toBeLessThan(SOON_MS + 1_000);
    for (const watch of watches) {
      expect(await watch.ended).toMatchObject({ code: "UNAVAILABLE" });
    }
  });

  /** Of what was created. Evictions of the oldest are events as well. */
  function idsOf(watch: Watch): readonly string[] {
    return watch.events
      .filter(({ type }) => type === SessionEventType.CREATED)
      .map(({ sessionId }) => sessionId);
  }
});
