import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { HeldLock, LockStore } from "../../../locks/lock-store.js";
import { listChecks } from "../checks.js";
import { assertRefused, eventually, factsOf, NAME, TTL_MS, take } from "./lock-fixtures.js";
import { lockModelChecks } from "./lock-model-checks.js";
import { lockQueueChecks } from "./lock-queue-checks.js";
import type { LockStoreCheck, LockStoreChecks } from "./lock-store-check.js";

const RACERS = 50;
/** As long as nobody may want a lock: over a weekend, a vacation. */
const DAYS_MS = 20 * 24 * 3_600_000;

const namespaceChecks: LockStoreChecks = {
  "locks of the same name in different namespaces are different locks": async ({ store, peer }) => {
    const names = ["", "shop", "shop-a", "ns"];
    const taken = new Map<string, HeldLock>();
    for (const name of names) taken.set(name, await take(store.namespace(name), "ann"));
    for (const name of names) {
      const view = peer.namespace(name);
      assert.deepEqual(factsOf(await view.get(NAME)), factsOf(taken.get(name)));
      assert.equal(await view.release(NAME, "ann"), true);
      assert.equal(await view.renew(NAME, "ann", TTL_MS), undefined);
      assert.equal(await view.get(NAME, "ann"), undefined);
    }
    const first = await take(store.namespace("fresh"), "bob");
    assert.equal(await peer.namespace("shop").release(NAME, "bob"), false);
    assert.deepEqual(factsOf(await peer.namespace("fresh").get(NAME)), factsOf(first));
    assert.throws(() => store.namespace("a:b"), Error);
  },
  "listeners hear of releases in their own namespace only": async ({ store }) => {
    const heard: string[] = [];
    const names = ["", "shop"];
    const stops = names.map((name) =>
      store.namespace(name).onRelease((lock) => heard.push(`${name}/${lock}`)),
    );
    // A listener may miss hints while it begins.
    for (let i = 0; !heard.includes("shop/last"); i++) {
      assert.ok(i < 500, "no release was heard");
      for (const name of ["first", "last"]) {
        await take(store.namespace("shop"), "ann", { name });
        await store.namespace("shop").release(name, "ann");
      }
      await sleep(10);
    }
    assert.deepEqual(
      heard.filter((one) => one.startsWith("/")),
      [],
    );
    for (const stop of stops) stop();
  },
};

const leaseChecks: LockStoreChecks = {
  "a free lock is given for as long as asked, by the store's clock": async (t) => {
    const { store, peer, clock } = t;
    clock.advance(5);
    const held = await take(store, "ann");
    assert.equal(held.name, NAME);
    assert.equal(held.readTimeMs, clock.now());
    assert.equal(held.expireTimeMs, clock.now() + TTL_MS);
    assert.deepEqual(factsOf(await peer.get(NAME)), factsOf(held));
  },
  "a lock is refused to others until just before its lease ends, and free then": async (t) => {
    const { store, peer, clock } = t;
    const held = await take(store, "ann");
    for (const other of [store, peer]) {
      const refusal = await assertRefused(other, "bob");
      assert.deepEqual(refusal, {
        occupied: true,
        expireTimeMs: held.expireTimeMs,
        readTimeMs: clock.now(),
      });
    }
    clock.advanceTo(held.expireTimeMs - 1);
    await assertRefused(peer, "bob");
    assert.deepEqual(factsOf(await store.get(NAME)), factsOf(held));
    clock.advance(1);
    assert.equal(await store.get(NAME), undefined);
    await take(peer, "bob");
  },
  "acquiring a lock again under the same lock id answers it as it is": async (t) => {
    const { store, peer, clock } = t;
    const held = await take(store, "ann");
    clock.advance(10);
    const again = await take(peer, "ann", { ttlMs: 10 * TTL_MS });
    assert.deepEqual(factsOf(again), factsOf(held));
    assert.equal(again.readTimeMs, clock.now());
    clock.advanceTo(held.expireTimeMs);
    const later = await take(store, "ann");
    assert.ok(later.fencingToken > held.fencingToken);
  },
  "of those who race for a lock exactly one gets it": async ({ store, peer }) => {
    const answers = await Promise.all(
      Array.from({ length: RACERS }, (_, i) =>
        (i % 2 ? store : peer).acquire(NAME, `racer-${i}`, TTL_MS),
      ),
    );
    assert.equal(answers.filter((answer) => !("occupied" in answer)).length, 1);
  },
  "locks of different names are different locks, however alike the names are": async (t) => {
    const { store, clock } = t;
    const names = ["a", "A", "a ", "a}", "}", "{}", "{a}", "a%7D", "%", "a*", "ä", "a:b", "{a}b"];
    for (const name of names) await take(store, `holder of ${name}`, { name });
    for (const name of names) {
      assert.equal((await store.get(name, `holder of ${name}`))?.name, name);
      clock.advance(1);
      assert.equal(await store.release(name, `holder of ${name}`), true);
    }
  },
};

const tokenChecks: LockStoreChecks = {
  "every acquisition has a higher token, never below the time, though the clock is set back":
    async ({ store, peer, clock }) => {
      let last = 0;
      const takeAndRelease = async (from: LockStore) => {
        const { fencingToken } = await take(from, "ann");
        assert.ok(fencingToken > last, `${fencingToken} after ${last}`);
        assert.ok(Number.isSafeInteger(fencingToken) && fencingToken >= clock.now());
        last = fencingToken;
        await from.release(NAME, "ann");
      };
      for (const from of [store, peer, store, peer]) await takeAndRelease(from);
      for (const passedMs of [12_345, DAYS_MS]) {
        clock.advance(passedMs);
        await takeAndRelease(store);
      }
      clock.stepBack(DAYS_MS / 2);
      for (const from of [store, peer]) await takeAndRelease(from);
    },
};

