import { randomUUID } from "node:crypto";
import { once } from "node:events";
import * as http2 from "node:http2";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { startRedisServer } from "@sessiond/core/testing";
import { AcquireLockRequestSchema } from "@sessiond/proto/sessiond/v1/lock_service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { failureOf } from "../testing/outcome.js";
import {
  bearer,
  GRPC,
  type LockServiceClient,
  locksOver,
  PROTOCOLS,
} from "../testing/protocols.js";
import { type LogLine, startTestServer, type TestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";

const ACQUIRE = "/sessiond.v1.LockService/AcquireLock";
const SECOND_MS = 1_000;
/** What is over by then was not waiting for a timeout. */
const AT_ONCE_MS = 1_000;
const TIMEOUT = {
  code: "DEADLINE_EXCEEDED",
  reason: "LOCK_TIMEOUT",
  domain: "sessiond",
  message: "the lock is held by another",
};
const NOT_HELD = { code: "FAILED_PRECONDITION", reason: "LOCK_NOT_HELD", domain: "sessiond" };

const newName = () => `lock-${randomUUID()}`;
const inMs = (ms: number) => durationFromMs(ms);
const ms = (timestamp: Timestamp | undefined) => timestamp && timestampMs(timestamp);

describe.each(STORES)("on $name", ({ open }) => {
  const opened = new AsyncDisposableStack();
  let server: TestServer;

  beforeAll(async () => {
    const store = opened.use(await open());
    server = opened.use(await startTestServer({ store: store.url }));
  });
  afterAll(() => opened.disposeAsync());

  describe.each(PROTOCOLS)("over $name", (protocol) => {
    let locks: LockServiceClient;
    beforeAll(() => {
      locks = locksOver(protocol, server);
    });

    test("a lock is lent for as long as asked for, renewed, looked at and given back", async () => {
      const name = newName();
      expect(await locks.getLock({ name })).toMatchObject({ held: false, fencingToken: 0n });
      const beforeMs = Date.now();
      const { lockId, fencingToken, expireTime } = await locks.acquireLock({ name });
      expect(lockId.length).toBeGreaterThan(40);
      expect(Number(fencingToken)).toBeGreaterThanOrEqual(beforeMs - SECOND_MS);
      expect(Math.abs((ms(expireTime) ?? 0) - Date.now() - 30 * SECOND_MS)).toBeLessThan(SECOND_MS);

      const renewed = await locks.renewLock({ name, lockId, ttl: inMs(5 * SECOND_MS) });
      expect(renewed.fencingToken).toBe(fencingToken);
      expect(Math.abs((ms(renewed.expireTime) ?? 0) - Date.now() - 5 * SECOND_MS)).toBeLessThan(
        SECOND_MS,
      );
      expect(await locks.getLock({ name })).toMatchObject({
        held: true,
        fencingToken,
        expireTime: renewed.expireTime,
      });

      await locks.releaseLock({ name, lockId });
      expect(await locks.getLock({ name })).toMatchObject({ held: false });
      const next = await locks.acquireLock({ name });
      expect(next.fencingToken).toBeGreaterThan(fencingToken);
      expect(next.lockId).not.toBe(lockId);
    });

    test("a lock that another has is LOCK_TIMEOUT, at once or when the wait is over", async () => {
      const name = newName();
      await locks.acquireLock({ name });
      const askedMs = performance.now();
      expect(await failureOf(locks.acquireLock({ name, waitTimeout: inMs(0) }))).toMatchObject(
        TIMEOUT,
      );
      expect(performance.now() - askedMs).toBeLessThan(AT_ONCE_MS);

      const waitedMs = performance.now();
      expect(await failureOf(locks.acquireLock({ name, waitTimeout: inMs(400) }))).toMatchObject(
        TIMEOUT,
      );
      expect(performance.now() - waitedMs).toBeGreaterThanOrEqual(395);
      expect(performance.now() - waitedMs).toBeLessThan(400 + AT_ONCE_MS);
    });

    test("whoever waits longer than other calls may take has the lock once it is free", async () => {
      const name = newName();
      const { lockId, fencingToken } = await locks.acquireLock({ name });
      const waiting = locks.acquireLock({ name });
      await sleep(2_500);
      await locks.releaseLock({ name, lockId });
      expect((await waiting).fencingToken).toBeGreaterThan(fencingToken);
    });

    test("a lease that ends by itself is the next one's, and the last holder's no more", async () => {
      const name = newName();
      const last = await locks.acquireLock({ name, ttl: inMs(300) });
      const next = await locks.acquireLock({ name, waitTimeout: inMs(5 * SECOND_MS) });
      expect(next.fencingToken).toBeGreaterThan(last.fencingToken);
      const { lockId } = last;
      expect(await failureOf(locks.renewLock({ name, lockId }))).toMatchObject(NOT_HELD);
      expect(await failureOf(locks.releaseLock({ name, lockId }))).toMatchObject(NOT_HELD);
      expect((await locks.getLock({ name })).fencingToken).toBe(next.fencingToken);
    });

    test("a call that is made again with its lock id has the lock that it had", async () => {
      const request = { name: newName(), lockId: randomUUID() };
      const first = await locks.acquireLock(request);
      expect(await locks.acquireLock(request)).toEqual(first);
      expect(first.lockId).toBe(request.lockId);
    });

    test("a deadline that comes before the end of the wait ends it, and leaves nothing behind", async () => {
      const name = newName();
      const { lockId } = await locks.acquireLock({ name });
      const askedMs = performance.now();
      const call = locks.acquireLock({ name }, { timeoutMs: 300 });
      expect(await failureOf(call)).toMatchObject({ code: "DEADLINE_EXCEEDED" });
      expect(performance.now() - askedMs).toBeLessThan(300 + AT_ONCE_MS);
      await expectFreeAfterRelease(locks, name, lockId);
    });

    test("a waiter that cancels is gone", async () => {
      const name = newName();
      const { lockId } = await locks.acquireLock({ name });
      const cancel = new AbortController();
      const call = locks.acquireLock({ name }, { signal: cancel.signal });
      await sleep(200);
      cancel.abort();
      expect(await failureOf(call)).toMatchObject({ code: "CANCELED" });
      await expectFreeAfterRelease(locks, name, lockId);
    });

    test.each([
      ["no name", { name: "" }, "name"],
      ["a name that is too long", { name: "x".repeat(257) }, "name"],
      ["a name with a line break", { name: "a\nb" }, "name"],
      ["no time", { name: "x", ttl: inMs(0) }, "ttl"],
      ["a time below a tenth of a second", { name: "x", ttl: inMs(99) }, "ttl"],
      ["a negative time", { name: "x", ttl: inMs(-1) }, "ttl"],
      ["more than an hour", { name: "x", ttl: inMs(3_600_001) }, "ttl"],
      ["a negative wait", { name: "x", waitTimeout: inMs(-1) }, "wait_timeout"],
      ["a wait of more than an hour", { name: "x", waitTimeout: inMs(3_600_001) }, "wait_timeout"],
      ["a lock id that could be guessed", { name: "x", lockId: "1" }, "lock_id"],
      ["a lock id with spaces", { name: "x", lockId: "0123456789 abcdef" }, "lock_id"],
    ])("%s is refused, by its field", async (_, request, field) => {
      expect(await failureOf(locks.acquireLock(request))).toMatchObject({
        code: "INVALID_ARGUMENT",
        reason: "INVALID_ARGUMENT",
        violations: [{ field }],
      });
    });

    test("renewing, releasing and looking say which field is wrong, too", async () => {
      const lockId = randomUUID();
      const failures = await Promise.all(
        [
          locks.renewLock({ name: "", lockId }),
          locks.renewLock({ name: "x", lockId: "" }),
          locks.renewLock({ name: "x", lockId, ttl: inMs(0) }),
          locks.releaseLock({ name: "", lockId }),
          locks.releaseLock({ name: "x", lockId: "" }),
          locks.getLock({ name: "" }),
        ].map(failureOf),
      );
      expect(failures.map(({ violations }) => violations?.[0]?.field)).toEqual([
        ...["name", "lock_id", "ttl"],
        ...["name", "lock_id"],
        "name",
      ]);
    });

    test("a lock that nobody has can be neither renewed nor released", async () => {
      const handle = { name: newName(), lockId: randomUUID() };
      expect(await failureOf(locks.renewLock(handle))).toMatchObject(NOT_HELD);
      expect(await failureOf(locks.releaseLock(handle))).toMatchObject(NOT_HELD);
    });
  });

  test("whoever is disconnected while waiting is out of the queue within a second", async () => {
    const locks = locksOver(GRPC, server);
    const name = newName();
    const { lockId } = await locks.acquireLock({ name });
    const cuts = [await waitOverHttp1(server, name), await waitOverHttp2(server, name)];
    await sleep(300);
    for (const cut of cuts) cut();
    await sleep(AT_ONCE_MS);
    // Two calls that the client never saw the end of, and that ended all the same.
    const ended = callsOf(server, "AcquireLock").filter(({ code }) => code !== "ok");
    expect(ended.slice(-2)).toMatchObject([{ code: "canceled" }, { code: "canceled" }]);
    await expectFreeAfterRelease(locks, name, lockId);
  });

  test("the log never has a lock id", async () => {
    const lockId = `canary-${randomUUID()}`;
    for (const protocol of PROTOCOLS) {
      const locks = locksOver(protocol, server);
      const name = newName();
      await locks.acquireLock({ name, lockId });
      await failureOf(locks.acquireLock({ name, waitTimeout: inMs(0) }));
      await locks.renewLock({ name, lockId });
      await locks.releaseLock({ name, lockId });
      await failureOf(locks.renewLock({ name, lockId }));
      await failureOf(locks.releaseLock({ name: `${name}\n`, lockId }));
      const made = await locks.acquireLock({ name });
      expect(JSON.stringify(server.logs)).not.toContain(made.lockId);
    }
    expect(JSON.stringify(server.logs)).not.toContain("canary");
  });
});

test("a duration of two signs, which only binary messages can carry, is refused by its field", async () => {
  await using server = await startTestServer();
  const locks = locksOver(GRPC, server);
  const mixed = { seconds: 1n, nanos: -1 };
  const failures = await Promise.all(
    [
      locks.acquireLock({ name: "x", ttl: mixed }),
      locks.acquireLock({ name: "x", waitTimeout: mixed }),
      locks.renewLock({ name: "x", lockId: randomUUID(), ttl: mixed }),
    ].map(failureOf),
  );
  expect(failures.map(({ violations }) => violations?.[0]?.field)).toEqual([
    "ttl",
    "wait_timeout",
    "ttl",
  ]);
});

test.each(PROTOCOLS)(
  "a server that stops tells those who wait at once, over $name",
  async (protocol) => {
    await using server = await startTestServer();
    const locks = locksOver(protocol, server);
    const name = newName();
    await locks.acquireLock({ name });
    const waiting = failureOf(locks.acquireLock({ name }));
    await sleep(200);
    const stopMs = performance.now();
    const stopped = server.stop();
    expect(await waiting).toMatchObject({
      code: "UNAVAILABLE",
      message: expect.stringMatching(/stop/),
    });
    await stopped;
    expect(performance.now() - stopMs).toBeLessThan(2 * AT_ONCE_MS);
  },
);

test("while the store is down nobody has a lock, and those who wait are told so in time", async () => {
  await using redis = await startRedisServer();
  await using server = await startTestServer({ store: redis.url });
  const name = newName();
  const { lockId } = await locksOver(GRPC, server).acquireLock({ name });
  const waiting = PROTOCOLS.map((protocol) =>
    failureOf(locksOver(protocol, server).acquireLock({ name })),
  );
  await sleep(200);
  redis.pause();
  const pausedMs = performance.now();
  const calls = PROTOCOLS.flatMap((protocol) => {
    const locks = locksOver(protocol, server);
    const handle = { name, lockId };
    return [
      ...[locks.acquireLock({ name: newName() }), locks.getLock({ name })],
      ...[locks.renewLock(handle), locks.releaseLock(handle)],
    ].map(failureOf);
  });
  for (const failure of await Promise.all([...waiting, ...calls])) {
    expect(failure).toMatchObject({ code: "UNAVAILABLE", reason: "STORE_UNAVAILABLE" });
  }
  // Who waits asks the store about every second, and each question has its time.
  expect(performance.now() - pausedMs).toBeLessThan(5 * SECOND_MS);
  redis.resume();
});

/** Nobody in the queue takes the lock once it is released. */
async function expectFreeAfterRelease(
  locks: LockServiceClient,
  name: string,
  lockId: string,
): Promise<void> {
  await sleep(200);
  await locks.releaseLock({ name, lockId });
  await sleep(100);
  expect(await locks.getLock({ name })).toMatchObject({ held: false });
  expect((await locks.acquireLock({ name, waitTimeout: inMs(SECOND_MS) })).lockId).not.toBe("");
}

function callsOf(server: TestServer, method: string): readonly LogLine[] {
  return server.logs.filter((line) => line["method"] === `sessiond.v1.LockService/${method}`);
}

/** Waits for a lock, over a connection that the answer cuts. */
async function waitOverHttp1(server: TestServer, name: string): Promise<() => void> {
  const { hostname, port } = new URL(server.httpUrl);
  const socket = connect(Number(port), hostname);
  const body = JSON.stringify({ name });
  const headers = {
    host: "x",
    ...bearer(server.accessToken),
    "content-type": "application/json",
    "content-length": String(body.length),
  };
  const lines = Object.entries(headers).map(([key, value]) => `${key}: ${value}\r\n`);
  socket.write(`POST ${ACQUIRE} HTTP/1.1\r\n${lines.join("")}\r\n${body}`);
  return () => socket.destroy();
}

/** The same over gRPC. */
async function waitOverHttp2(server: TestServer, name: string): Promise<() => void> {
  const session = http2.connect(server.grpcUrl).on("error", () => {});
  const headers = {
    ":method": "POST",
    ":path": ACQUIRE,
    ...bearer(server.accessToken),
    "content-type": "application/grpc",
    te: "trailers",
  };
  const message = toBinary(AcquireLockRequestSchema, create(AcquireLockRequestSchema, { name }));
  const frame = Buffer.alloc(5);
  frame.writeUInt32BE(message.length, 1);
  session
    .request(headers)
    .on("error", () => {})
    .end(Buffer.concat([frame, message]));
  await once(session, "connect");
  return () => session.socket.destroy();
}
