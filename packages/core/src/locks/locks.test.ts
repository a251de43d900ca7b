import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openRedisStores } from "../redis/index.js";
import { openSqliteStores } from "../sqlite/index.js";
import { startTcpFaultProxy } from "../testing/network/tcp-fault-proxy.js";
import { connectTo } from "../testing/redis/connect-to.js";
import { type RedisServer, startRedisServer } from "../testing/redis/redis-server.js";
import { withRedis } from "../testing/redis/with-redis.js";
import type { AcquiredLock, LockStore } from "./lock-store.js";
import { type AcquireLock, Locks } from "./locks.js";

/** What "at once" is on a machine that does much else. */
const AT_ONCE_MS = 150;
const NAME = "invoices";

let server: RedisServer;
let keyPrefix: string;
let opened: AsyncDisposableStack;
beforeAll(async () => {
  server = await startRedisServer();
});
afterAll(() => server.stop());
beforeEach(() => {
  keyPrefix = `${randomUUID()}:`;
  opened = new AsyncDisposableStack();
});
afterEach(() => opened.disposeAsync());

/** Locks on stores; both are closed after the test. */
function locksOn(stores: { readonly locks: LockStore; close(): Promise<void> }): Locks {
  const locks = new Locks({ store: stores.locks });
  opened.defer(() => stores.close());
  opened.defer(() => locks.close());
  return locks;
}

async function openRedis(at: { readonly port: number } = server): Promise<Locks> {
  return locksOn(openRedisStores({ redis: await connectTo(at), keyPrefix }));
}

async function openSqlite(): Promise<Locks> {
  return locksOn(await openSqliteStores({ path: ":memory:" }));
}

/** How long something took, and with which error it ended if it did. */
async function timed(promise: Promise<unknown>) {
  const startMs = performance.now();
  const [{ reason: error }] = (await Promise.allSettled([promise])) as [PromiseRejectedResult];
  return { error, ms: performance.now() - startMs };
}

/** Expects something to end about so soon, for a reason if it fails. */
async function expectWithin(ms: number, promise: Promise<unknown>, reason?: string) {
  const { error, ms: tookMs } = await timed(promise);
  expect(error?.reason).toBe(reason);
  expect(tookMs).toBeGreaterThan(ms - 5);
  expect(tookMs).toBeLessThan(ms + AT_ONCE_MS);
}

async function isFree(locks: Locks): Promise<boolean> {
  return (await locks.get(NAME)) === undefined;
}

function acquire(locks: Locks, call: Partial<AcquireLock> = {}): Promise<AcquiredLock> {
  return locks.acquire({ name: NAME, ...call });
}

