import { setTimeout as sleep } from "node:timers/promises";
import { durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, createRouterTransport, type Transport } from "@connectrpc/connect";
import {
  type AcquireLockRequest,
  LockService,
  type ReleaseLockRequest,
  type RenewLockRequest,
} from "@sessiond/proto/sessiond/v1/lock_service";
import { afterEach, expect, test } from "vitest";
import { createSessionClient } from "../client.js";
import { SessiondError } from "../error.js";
import {
  answer,
  type Handlers,
  type SessionServer,
  startSessionServer,
} from "../testing/session-server.js";
import type { LockedWork } from "./lock-client.js";

/** So long that a machine that is busy for a moment makes no difference to a lease. */
const TTL_MS = 1_500;
/** So long that it makes none to what happens shortly before the end of one. */
const LONG_TTL_MS = 3_000;
const LEASE = { fencingToken: 7n, expireTime: timestampFromMs(1_700_000_000_000) };

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A server that lends every lock to whoever asks, and what it was asked. */
async function start(handlers: Handlers = {}, timeoutMs = 2_000) {
  const acquired: AcquireLockRequest[] = [];
  const renewed: RenewLockRequest[] = [];
  const released: ReleaseLockRequest[] = [];
  const server: SessionServer = await startSessionServer("grpc", {
    acquireLock: (request, context) => {
      acquired.push(request);
      return handlers.acquireLock?.(request, context) ?? { lockId: request.lockId, ...LEASE };
    },
    renewLock: (request, context) => {
      renewed.push(request);
      return handlers.renewLock?.(request, context) ?? LEASE;
    },
    releaseLock: (request, context) => {
      released.push(request);
      return handlers.releaseLock?.(request, context) ?? {};
    },
    getLock: handlers.getLock ?? (() => ({ held: true, ...LEASE })),
  });
  cleanups.push(() => server[Symbol.asyncDispose]());
  const client = createSessionClient({ baseUrl: server.baseUrl, token: "token", timeoutMs });
  cleanups.push(() => client.close());
  return { server, client, locks: client.locks, acquired, renewed, released };
}

const notHeld = () => answer(Code.FailedPrecondition, "LOCK_NOT_HELD");
const timedOut = () => answer(Code.DeadlineExceeded, "LOCK_TIMEOUT");

async function failureOf(call: Promise<unknown>): Promise<SessiondError> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof SessiondError) return error;
  throw new Error("expected a SessiondError", { cause: error });
}

/** Works until its signal aborts, and tells after how long that was. */
function untilAborted({ signal }: LockedWork): Promise<number> {
  const startMs = performance.now();
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(performance.now() - startMs));
  });
}

test("a lock is acquired for 30 s and waited for for 20 s unless the caller says otherwise", async () => {
  const { locks, acquired } = await start();
  expect(await locks.acquire("invoices")).toEqual({
    name: "invoices",
    lockId: expect.stringMatching(/^[\da-f-]{36}$/),
    fencingToken: 7,
    expireTime: new Date(1_700_000_000_000),
  });
  await locks.acquire("invoices", { ttlMs: 1_500, waitTimeoutMs: 0 });
  expect(
    acquired.map(({ ttl, waitTimeout }) => [
      ttl && durationMs(ttl),
      waitTimeout && durationMs(waitTimeout),
    ]),
  ).toEqual([
    [30_000, 20_000],
    [1_500, 0],
  ]);
  expect(acquired[0]?.lockId).not.toBe(acquired[1]?.lockId);
});

test("a lock whose answer was lost is asked for under the same id, for the rest of the wait", async () => {
  const context = await start({
    acquireLock: async ({ lockId }) => {
      if (context.acquired.length === 1) {
        await sleep(300);
        context.server.breakConnections();
      }
      return { lockId, ...LEASE };
    },
  });
  await context.locks.acquire("invoices", { waitTimeoutMs: 1_000 });
  const [first, second] = context.acquired;
  expect(second?.lockId).toBe(first?.lockId);
  expect(second?.waitTimeout && durationMs(second.waitTimeout)).toBeLessThanOrEqual(700);
});

