import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs, type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { startRedisServer, startTcpFaultProxy } from "@sessiond/core/testing";
import { describe, expect, test, vi } from "vitest";
import { failureOf } from "../testing/outcome.js";
import { GRPC, JSON_OVER_HTTP, locksOver, PROTOCOLS } from "../testing/protocols.js";
import { startTestServer, useTestServer } from "../testing/test-server.js";
import { STORES } from "../testing/test-stores.js";
import { within } from "../testing/within.js";

const SECOND_MS = 1_000;
/** A call that is over by then was not waiting for a timeout. */
const AT_ONCE_MS = 1_000;
/** How long every other call may take. */
const OTHER_CALLS_MS = 1_700;
const TIMEOUT = { code: "DEADLINE_EXCEEDED", reason: "LOCK_TIMEOUT", domain: "sessiond" };
const NOT_HELD = { code: "FAILED_PRECONDITION", reason: "LOCK_NOT_HELD", domain: "sessiond" };
const MIXED_SIGNS = { seconds: 1n, nanos: -1 };

type Locks = ReturnType<typeof locksOver>;

const newName = () => `lock-${randomUUID()}`;
const inMs = (ms: number) => durationFromMs(ms);

function expectAfter(time: Timestamp | undefined, ms: number): void {
  const leftMs = time ? timestampMs(time) - Date.now() : Number.NaN;
  expect(Math.abs(leftMs - ms)).toBeLessThan(SECOND_MS);
}

describe.each(STORES)("on $name", ({ open }) => {
  const locks = locksOver(GRPC, useTestServer({ open }));

  test("a lock is lent for as long as asked for, renewed, looked at and given back", async () => {
    const name = newName();
    expect(await locks.getLock({ name })).toMatchObject({ held: false, fencingToken: 0n });
    const acquired = await locks.acquireLock({ name, ttl: inMs(10 * SECOND_MS) });
    const { lockId, fencingToken } = acquired;
    expectAfter(acquired.expireTime, 10 * SECOND_MS);

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
    expectAfter(next.expireTime, 30 * SECOND_MS);
    expect(await failureOf(locks.renewLock({ name, lockId }))).toMatchObject(NOT_HELD);
    expect(await failureOf(locks.releaseLock({ name, lockId }))).toMatchObject(NOT_HELD);
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
});

test("a request that is refused names its field", async () => {
  await using server = await startTestServer();
  const locks = locksOver(GRPC, server);
  const lockId = randomUUID();
  const refused: readonly [field: string, call: Promise<unknown>][] = [
    ["name", locks.acquireLock({ name: "" })],
    ["ttl", locks.acquireLock({ name: "x", ttl: inMs(0) })],
    ["ttl", locks.acquireLock({ name: "x", ttl: MIXED_SIGNS })],
    ["wait_timeout", locks.acquireLock({ name: "x", waitTimeout: inMs(-1) })],
    ["wait_timeout", locks.acquireLock({ name: "x", waitTimeout: MIXED_SIGNS })],
    ["lock_id", locks.acquireLock({ name: "x", lockId: "1" })],
    ["name", locks.renewLock({ name: "", lockId })],
    ["lock_id", locks.renewLock({ name: "x" })],
    ["ttl", locks.renewLock({ name: "x", lockId, ttl: inMs(0) })],
    ["ttl", locks.renewLock({ name: "x", lockId, ttl: MIXED_SIGNS })],
    ["name", locks.releaseLock({ name: "", lockId })],
    ["lock_id", locks.releaseLock({ name: "x" })],
    ["name", locks.getLock({ name: "" })],
  ];
  const failures = await Promise.all(refused.map(([, call]) => failureOf(call)));
  const expected = refused.map(([field]) => ({
    reason: "INVALID_ARGUMENT",
    violations: [{ field }],
  }));
  expect(failures).toMatchObject(expected);
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

test.each([
  [GRPC, "grpcUrl"],
  [JSON_OVER_HTTP, "httpUrl"],
] as const)(
  "a waiter over $name whose connection is cut leaves the queue",
  async (protocol, port) => {
    await using server = await startTestServer();
    const { hostname: host, port: target } = new URL(server[port]);
    await using network = await startTcpFaultProxy({ host, port: Number(target) });
    const url = `http://${host}:${network.port}`;
    const far = { grpcUrl: url, httpUrl: url, accessToken: server.accessToken };
    const locks = locksOver(GRPC, server);
    const name = newName();
    const { lockId } = await locks.acquireLock({ name });
    const waiting = failureOf(locksOver(protocol, far).acquireLock({ name }));
    await sleep(300);
    network.cut();
    await waiting;
    // The client never sees the end of its call, and it ends all the same.
    const ended = () => server.logs.some(({ code }) => code === "canceled");
    await vi.waitUntil(ended, { timeout: 2 * AT_ONCE_MS });
    await expectFreeAfterRelease(locks, name, lockId);
  },
);

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
