import assert from "node:assert/strict";
import { REUSE_TOLERANCE_MS } from "../../../sessions/replaced-tokens.js";
import {
  addSession,
  addSessions,
  evictBeyond,
  IDLE_TIMEOUT_MS,
  keyOf,
  newSession,
  race,
  sumOfSweeps,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

/** How sweeps count what has expired, so that created minus ended is what is active. */
export const expiryCountChecks: SessionStoreChecks = {
  "an expired session is counted by the first sweep from its deadline on, and by no other": async (
    t,
  ) => {
    const { store, peer, clock, retentionMs } = t;
    const session = await addSession(store);
    clock.advanceTo(session.expireTimeMs - 1);
    assert.equal((await store.sweep(10)).expired, 0);
    clock.advance(1);
    assert.equal((await peer.sweep(10)).expired, 1);
    assert.equal((await store.sweep(10)).expired, 0);
    clock.advance(retentionMs);
    assert.deepEqual(await sumOfSweeps(store), { expired: 0, reclaimed: 1 });
  },
  "a session that is swept after its retention only is counted, too": async (t) => {
    const { store, clock, retentionMs } = t;
    await addSessions(store, 30);
    await addSession(store.namespace("shop"));
    clock.advance(IDLE_TIMEOUT_MS + retentionMs);
    assert.deepEqual(await sumOfSweeps(store, 7), { expired: 31, reclaimed: 31 });
  },
  "whoever ends a session first counts it, and nobody else does": async (t) => {
    const { store, clock, retentionMs } = t;
    const sessions = await addSessions(store, 4);
    const [touched, revoked, reused, rotated] = sessions.map(keyOf);
    assert.ok(touched && revoked && reused && rotated);
    const evicted = await addSession(store, { userId: "evicted" });
    clock.advance(IDLE_TIMEOUT_MS - REUSE_TOLERANCE_MS - 2);
    const hash = (key: typeof reused) => sessions.find(({ id }) => id === key.id)?.tokenHash;
    for (const key of [reused, rotated]) {
      await store.rotateToken(key, hash(key) ?? new Uint8Array(), new Uint8Array(32));
    }
    clock.advance(REUSE_TOLERANCE_MS + 1);
    await store.touch(touched);
    assert.equal(await store.revoke(revoked, ""), true);
    assert.equal(await store.reportReuse(reused, hash(reused) ?? new Uint8Array(), true), true);
    const { evictedIds } = await store.create(newSession({ userId: "evicted" }), evictBeyond(1));
    assert.deepEqual(evictedIds, [evicted.id]);
    clock.advance(1);
    assert.equal((await store.sweep(10)).expired, 0);
    // The touched one, the one with a new token, and the one that evicted.
    clock.advance(IDLE_TIMEOUT_MS);
    assert.equal((await store.sweep(10)).expired, 3);
    clock.advance(retentionMs);
    assert.equal((await sumOfSweeps(store)).expired, 0);
  },
  "sweeps that run at once count each expired session once": async (t) => {
    const { store, clock } = t;
    await addSessions(store, 40);
    await addSessions(store.namespace("shop"), 10, { userId: "ann" });
    clock.advance(IDLE_TIMEOUT_MS);
    const sweeps = await race(t, 6, (from) => from.sweep(1_000));
    assert.equal(
      sweeps.reduce((sum, { expired }) => sum + expired, 0),
      50,
    );
  },
  "a session that was counted stays ended for every change, even if the clock is set back": async (
    t,
  ) => {
    const { store, clock } = t;
    const session = await addSession(store);
    const key = keyOf(session);
    clock.advanceTo(session.expireTimeMs);
    assert.equal((await store.sweep(10)).expired, 1);
    clock.stepBack(2_000);
    const late = await addSession(store, { userId: "late", idleTimeoutMs: 1_000 });
    assert.equal(await store.count(session.userId), 0);
    assert.equal(await store.touch(key), undefined);
    assert.equal(await store.rotateToken(key, session.tokenHash, new Uint8Array(32)), undefined);
    assert.equal(await store.revoke(key, ""), false);
    assert.equal(await store.revokeUser(session.userId, ""), 0);
    // A session of the time that is repeated counts as well.
    clock.advanceTo(late.expireTimeMs);
    assert.equal((await store.sweep(10)).expired, 1);
    clock.advance(IDLE_TIMEOUT_MS);
    assert.equal((await store.sweep(10)).expired, 0);
  },
};
