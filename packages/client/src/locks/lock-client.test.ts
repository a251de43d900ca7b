import { setTimeout as sleep } from "node:timers/promises";
import { durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, createRouterTransport, type Transport } from "@connectrpc/connect";
import { LockService } from "@sessiond/proto/sessiond/v1/lock_service";
import { expect, test } from "vitest";
import { createSessionClient } from "../client.js";
import {
  answer,
  type Handlers,
  never,
  rejection,
  startClient,
  storeUnavailable,
  throwing,
} from "../testing/session-server.js";
import type { LockedWork } from "./lock-client.js";

/** Long enough that a busy moment of the machine does not end a lease. */
const TTL_MS = 1_500;
/** Long enough that a busy moment makes no difference shortly before the end of a lease. */
const LONG_TTL_MS = 3_000;
const LEASE = { fencingToken: 7n, expireTime: timestampFromMs(1_700_000_000_000) };

/** A server that gives every lock to every caller. */
async function start(handlers: Handlers = {}, timeoutMs = 2_000) {
  const lend: Handlers = {
    acquireLock: ({ lockId }) => ({ lockId, ...LEASE }),
    renewLock: () => LEASE,
    releaseLock: () => ({}),
    getLock: ({ name }) => ({ held: name === "invoices", ...LEASE }),
  };
  const { server, client } = await startClient({ ...lend, ...handlers }, { timeoutMs });
  return { server, locks: client.locks };
}

const notHeld = () => answer(Code.FailedPrecondition, "LOCK_NOT_HELD");

/** Gives the lock after a while. */
function lendAfter(ms: number): NonNullable<Handlers["acquireLock"]> {
  return async ({ lockId }) => {
    await sleep(ms);
    return { lockId, ...LEASE };
  };
}

/** Works until its signal aborts, and returns how long that took. */
function untilAborted({ signal }: LockedWork): Promise<number> {
  const startMs = performance.now();
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(performance.now() - startMs));
  });
}

test("a lock of a month is held until the work is done", async () => {
  const { server, locks } = await start();
  const aborted = await locks.withLock("invoices", { ttlMs: 2 ** 32 }, async ({ signal }) => {
    await sleep(100);
    return signal.aborted;
  });
  expect(aborted).toBe(false);
  expect(server.requests("renewLock")).toEqual([]);
});

test("a wait of a month is for the server to refuse", async () => {
  const violations = [{ field: "wait_timeout", description: "expected at most 3600000 ms" }];
  const refuse = throwing(() => answer(Code.InvalidArgument, "INVALID_ARGUMENT", { violations }));
  const { server, locks } = await start({ acquireLock: refuse });
  const error = await rejection(locks.acquire("invoices", { waitTimeoutMs: 2 ** 32 }));
  expect(error.fieldViolations).toEqual(violations);
  const [request] = server.requests("acquireLock");
  // The rest of the wait when the request was sent.
  const waitMs = request?.waitTimeout && durationMs(request.waitTimeout);
  expect(waitMs).toBeGreaterThan(2 ** 32 - 1_000);
  expect(waitMs).toBeLessThanOrEqual(2 ** 32);
});

test("a lock is acquired for 30 s, with a wait of 20 s, unless the caller chooses", async () => {
  const { server, locks } = await start();
  expect(await locks.acquire("invoices")).toEqual({
    name: "invoices",
    lockId: expect.stringMatching(/^[\da-f-]{36}$/),
    fencingToken: 7,
    expireTime: new Date(1_700_000_000_000),
  });
  await locks.acquire("invoices", { ttlMs: 1_500, waitTimeoutMs: 0 });
  const [first, second] = server.requests("acquireLock");
  expect(first?.ttl?.seconds).toBe(30n);
  // The rest of the wait when the request was sent.
  const waitMs = first?.waitTimeout && durationMs(first.waitTimeout);
  expect(waitMs).toBeGreaterThan(19_000);
  expect(waitMs).toBeLessThanOrEqual(20_000);
  expect(second?.ttl && durationMs(second.ttl)).toBe(1_500);
  expect(second?.waitTimeout && durationMs(second.waitTimeout)).toBe(0);
  expect(first?.lockId).not.toBe(second?.lockId);
});