const renewChecks: LockStoreChecks = {
  "renewing lets the lease end one ttl from now, under the same token": async (t) => {
    const { store, peer, clock } = t;
    const held = await take(store, "ann");
    clock.advanceTo(held.expireTimeMs - 1);
    const later = await peer.renew(NAME, "ann", TTL_MS);
    assert.deepEqual(later, {
      ...held,
      expireTimeMs: clock.now() + TTL_MS,
      readTimeMs: clock.now(),
    });
    clock.advance(TTL_MS / 2);
    await assertRefused(store, "bob");
    const earlier = await store.renew(NAME, "ann", 100);
    assert.equal(earlier?.expireTimeMs, clock.now() + 100);
    assert.equal(earlier?.fencingToken, held.fencingToken);
    clock.advance(100);
    assert.ok((await take(store, "bob")).fencingToken > held.fencingToken);
  },
  "a lease that has ended is not renewed, whether or not another has the lock": async (t) => {
    const { store, clock } = t;
    const held = await take(store, "ann");
    clock.advanceTo(held.expireTimeMs);
    assert.equal(await store.renew(NAME, "ann", TTL_MS), undefined);
    assert.equal(await store.get(NAME), undefined);
    const next = await take(store, "bob");
    assert.equal(await store.renew(NAME, "ann", 10 * TTL_MS), undefined);
    assert.deepEqual(factsOf(await store.get(NAME)), factsOf(next));
    await store.release(NAME, "bob");
    assert.equal(await store.renew(NAME, "bob", TTL_MS), undefined);
  },
};

const releaseChecks: LockStoreChecks = {
  "a lock that was given back is free at once, and given back once": async ({ store, peer }) => {
    await take(store, "ann");
    assert.equal(await peer.release(NAME, "ann"), true);
    assert.equal(await store.get(NAME), undefined);
    assert.equal(await store.release(NAME, "ann"), false);
    await take(store, "bob");
  },
  "nobody but its holder renews a lock or gives it back": async ({ store, peer, clock }) => {
    const held = await take(store, "ann", { ttlMs: 1_000 });
    for (const other of ["bob", "an", "anne", ""]) {
      assert.equal(await peer.renew(NAME, other, 10 * TTL_MS), undefined);
      assert.equal(await peer.release(NAME, other), false);
    }
    assert.deepEqual(factsOf(await store.get(NAME)), factsOf(held));
    clock.advance(1_000);
    assert.equal(await store.release(NAME, "ann"), false);
    const next = await take(store, "bob");
    assert.equal(await store.release(NAME, "ann"), false);
    assert.deepEqual(factsOf(await store.get(NAME)), factsOf(next));
  },
  "a caller that asks for a lock learns whether it is held, and never by whom": async (t) => {
    const { store, peer } = t;
    assert.equal(await store.get(NAME), undefined);
    const lockId = randomUUID();
    await take(store, lockId);
    const found = await peer.get(NAME);
    const fields = ["expireTimeMs", "fencingToken", "name", "readTimeMs"];
    assert.deepEqual(Object.keys(found ?? {}).sort(), fields);
    assert.deepEqual(await store.get(NAME, lockId), found);
    assert.equal(await store.get(NAME, randomUUID()), undefined);
  },
};

const hintChecks: LockStoreChecks = {
  "listeners hear of a lock that is given back, until they stop": async ({ store }) => {
    const heard: string[][] = [[], []];
    const listeners = heard.map((names) => store.onRelease((name) => names.push(name)));
    await untilHeard(store, () => heard.every((names) => names.includes("first")), "first");
    listeners[0]?.();
    const before = heard[0]?.length;
    await untilHeard(store, () => heard[1]?.includes("second") === true, "second");
    listeners[1]?.();
    assert.equal(heard[0]?.length, before);
  },
};

/** Takes a lock and gives it back, again and again: a listener may take a moment to be heard. */
async function untilHeard(store: LockStore, isHeard: () => boolean, name: string): Promise<void> {
  let isOver = false;
  const releasing = (async () => {
    while (!isOver) {
      await take(store, "ann", { name });
      await store.release(name, "ann");
      await sleep(20);
    }
  })();
  try {
    await eventually(`${name} was heard of`, isHeard);
  } finally {
    isOver = true;
    await releasing;
  }
}

const tellingChecks: LockStoreChecks = {
  "another server's listeners hear of it, too": async ({ store, peer }) => {
    const heard = new Set<string>();
    const stop = peer.onRelease((name) => heard.add(name));
    await untilHeard(store, () => heard.has(NAME), NAME);
    stop();
  },
};

/** What every store promises, one by one. */
export const commonLockStoreChecks: readonly LockStoreCheck[] = listChecks(
  namespaceChecks,
  leaseChecks,
  tokenChecks,
  renewChecks,
  releaseChecks,
  hintChecks,
  lockModelChecks,
);

/** What those stores promise as well that tell other servers of a release. */
export const tellingLockStoreChecks: readonly LockStoreCheck[] = listChecks(
  tellingChecks,
  lockQueueChecks,
);