test("a lock may be waited for longer than other calls may take", async () => {
  const { locks } = await start(
    {
      acquireLock: async ({ lockId }) => {
        await sleep(500);
        return { lockId, ...LEASE };
      },
    },
    200,
  );
  expect((await locks.acquire("invoices", { waitTimeoutMs: 1_000 })).fencingToken).toBe(7);
});

test("whoever gives up waiting gives back what they may have got", async () => {
  const { locks, acquired, released } = await start({
    acquireLock: async ({ lockId }) => {
      await sleep(1_000);
      return { lockId, ...LEASE };
    },
  });
  const signal = AbortSignal.timeout(100);
  expect(await failureOf(locks.acquire("invoices", { signal }))).toMatchObject({
    reason: "CANCELED",
  });
  await expect.poll(() => released.length).toBe(1);
  expect(released[0]).toMatchObject({ name: "invoices", lockId: acquired[0]?.lockId });
});

test("a lock that others keep is LOCK_TIMEOUT, and nothing is done under it", async () => {
  const { locks, released } = await start({
    acquireLock: () => {
      throw timedOut();
    },
  });
  const work = () => Promise.reject(new Error("must not run"));
  expect(await failureOf(locks.withLock("invoices", {}, work))).toMatchObject({
    reason: "LOCK_TIMEOUT",
    code: Code.DeadlineExceeded,
  });
  expect(released).toEqual([]);
});

test("what is done under a lock keeps it for as long as it takes, and answers its result", async () => {
  const { locks, acquired, renewed, released } = await start();
  const result = await locks.withLock("invoices", { ttlMs: TTL_MS }, async (held) => {
    expect(held).toMatchObject({ name: "invoices", fencingToken: 7 });
    await sleep(TTL_MS * 2);
    expect(held.signal.aborted).toBe(false);
    expect(released).toEqual([]);
    return "done";
  });
  expect(result).toBe("done");
  // At a third of the lease: five times, and no fewer than four on a slow machine.
  expect(renewed.length).toBeGreaterThanOrEqual(4);
  expect(renewed.length).toBeLessThanOrEqual(6);
  const lockId = acquired[0]?.lockId;
  for (const request of [...renewed, ...released]) expect(request.lockId).toBe(lockId);
  expect(renewed.map(({ ttl }) => ttl && durationMs(ttl))).toEqual(renewed.map(() => TTL_MS));
  expect(released).toHaveLength(1);
  await sleep(TTL_MS);
  expect(renewed.length).toBeLessThanOrEqual(6);
});

test("a lock is given back also where the work under it fails", async () => {
  const { locks, released } = await start();
  const work = async () => {
    throw new RangeError("no such invoice");
  };
  await expect(locks.withLock("invoices", {}, work)).rejects.toThrow(RangeError);
  expect(released).toHaveLength(1);
});

test("the work's result stands where the lock cannot be given back", async () => {
  const { locks } = await start({
    releaseLock: () => {
      throw notHeld();
    },
  });
  expect(await locks.withLock("invoices", {}, () => "done")).toBe("done");
});

test("work hears at once that its lock is lost, and does not pass for done", async () => {
  const { locks, released } = await start({
    renewLock: () => {
      throw notHeld();
    },
  });
  const heardAfterMs: number[] = [];
  const failure = await failureOf(
    locks.withLock("invoices", { ttlMs: TTL_MS }, async (held) => {
      heardAfterMs.push(await untilAborted(held));
      expect(held.signal.reason).toMatchObject({ reason: "LOCK_NOT_HELD" });
    }),
  );
  expect(failure).toMatchObject({
    reason: "LOCK_NOT_HELD",
    message: 'the lock "invoices" is lost: its lease has ended',
  });
  // At the first renewal, a third into the lease.
  expect(heardAfterMs[0]).toBeLessThan(TTL_MS * 0.8);
  expect(released).toHaveLength(1);
});