test("after a lost answer a lock is requested under the same id, for the rest of the wait", async () => {
  const { server, locks } = await start({
    acquireLock: async ({ lockId }) => {
      if (server.calls.length === 1) {
        await sleep(300);
        server.breakConnections();
      }
      return { lockId, ...LEASE };
    },
  });
  await locks.acquire("invoices", { waitTimeoutMs: 1_000 });
  const [first, second] = server.requests("acquireLock");
  expect(second?.lockId).toBe(first?.lockId);
  expect(second?.waitTimeout && durationMs(second.waitTimeout)).toBeLessThanOrEqual(700);
});

test("the wait for a lock may be longer than the timeout of other calls", async () => {
  const { locks } = await start({ acquireLock: lendAfter(500) }, 200);
  expect((await locks.acquire("invoices", { waitTimeoutMs: 1_000 })).fencingToken).toBe(7);
});

test("a caller that stops waiting releases the lock in case it was acquired", async () => {
  const { server, locks } = await start({ acquireLock: lendAfter(1_000) });
  const signal = AbortSignal.timeout(100);
  expect((await rejection(locks.acquire("invoices", { signal }))).reason).toBe("CANCELED");
  await expect.poll(() => server.requests("releaseLock")).toHaveLength(1);
  const [acquired] = server.requests("acquireLock");
  const handle = { name: "invoices", lockId: acquired?.lockId };
  expect(server.requests("releaseLock")).toMatchObject([handle]);
});

test("a lock that another caller keeps is LOCK_TIMEOUT, and no work is done", async () => {
  const timedOut = () => answer(Code.DeadlineExceeded, "LOCK_TIMEOUT");
  const { server, locks } = await start({ acquireLock: throwing(timedOut) });
  const work = throwing(() => new Error("must not run"));
  expect(await rejection(locks.withLock("invoices", {}, work))).toMatchObject({
    reason: "LOCK_TIMEOUT",
    code: Code.DeadlineExceeded,
  });
  expect(server.requests("releaseLock")).toEqual([]);
});

test("work keeps its lock until it is done, and its result is returned", async () => {
  const { server, locks } = await start();
  const result = await locks.withLock("invoices", { ttlMs: TTL_MS }, async (held) => {
    expect(held).toMatchObject({ name: "invoices", fencingToken: 7 });
    await sleep(TTL_MS * 2);
    expect(held.signal.aborted).toBe(false);
    expect(server.requests("releaseLock")).toEqual([]);
    return "done";
  });
  expect(result).toBe("done");
  const renewed = server.requests("renewLock");
  const released = server.requests("releaseLock");
  // A renewal at each third of the lease makes five. A slow machine makes four.
  expect(renewed.length).toBeGreaterThanOrEqual(4);
  expect(renewed.length).toBeLessThanOrEqual(6);
  const lockId = server.requests("acquireLock")[0]?.lockId;
  for (const request of [...renewed, ...released]) expect(request.lockId).toBe(lockId);
  expect(renewed.map(({ ttl }) => ttl && durationMs(ttl))).toEqual(renewed.map(() => TTL_MS));
  expect(released).toHaveLength(1);
  await sleep(TTL_MS);
  expect(server.requests("renewLock")).toHaveLength(renewed.length);
});

test("a lock is released also after its work failed", async () => {
  const { server, locks } = await start();
  const work = throwing(() => new RangeError("no such invoice"));
  await expect(locks.withLock("invoices", {}, work)).rejects.toThrow(RangeError);
  expect(server.requests("releaseLock")).toHaveLength(1);
});

test("the result counts even if the lock cannot be released", async () => {
  const { locks } = await start({ releaseLock: throwing(notHeld) });
  expect(await locks.withLock("invoices", {}, () => "done")).toBe("done");
});

test("work learns immediately that its lock is lost, and does not pass for done", async () => {
  const { server, locks } = await start({ renewLock: throwing(notHeld) });
  let tookMs = 0;
  const failure = await rejection(
    locks.withLock("invoices", { ttlMs: TTL_MS }, async (held) => {
      tookMs = await untilAborted(held);
      expect(held.signal.reason).toMatchObject({ reason: "LOCK_NOT_HELD" });
    }),
  );
  expect(failure).toMatchObject({
    reason: "LOCK_NOT_HELD",
    message: 'the lock "invoices" is lost: its lease has ended',
  });
  // At the first renewal, after a third of the lease.
  expect(tookMs).toBeLessThan(TTL_MS * 0.8);
  expect(server.requests("releaseLock")).toHaveLength(1);
});

