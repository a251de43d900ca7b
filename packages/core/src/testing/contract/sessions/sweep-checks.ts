import assert from "node:assert/strict";
import type { SweepResult } from "../../../sessions/session-store.js";
import {
  addSession,
  addSessions,
  assertUntouched,
  EVERYTHING,
  evictBeyond,
  idsOf,
  inspect,
  keyOf,
  listAll,
  newSession,
  race,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

const NOTHING_SWEPT: SweepResult = { reclaimed: 0, healed: 0, more: false };

/** Retention, and what is removed after it. */
export const sweepChecks: SessionStoreChecks = {
  "sweeping an empty store does nothing, and active sessions are never swept": async (t) => {
    const { store, clock } = t;
    assert.deepEqual(await store.sweep(10), NOTHING_SWEPT);
    const session = await addSession(store);
    clock.advanceTo(session.expireTimeMs - 1);
    assert.deepEqual(await store.sweep(10), NOTHING_SWEPT);
    await assertUntouched(store, session);
    assert.ok(await store.get(keyOf(session)));
  },
  "an expired session is kept until its retention is over, and removed then": async (t) => {
    const { store, clock, retentionMs, leftovers } = t;
    const session = await addSession(store);
    clock.advanceTo(session.expireTimeMs + retentionMs - 1);
    assert.equal((await store.sweep(10)).reclaimed, 0);
    await assertUntouched(store, session);
    clock.advance(1);
    assert.deepEqual(await store.sweep(10), { ...NOTHING_SWEPT, reclaimed: 1 });
    assert.deepEqual(await listAll(store, EVERYTHING), []);
    if (leftovers) assert.equal(await leftovers(), 0);
  },
  "a revoked session's retention runs from its revocation, whenever its deadline is": async (t) => {
    const { store, clock, retentionMs } = t;
    const longMs = 10 * retentionMs;
    for (const timeoutMs of [longMs, 8]) {
      const session = await addSession(store, {
        idleTimeoutMs: timeoutMs,
        lifetimeMs: timeoutMs,
      });
      clock.advance(7);
      await store.revoke(keyOf(session), "logout");
      clock.advance(retentionMs - 1);
      assert.equal((await store.sweep(10)).reclaimed, 0);
      assert.equal((await inspect(store, session))?.revokeReason, "logout");
      clock.advance(1);
      assert.equal((await store.sweep(10)).reclaimed, 1);
      assert.equal(await inspect(store, session), undefined);
    }
  },
  "a touched session is not swept by the deadline it had before": async (t) => {
    const { store, clock, retentionMs } = t;
    const lifetimeMs = 10 * retentionMs;
    const session = await addSession(store, { idleTimeoutMs: retentionMs, lifetimeMs });
    for (let i = 0; i < 4; i++) {
      clock.advance(retentionMs - 1);
      assert.ok(await store.touch(keyOf(session)));
      assert.equal((await store.sweep(10)).reclaimed, 0);
    }
    assert.ok(await store.get(keyOf(session)));
  },
  "a sweep removes about as many as it was asked to, and says that there is more": async (t) => {
    const { store, clock, retentionMs } = t;
    for (let user = 0; user < 10; user++) await addSessions(store, 10, { userId: `user-${user}` });
    clock.advance(60_000 + retentionMs);
    const first = await store.sweep(10);
    assert.ok(first.more);
    assert.ok(first.reclaimed <= 20, `reclaimed ${first.reclaimed}`);
    const left = (await listAll(store, EVERYTHING)).length;
    assert.equal(left, 100 - first.reclaimed);
    assert.equal(first.reclaimed + (await sweepAll(store, 10)), 100);
    assert.deepEqual(await listAll(store, EVERYTHING), []);
    assert.deepEqual(await store.sweep(10), NOTHING_SWEPT);
  },
  "after all sessions have ended, however they did, sweeping leaves nothing at all": async (t) => {
    const { store, clock, retentionMs, leftovers } = t;
    for (let i = 0; i < 60; i++) {
      const userId = `user-${i % 7}`;
      const chosen = i % 3 === 0 ? { id: `jti-${i}` } : {};
      const session = await addSession(store, { userId, ...chosen });
      if (i % 5 === 0) await store.touch(keyOf(session));
      if (i % 5 === 1) await store.revoke(keyOf(session), "logout");
      if (i % 5 === 2) await store.create(newSession({ userId }), evictBeyond(1));
      if (i % 5 === 3) await store.replaceRecord(keyOf(session), 1, new Uint8Array(300));
      if (i % 5 === 4)
        await store.rotateToken(keyOf(session), session.tokenHash, new Uint8Array(32));
      clock.advance(11);
    }
    await store.revokeUser("user-3", "");
    const total = (await listAll(store, EVERYTHING)).length;
    clock.advance(120_000 + retentionMs);
    assert.equal(await store.count(), 0);
    assert.equal(await sweepAll(store, 16), total);
    assert.deepEqual(await listAll(store, EVERYTHING), []);
    if (leftovers) assert.equal(await leftovers(), 0);
  },
  "sweeps that run at once remove each session once, and only what has ended": async (context) => {
    const { store, clock, retentionMs } = context;
    const longMs = 10 * retentionMs;
    await addSessions(store, 40);
    const staying = await addSession(store, { idleTimeoutMs: longMs, lifetimeMs: longMs });
    clock.advance(60_000 + retentionMs);
    const sweeps = await race(context, 6, (from) => from.sweep(1_000));
    const reclaimed = sweeps.reduce((sum, one) => sum + one.reclaimed, 0);
    assert.equal(reclaimed, 40);
    assert.deepEqual(idsOf(await listAll(store, EVERYTHING)), [staying.id]);
    assert.ok(await store.get(keyOf(staying)));
  },
};
