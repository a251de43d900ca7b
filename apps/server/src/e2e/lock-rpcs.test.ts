import { randomUUID } from "node:crypto";
import { once } from "node:events";
import * as http2 from "node:http2";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { startRedisServer } from "@sessiond/core/testing";
import { AcquireLockRequestSchema, LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { describe, expect, test, vi } from "vitest";
import { failureOf } from "../testing/outcome.js";
import { bearer, GRPC, locksOver, PROTOCOLS, pathOf } from "../testing/protocols.js";
import { startTestServer, type TestServer, useTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";
import { within } from "../testing/within.js";

const ACQUIRE = pathOf(LockService.method.acquireLock);
const SECOND_MS = 1_000;
/** A call that is over by then was not waiting for a timeout. */
const AT_ONCE_MS = 1_000;
/** How long every other call may take. */
const OTHER_CALLS_MS = 1_700;
const TIMEOUT = {
  code: "DEADLINE_EXCEEDED",
  reason: "LOCK_TIMEOUT",
  domain: "sessiond",
  message: "the lock is held by another",
};
const NOT_HELD = { code: "FAILED_PRECONDITION", reason: "LOCK_NOT_HELD", domain: "sessiond" };
const MIXED_SIGNS = { seconds: 1n, nanos: -1 };

type Locks = ReturnType<typeof locksOver>;

const newName = () => `lock-${randomUUID()}`;
const inMs = (ms: number) => durationFromMs(ms);

/** The field that a call was refused for. */
async function refusedField(call: Promise<unknown>): Promise<string | undefined> {
  const failure = await failureOf(call);
  expect(failure).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_ARGUMENT" });
  return failure.violations?.[0]?.field;
}

function expectAfter(time: Timestamp | undefined, ms: number): void {
  const leftMs = time ? timestampMs(time) - Date.now() : Number.NaN;
  expect(Math.abs(leftMs - ms)).toBeLessThan(SECOND_MS);
}

describe.each(STORES)("on $name", ({ open }) => {
  const server = useTestServer({ open });
  const locks = locksOver(GRPC, server);

  test("a lock is lent for as long as asked for, renewed, looked at and given back", async () => {
    const name = newName();
    expect(await locks.getLock({ name })).toMatchObject({ held: false, fencingToken: 0n });
    const beforeMs = Date.now();
    const { lockId, fencingToken, expireTime } = await locks.acquireLock({ name });
    expect(lockId.length).toBeGreaterThan(40);
    expect(Number(fencingToken)).toBeGreaterThanOrEqual(beforeMs - SECOND_MS);
    expectAfter(expireTime, 30 * SECOND_MS);

    const renewed = await locks.renewLock({ name, lockId, ttl: inMs(5 * SECOND_MS) });
    expect(renewed.fencingToken).toBe(fencingToken);
    expectAfter(renewed.expireTime, 5 * SECOND_MS);
    const held = { held: true, fencingToken, expireTime: renewed.expireTime };
    expect(await locks.getLock({ name })).toMatchObject(held);

    await locks.releaseLock({ name, lockId });
    expect(await locks.getLock({ name })).toMatchObject({ held: false });
    const next = await locks.acquireLock({ name });
    expect(next.fencingToken).toBeGreaterThan(fencingToken);
    expect(next.lockId).not.toBe(lockId);
  });

  test("a lock that another has is LOCK_TIMEOUT, at once or when the wait is over", async () => {
    const name = newName();
    await locks.acquireLock({ name });
    const acquire = (waitMs: number) =>
      failureOf(locks.acquireLock({ name, waitTimeout: inMs(waitMs) }));
    expect(await within(AT_ONCE_MS, acquire(0))).toMatchObject(TIMEOUT);
    const startMs = performance.now();
    expect(await within(400 + AT_ONCE_MS, acquire(400))).toMatchObject(TIMEOUT);
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(395);
  });

  test("a caller may wait for a lock longer than other calls may take", async () => {
    const name = newName();
    const { lockId, fencingToken } = await locks.acquireLock({ name });
    const waiting = locks.acquireLock({ name });
    await sleep(OTHER_CALLS_MS + 300);
    await locks.releaseLock({ name, lockId });
    expect((await waiting).fencingToken).toBeGreaterThan(fencingToken);
  });

  test("a lease that has ended belongs to the next holder, and no longer to the last", async () => {
    const name = newName();
    const last = await locks.acquireLock({ name, ttl: inMs(300) });
    const next = await locks.acquireLock({ name, waitTimeout: inMs(5 * SECOND_MS) });
    expect(next.fencingToken).toBeGreaterThan(last.fencingToken);
    const { lockId } = last;
    expect(await failureOf(locks.renewLock({ name, lockId }))).toMatchObject(NOT_HELD);
    expect(await failureOf(locks.releaseLock({ name, lockId }))).toMatchObject(NOT_HELD);
    expect((await locks.getLock({ name })).fencingToken).toBe(next.fencingToken);
  });

  test("a lock that nobody has can be neither renewed nor released", async () => {
    const handle = { name: newName(), lockId: randomUUID() };
    expect(await failureOf(locks.renewLock(handle))).toMatchObject(NOT_HELD);
    expect(await failureOf(locks.releaseLock(handle))).toMatchObject(NOT_HELD);
  });

  test("a call that is repeated with its lock id has the lock that it had", async () => {
    const request = { name: newName(), lockId: randomUUID() };
    const first = await locks.acquireLock(request);
    expect(await locks.acquireLock(request)).toEqual(first);
    expect(first.lockId).toBe(request.lockId);
  });

  test("a waiter whose connection is cut leaves the queue", async () => {
    const name = newName();
    const { lockId } = await locks.acquireLock({ name });
    const cuts = [await waitOverHttp1(server, name), await waitOverGrpc(server, name)];
    await sleep(300);
    for (const cut of cuts) cut();
    // Two calls whose end the client never saw, and that ended all the same.
    const ended = () => server.logs.filter(({ code }) => code === "canceled");
    await vi.waitUntil(() => ended().length === 2, { timeout: 2 * AT_ONCE_MS });
    await expectFreeAfterRelease(locks, name, lockId);
  });
});

describe("a request that is refused", () => {
  const locks = locksOver(GRPC, useTestServer());
  const lockId = randomUUID();

  test.each([
    ["no name", { name: "" }, "name"],
    ["a name that is too long", { name: "x".repeat(257) }, "name"],
    ["a name with a line break", { name: "a\nb" }, "name"],
    ["no time", { name: "x", ttl: inMs(0) }, "ttl"],
    ["a time below a tenth of a second", { name: "x", ttl: inMs(99) }, "ttl"],
    ["a negative time", { name: "x", ttl: inMs(-1) }, "ttl"],
    ["more than an hour", { name: "x", ttl: inMs(3_600_001) }, "ttl"],
    ["a time of two signs", { name: "x", ttl: MIXED_SIGNS }, "ttl"],
    ["a negative wait", { name: "x", waitTimeout: inMs(-1) }, "wait_timeout"],
    ["a wait of more than an hour", { name: "x", waitTimeout: inMs(3_600_001) }, "wait_timeout"],
    ["a wait of two signs", { name: "x", waitTimeout: MIXED_SIGNS }, "wait_timeout"],
    ["a lock id that could be guessed", { name: "x", lockId: "1" }, "lock_id"],
    ["a lock id with spaces", { name: "x", lockId: "0123456789 abcdef" }, "lock_id"],
  ])("names its field: %s", async (_, request, field) => {
    expect(await refusedField(locks.acquireLock(request))).toBe(field);
  });

  test("names its field, also when it renews, releases or looks", async () => {
    expect(await refusedField(locks.renewLock({ name: "", lockId }))).toBe("name");
    expect(await refusedField(locks.renewLock({ name: "x" }))).toBe("lock_id");
    expect(await refusedField(locks.renewLock({ name: "x", lockId, ttl: inMs(0) }))).toBe("ttl");
    expect(await refusedField(locks.renewLock({ name: "x", lockId, ttl: MIXED_SIGNS }))).toBe(
      "ttl",
    );
    expect(await refusedField(locks.releaseLock({ name: "", lockId }))).toBe("name");
    expect(await refusedField(locks.releaseLock({ name: "x" }))).toBe("lock_id");
    expect(await refusedField(locks.getLock({ name: "" }))).toBe("name");
  });
});

describe.each(PROTOCOLS)("over $name", (protocol) => {
  const server = useTestServer();
  const locks = locksOver(protocol, server);

  test("a deadline before the end of the wait ends it, and leaves nothing behind", async () => {
    const name = newName();
    const { lockId } = await locks.acquireLock({ name });
    const call = failureOf(locks.acquireLock({ name }, { timeoutMs: 300 }));
    expect(await within(300 + AT_ONCE_MS, call)).toMatchObject({ code: "DEADLINE_EXCEEDED" });
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

  test("the log never has a lock id", async () => {
    const lockId = `canary-${randomUUID()}`;
    const name = newName();
    await locks.acquireLock({ name, lockId });
    await failureOf(locks.acquireLock({ name, waitTimeout: inMs(0) }));
    await locks.renewLock({ name, lockId });
    await locks.releaseLock({ name, lockId });
    await failureOf(locks.renewLock({ name, lockId }));
    await failureOf(locks.releaseLock({ name: `${name}\n`, lockId }));
    const made = await locks.acquireLock({ name });
    expect(JSON.stringify(server.logs)).not.toContain(made.lockId);
    expect(JSON.stringify(server.logs)).not.toContain("canary");
  });

  test("a server that stops tells waiters at once", async () => {
    const name = newName();
    await locks.acquireLock({ name });
    const waiting = failureOf(locks.acquireLock({ name }));
    await sleep(200);
    const stopped = within(2 * AT_ONCE_MS, server.stop());
    const message = expect.stringMatching(/stop/);
    expect(await waiting).toMatchObject({ code: "UNAVAILABLE", message });
    await stopped;
  });
});

test("while the store is down nobody has a lock, and waiters are told so in time", async () => {
  await using redis = await startRedisServer();
  await using server = await startTestServer({ store: redis.url });
  const name = newName();
  const { lockId } = await locksOver(GRPC, server).acquireLock({ name });
  const callers = PROTOCOLS.map((protocol) => locksOver(protocol, server));
  const waiting = callers.map((locks) => failureOf(locks.acquireLock({ name })));
  await sleep(200);
  redis.pause();
  const handle = { name, lockId };
  const calls = callers.flatMap((locks) => [
    failureOf(locks.acquireLock({ name: newName() })),
    failureOf(locks.getLock({ name })),
    failureOf(locks.renewLock(handle)),
    failureOf(locks.releaseLock(handle)),
  ]);
  // A waiter asks the store about every second, and each question has its time.
  for (const failure of await within(5 * SECOND_MS, Promise.all([...waiting, ...calls]))) {
    expect(failure).toMatchObject({ code: "UNAVAILABLE", reason: "STORE_UNAVAILABLE" });
  }
  redis.resume();
});

/** Nobody in the queue takes the lock once it is released. */
async function expectFreeAfterRelease(locks: Locks, name: string, lockId: string): Promise<void> {
  await sleep(200);
  await locks.releaseLock({ name, lockId });
  await sleep(100);
  expect(await locks.getLock({ name })).toMatchObject({ held: false });
  expect((await locks.acquireLock({ name, waitTimeout: inMs(SECOND_MS) })).lockId).not.toBe("");
}

/** Waits for a lock, over a connection that the answer cuts. */
async function waitOverHttp1(server: TestServer, name: string): Promise<() => void> {
  const { hostname, port } = new URL(server.httpUrl);
  const socket = connect(Number(port), hostname);
  const body = JSON.stringify({ name });
  const { authorization } = bearer(server.accessToken);
  const head = `POST ${ACQUIRE} HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\n`;
  const content = `content-type: application/json\r\ncontent-length: ${body.length}\r\n`;
  socket.write(`${head}${content}\r\n${body}`);
  return () => socket.destroy();
}

/** The same over gRPC. */
async function waitOverGrpc(server: TestServer, name: string): Promise<() => void> {
  const session = http2.connect(server.grpcUrl).on("error", () => {});
  const message = toBinary(AcquireLockRequestSchema, create(AcquireLockRequestSchema, { name }));
  const call = session.request({
    ":method": "POST",
    ":path": ACQUIRE,
    ...bearer(server.accessToken),
    "content-type": "application/grpc",
    te: "trailers",
  });
  call.on("error", () => {}).end(Buffer.concat([Buffer.of(0, 0, 0, 0, message.length), message]));
  await once(session, "connect");
  return () => session.socket.destroy();
}