test("work is stopped before its lease ends if renewals get no answer", async () => {
  const { server, locks } = await start({ renewLock: never });
  const askedMs = performance.now();
  let stoppedMs = 0;
  const failure = await rejection(
    locks.withLock("invoices", { ttlMs: LONG_TTL_MS }, async (held) => {
      await untilAborted(held);
      stoppedMs = performance.now() - askedMs;
    }),
  );
  expect(failure.message).toBe(
    'the lock "invoices" is lost: its lease could not be renewed in time',
  );
  expect(stoppedMs).toBeGreaterThan(LONG_TTL_MS * 0.8);
  expect(stoppedMs).toBeLessThan(LONG_TTL_MS);
  // There was more than one attempt.
  expect(server.requests("renewLock").length).toBeGreaterThan(1);
});

test("work is stopped before its lease ends even if the transport ignores timeouts", async () => {
  const served = createRouterTransport(({ service }) => {
    service(LockService, {
      acquireLock: ({ lockId }) => ({ lockId, ...LEASE }),
      releaseLock: () => ({}),
    });
  });
  const transport: Transport = {
    ...served,
    unary: (method, ...rest) =>
      method.name === "RenewLock" ? never() : served.unary(method, ...rest),
  };
  const client = createSessionClient({ transport, token: "token" });
  const work = client.locks.withLock("invoices", { ttlMs: LONG_TTL_MS }, untilAborted);
  const askedMs = performance.now();
  expect(await rejection(work)).toMatchObject({ reason: "LOCK_NOT_HELD" });
  expect(performance.now() - askedMs).toBeLessThan(LONG_TTL_MS);
});

test("renewals that fail for a while do no harm", async () => {
  let failures = 0;
  const { locks } = await start({
    renewLock: () => {
      if (failures++ < 2) throw storeUnavailable();
      return LEASE;
    },
  });
  const work = () => sleep(TTL_MS * 2, "done");
  expect(await locks.withLock("invoices", { ttlMs: TTL_MS }, work)).toBe("done");
  expect(failures).toBeGreaterThan(2);
});

test("after a long wait the lease is renewed before the work, as its beginning is unknown", async () => {
  const { server, locks } = await start({ acquireLock: lendAfter(TTL_MS) });
  await locks.withLock("invoices", { ttlMs: TTL_MS }, ({ signal }) => {
    expect(server.requests("renewLock")).toHaveLength(1);
    expect(signal.aborted).toBe(false);
  });
});

test("work that lost its lock while its process was stopped is not done", async () => {
  const { locks } = await start();
  const failure = await rejection(
    locks.withLock("invoices", { ttlMs: TTL_MS }, () => {
      // Like a stopped process: no timer can run.
      const untilMs = performance.now() + TTL_MS;
      while (performance.now() < untilMs);
    }),
  );
  expect(failure.reason).toBe("LOCK_NOT_HELD");
});

test("a caller's signal stops the work, and the lock is released", async () => {
  const { server, locks } = await start();
  const cancel = new AbortController();
  const work = async (held: LockedWork) => {
    setTimeout(() => cancel.abort(), 50);
    await untilAborted(held);
    return "stopped";
  };
  expect(await locks.withLock("invoices", { signal: cancel.signal }, work)).toBe("stopped");
  expect(server.requests("releaseLock")).toHaveLength(1);
});

test("a caller can read, renew and release a lock", async () => {
  const { server, locks } = await start();
  const lock = { name: "invoices", lockId: "0123456789abcdef" };
  expect(await locks.get("invoices")).toEqual({
    name: "invoices",
    fencingToken: 7,
    expireTime: new Date(1_700_000_000_000),
  });
  expect(await locks.get("free")).toBeUndefined();
  expect(await locks.renew(lock, { ttlMs: 5_000 })).toMatchObject({ ...lock, fencingToken: 7 });
  await locks.release(lock);
  expect(server.requests("renewLock")).toMatchObject([lock]);
  expect(server.requests("releaseLock")).toMatchObject([lock]);
});