for (const [kind, open] of [
  ["Redis", () => openRedis()],
  ["SQLite", openSqlite],
] as const) {
  describe(`on ${kind}`, () => {
    test("a lock is lent for 30 s unless asked otherwise, and shown to all but for its id", async () => {
      const locks = await open();
      const { lockId, readTimeMs, ...held } = await acquire(locks);
      expect(held.expireTimeMs - readTimeMs).toBe(30_000);
      expect(lockId).toMatch(/^[A-Za-z0-9_-]{43}$/);
      const { readTimeMs: _, ...shown } = (await locks.get(NAME)) ?? { readTimeMs: 0 };
      expect(shown).toEqual(held);
    });

    test("who waits gets the lock as soon as it is given back, or its holder's lease ends", async () => {
      const locks = await open();
      const first = await acquire(locks);
      const waiting = acquire(locks, { ttlMs: 400 });
      await sleep(100);
      await locks.release(NAME, first.lockId);
      await expectWithin(0, waiting);
      const { fencingToken, lockId } = await waiting;
      expect(fencingToken).toBeGreaterThan(first.fencingToken);
      expect(lockId).not.toBe(first.lockId);
      await expectWithin(400, acquire(locks));
    });

    test("who waits too long fails with LOCK_TIMEOUT, on time, and leaves nothing behind", async () => {
      const locks = await open();
      const held = await acquire(locks);
      for (const waitTimeoutMs of [1, 300]) {
        await expectWithin(waitTimeoutMs, acquire(locks, { waitTimeoutMs }), "LOCK_TIMEOUT");
      }
      await locks.release(NAME, held.lockId);
      await expectWithin(0, acquire(locks));
    });

    test("who does not want to wait tries once, and is refused at once, also where others wait", async () => {
      const locks = await open();
      const held = await acquire(locks, { waitTimeoutMs: 0 });
      const waiting = acquire(locks);
      await expectWithin(0, acquire(locks, { waitTimeoutMs: 0 }), "LOCK_TIMEOUT");
      await locks.release(NAME, held.lockId);
      await locks.release(NAME, (await waiting).lockId);
      await acquire(locks, { waitTimeoutMs: 0 });
    });

    test("who cancels is gone at once, and the next one comes in their place", async () => {
      const locks = await open();
      const held = await acquire(locks);
      const abort = new AbortController();
      const canceled = acquire(locks, { signal: abort.signal });
      const next = acquire(locks);
      canceled.catch(() => {});
      await sleep(50);
      const why = Object.assign(new Error("the caller is gone"), { reason: "gone" });
      abort.abort(why);
      await expectWithin(0, canceled, "gone");
      await locks.release(NAME, held.lockId);
      await expectWithin(0, next);
      await expect(acquire(locks, { signal: AbortSignal.abort(why) })).rejects.toBe(why);
    });

    test("those who wait in one server are served in the order in which they came", async () => {
      const locks = await open();
      const order: number[] = [];
      await Promise.all(
        Array.from({ length: 30 }, async (_, i) => {
          const { lockId } = await acquire(locks);
          order.push(i);
          await locks.release(NAME, lockId);
        }),
      );
      expect(order).toEqual(Array.from({ length: 30 }, (_, i) => i));
    });

    test("only its holder renews a lock and gives it back, and never waits for itself", async () => {
      const locks = await open();
      const lockId = randomUUID();
      const notHeld = { reason: "LOCK_NOT_HELD" };
      const held = await acquire(locks, { lockId });
      const waiting = acquire(locks);
      for (const other of [randomUUID(), lockId.toUpperCase()]) {
        await expect(locks.renew(NAME, other)).rejects.toMatchObject(notHeld);
        await expect(locks.release(NAME, other)).rejects.toMatchObject(notHeld);
      }
      const again = await acquire(locks, { lockId, waitTimeoutMs: 0 });
      const { fencingToken, expireTimeMs } = held;
      expect(again).toMatchObject({ fencingToken, expireTimeMs });
      const renewed = await locks.renew(NAME, lockId, 60_000);
      expect(renewed.expireTimeMs - renewed.readTimeMs).toBe(60_000);
      expect(renewed.fencingToken).toBe(fencingToken);
      await locks.release(NAME, lockId);
      await expect(locks.release(NAME, lockId)).rejects.toMatchObject(notHeld);
      await waiting;
    });

    test("a server that closes ends all waiting", async () => {
      const locks = await open();
      await acquire(locks);
      const waiting = [acquire(locks), acquire(locks)];
      await sleep(20);
      const ended = waiting.map((one) => expectWithin(0, one, "STORE_UNAVAILABLE"));
      await locks.close();
      await Promise.all([...ended, expectWithin(0, acquire(locks), "STORE_UNAVAILABLE")]);
    });
  });
}

test("a faulty request is refused, naming the field", async () => {
  const locks = await openSqlite();
  const lockId = randomUUID();
  const calls: readonly [string, () => Promise<unknown>][] = [
    ["name", () => acquire(locks, { name: "" })],
    ["name", () => acquire(locks, { name: "ä".repeat(129) })],
    ["name", () => acquire(locks, { name: "a\nb" })],
    ["ttl", () => acquire(locks, { ttlMs: 99 })],
    ["ttl", () => acquire(locks, { ttlMs: 3_600_001 })],
    ["ttl", () => acquire(locks, { ttlMs: 100.5 })],
    ["wait_timeout", () => acquire(locks, { waitTimeoutMs: -1 })],
    ["wait_timeout", () => acquire(locks, { waitTimeoutMs: 3_600_001 })],
    ["lock_id", () => acquire(locks, { lockId: "a".repeat(15) })],
    ["lock_id", () => acquire(locks, { lockId: "a".repeat(129) })],
    ["lock_id", () => acquire(locks, { lockId: `${lockId} ` })],
    ["name", () => locks.renew("", lockId)],
    ["name", () => locks.release("\u007f", lockId)],
    ["name", () => locks.get("")],
    ["lock_id", () => locks.renew(NAME, "")],
    ["lock_id", () => locks.release(NAME, "short")],
    ["ttl", () => locks.renew(NAME, lockId, 99)],
  ];
  for (const [field, call] of calls) {
    const refusal = { reason: "INVALID_ARGUMENT", metadata: { field } };
    await expect(call(), `${call}`).rejects.toMatchObject(refusal);
  }
  await acquire(locks, { name: "ä".repeat(128), ttlMs: 100, waitTimeoutMs: 3_600_000 });
  await acquire(locks, { name: "b", ttlMs: 3_600_000, lockId: "a".repeat(16) });
});

test("ten thousand may wait in a server, one more is OVERLOADED, and a free lock is given all the same", async () => {
  const locks = await openSqlite();
  await acquire(locks);
  const waiting = Array.from({ length: 10_000 }, () => acquire(locks));
  const failures = Promise.allSettled(waiting);
  await expect(acquire(locks)).rejects.toMatchObject({ reason: "OVERLOADED" });
  await acquire(locks, { name: "free" });
  const taken = acquire(locks, { name: "free" });
  await expect(taken).rejects.toMatchObject({ reason: "OVERLOADED" });
  await locks.close();
  expect((await failures).every(({ status }) => status === "rejected")).toBe(true);
});