test("work is stopped before the lease ends where renewals are not answered", async () => {
  const never = new Promise<never>(() => {});
  const { locks, renewed } = await start({ renewLock: () => never, releaseLock: () => ({}) });
  const askedMs = performance.now();
  let heardAtMs = 0;
  const failure = await failureOf(
    locks.withLock("invoices", { ttlMs: LONG_TTL_MS }, async (held) => {
      await untilAborted(held);
      heardAtMs = performance.now();
    }),
  );
  expect(failure.message).toBe(
    'the lock "invoices" is lost: its lease could not be renewed in time',
  );
  expect(heardAtMs - askedMs).toBeGreaterThan(LONG_TTL_MS * 0.8);
  expect(heardAtMs - askedMs).toBeLessThan(LONG_TTL_MS);
  // It was tried more than once.
  expect(renewed.length).toBeGreaterThan(1);
});

test("work is stopped before the lease ends also where the transport heeds no timeout", async () => {
  const served = createRouterTransport(({ service }) => {
    service(LockService, {
      acquireLock: ({ lockId }) => ({ lockId, ...LEASE }),
      releaseLock: () => ({}),
    });
  });
  const transport: Transport = {
    ...served,
    unary: (method, ...rest) =>
      method.name === "RenewLock" ? new Promise(() => {}) : served.unary(method, ...rest),
  };
  const client = createSessionClient({ transport, token: "token" });
  const work = client.locks.withLock("invoices", { ttlMs: LONG_TTL_MS }, untilAborted);
  const askedMs = performance.now();
  expect(await failureOf(work)).toMatchObject({ reason: "LOCK_NOT_HELD" });
  expect(performance.now() - askedMs).toBeLessThan(LONG_TTL_MS);
});

test("a renewal that fails for a while does no harm", async () => {
  let failures = 0;
  const { locks } = await start({
    renewLock: () => {
      if (failures++ < 2) throw answer(Code.Unavailable, "STORE_UNAVAILABLE");
      return LEASE;
    },
  });
  const work = () => sleep(TTL_MS * 2, "done");
  expect(await locks.withLock("invoices", { ttlMs: TTL_MS }, work)).toBe("done");
  expect(failures).toBeGreaterThan(2);
});

test("after a long wait a lease is renewed before work begins, as nobody knows when it began", async () => {
  const { locks, renewed } = await start({
    acquireLock: async ({ lockId }) => {
      await sleep(TTL_MS);
      return { lockId, ...LEASE };
    },
  });
  await locks.withLock("invoices", { ttlMs: TTL_MS }, ({ signal }) => {
    expect(renewed).toHaveLength(1);
    expect(signal.aborted).toBe(false);
  });
});

test("work that lost its lock while its process slept is not done", async () => {
  const { locks } = await start();
  const failure = await failureOf(
    locks.withLock("invoices", { ttlMs: TTL_MS }, () => {
      // As if the process had been stopped: no timer of its own comes in between.
      const untilMs = performance.now() + TTL_MS;
      while (performance.now() < untilMs);
    }),
  );
  expect(failure.reason).toBe("LOCK_NOT_HELD");
});

test("a caller's signal stops the work, and the lock is given back", async () => {
  const { locks, released } = await start();
  const cancel = new AbortController();
  const work = async (held: LockedWork) => {
    setTimeout(() => cancel.abort(), 50);
    await untilAborted(held);
    return "stopped";
  };
  expect(await locks.withLock("invoices", { signal: cancel.signal }, work)).toBe("stopped");
  expect(released).toHaveLength(1);
});

test("a lock is looked at, renewed and released by hand", async () => {
  const { locks, renewed, released } = await start();
  const lock = { name: "invoices", lockId: "0123456789abcdef" };
  expect(await locks.get("invoices")).toEqual({
    name: "invoices",
    fencingToken: 7,
    expireTime: new Date(1_700_000_000_000),
  });
  expect(await locks.renew(lock, { ttlMs: 5_000 })).toMatchObject({ ...lock, fencingToken: 7 });
  await locks.release(lock);
  expect(renewed[0]).toMatchObject(lock);
  expect(released[0]).toMatchObject(lock);
});

test("a lock that nobody has is undefined", async () => {
  const { locks } = await start({ getLock: () => ({ held: false }) });
  expect(await locks.get("invoices")).toBeUndefined();
});
