import assert from "node:assert/strict";
import { assertRefused, NAME, take } from "./lock-fixtures.js";
import type { LockStoreChecks } from "./lock-store-check.js";

const QUEUE_FOR_MS = 10_000;
/** Longer than any store keeps a lock for one that does not come. */
const TOO_LATE_MS = 1_000;
const WAITING = { queueForMs: QUEUE_FOR_MS };

/** The queue of those who wait. */
export const lockQueueChecks: LockStoreChecks = {
  "a lock that is given back is kept for the one that has waited longest": async (t) => {
    const { store, peer, clock } = t;
    await take(store, "ann");
    await assertRefused(peer, "bob", WAITING);
    clock.advance(1);
    await assertRefused(store, "carol", WAITING);
    clock.advance(1);
    // Asking again loses nobody their position.
    await assertRefused(peer, "bob", WAITING);
    await store.release(NAME, "ann");
    await assertRefused(store, "ann", WAITING);
    await assertRefused(store, "carol", WAITING);
    assert.equal(await store.get(NAME), undefined);
    await take(peer, "bob");
    await peer.release(NAME, "bob");
    await assertRefused(peer, "bob");
    await assertRefused(store, "ann", WAITING);
    await take(store, "carol");
    await store.release(NAME, "carol");
    await take(store, "ann");
    await store.release(NAME, "ann");
    await take(peer, "dave");
  },
  "a lock whose lease has ended is kept for the one that has waited longest": async (t) => {
    const { store, peer, clock } = t;
    const held = await take(store, "ann", { ttlMs: 1_000 });
    await assertRefused(peer, "bob", WAITING);
    clock.advanceTo(held.expireTimeMs);
    const { expireTimeMs } = await assertRefused(store, "carol");
    assert.ok(expireTimeMs > clock.now());
    await take(peer, "bob");
  },
  "a lock is not kept for long for one that does not come, which then waits from the start":
    async ({ store, peer, clock }) => {
      await take(store, "ann");
      await assertRefused(peer, "gone", WAITING);
      await store.release(NAME, "ann");
      const { expireTimeMs } = await assertRefused(store, "carol", WAITING);
      assert.ok(expireTimeMs > clock.now() && expireTimeMs <= clock.now() + TOO_LATE_MS);
      clock.advanceTo(expireTimeMs - 1);
      await assertRefused(store, "carol", WAITING);
      clock.advance(1);
      await take(store, "carol");
      await store.release(NAME, "carol");
      await take(store, "dave");
    },
  "a caller that gives up waiting leaves the queue": async ({ store, peer }) => {
    await take(store, "ann");
    await assertRefused(peer, "bob", WAITING);
    await assertRefused(store, "carol", WAITING);
    assert.equal(await peer.release(NAME, "bob"), false);
    await store.release(NAME, "ann");
    await assertRefused(peer, "bob");
    await take(store, "carol");
  },
  "a caller that does not ask again in time, or asks only once, is not in the queue": async (t) => {
    const { store, peer, clock } = t;
    await take(store, "ann", { ttlMs: 10 * QUEUE_FOR_MS });
    await assertRefused(peer, "tries once");
    await assertRefused(peer, "bob", WAITING);
    await assertRefused(store, "carol", { queueForMs: QUEUE_FOR_MS + 1 });
    clock.advance(QUEUE_FOR_MS);
    await store.release(NAME, "ann");
    await assertRefused(peer, "bob");
    await assertRefused(peer, "tries once");
    await take(store, "carol");
  },
};