test("a lock whose release nobody heard of is found free within about a second", async () => {
  const locks = await openRedis();
  await acquire(locks);
  const waiting = timed(acquire(locks));
  await sleep(50);
  await withRedis(server.port, (redis) => redis.del(`${keyPrefix}lock:{${NAME}}`));
  const { error, ms } = await waiting;
  expect(error).toBeUndefined();
  expect(ms).toBeLessThan(1_300 + AT_ONCE_MS);
});

describe("when Redis does not answer", () => {
  test("LOCK_TIMEOUT comes on time, a canceler is gone at once, and a lock had too late is given back", async () => {
    await using redis = await startRedisServer();
    const locks = await openRedis(redis);
    for (const isCanceled of [false, true]) {
      expect(await isFree(locks)).toBe(true);
      redis.pause();
      const call = isCanceled ? { signal: AbortSignal.timeout(50) } : { waitTimeoutMs: 200 };
      const { error, ms } = await timed(acquire(locks, call));
      if (!isCanceled) expect(error).toMatchObject({ reason: "LOCK_TIMEOUT" });
      expect(ms).toBeLessThan(200 + AT_ONCE_MS);
      redis.resume();
      await sleep(100);
      await expect.poll(() => isFree(locks)).toBe(true);
    }
  });

  test("an acquisition whose answer is lost fails, and is given back unless its lock id was the caller's", async () => {
    await using proxy = await startTcpFaultProxy({ host: "127.0.0.1", port: server.port });
    const [locks, observer] = [await openRedis(proxy), await openRedis()];
    await acquire(locks, { name: "so that Redis knows the script" });
    proxy.dropReplies(1);
    await expect(acquire(locks)).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    expect(await isFree(observer)).toBe(false);
    proxy.pass();
    await expect.poll(() => isFree(observer), { timeout: 5_000 }).toBe(true);

    const lockId = randomUUID();
    proxy.dropReplies(1);
    await expect(acquire(locks, { lockId })).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
    proxy.pass();
    const found = await observer.get(NAME);
    const again = await acquire(observer, { lockId });
    expect(again.fencingToken).toBe(found?.fencingToken);
    await sleep(1_500);
    expect(await isFree(observer)).toBe(false);
  });
});

describe("two servers on one Redis", () => {
  test("200 who wait, 2000 times: never two holders, growing tokens, nobody passed over", async () => {
    const servers = [await openRedis(), await openRedis()];
    const tokens: number[] = [];
    let holders = 0;
    let mostOvertakes = 0;
    const work = async (locks: Locks) => {
      for (let round = 0; round < 10; round++) {
        const askedAt = tokens.length;
        const { lockId, fencingToken } = await acquire(locks, { waitTimeoutMs: 60_000 });
        expect(++holders).toBe(1);
        mostOvertakes = Math.max(mostOvertakes, tokens.length - askedAt);
        tokens.push(fencingToken);
        if (tokens.length % 7 === 0) await sleep(1);
        expect(holders--).toBe(1);
        await locks.release(NAME, lockId);
      }
    };
    await Promise.all(Array.from({ length: 200 }, (_, i) => work(servers[i % 2] as Locks)));
    expect(tokens).toHaveLength(2_000);
    expect(tokens.every((token, i) => i === 0 || token > (tokens[i - 1] ?? 0))).toBe(true);
    // 99 of one's own server, and as many turns of the other one. The rest is for a server
    // that this machine keeps from coming in time for its turn.
    expect(mostOvertakes).toBeLessThanOrEqual(230);
  }, 90_000);

  test("one who waits at a quiet server is not passed over for the many at a busy one", async () => {
    const busy = await openRedis();
    const quiet = await openRedis();
    let acquisitions = 0;
    let isOver = false;
    const work = async () => {
      while (!isOver) {
        const { lockId } = await acquire(busy, { waitTimeoutMs: 60_000 });
        acquisitions++;
        await busy.release(NAME, lockId);
      }
    };
    const working = Promise.all(Array.from({ length: 50 }, work));
    const overtakes: number[] = [];
    for (let i = 0; i < 50; i++) {
      const before = acquisitions;
      const { lockId } = await acquire(quiet);
      overtakes.push(acquisitions - before);
      await quiet.release(NAME, lockId);
    }
    isOver = true;
    await working;
    // The one that has it as one comes, the one that is asked for already, and a few handed over
    // while the first question is under way.
    expect(overtakes.toSorted((a, b) => a - b)[45]).toBeLessThanOrEqual(4);
  }, 60_000);
});
