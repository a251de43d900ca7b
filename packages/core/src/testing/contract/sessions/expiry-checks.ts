import assert from "node:assert/strict";
import type { SessionStore, StoredSession, SweepResult } from "../../../sessions/session-store.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  assertSame,
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

interface Attempt {
  readonly what: string;
  /** Whether the session turned out to be active. */
  readonly succeeds: (store: SessionStore, session: StoredSession) => Promise<boolean>;
}

/** Everything that works on an active session only. */
const ATTEMPTS: readonly Attempt[] = [
  { what: "read", succeeds: async (store, s) => (await store.get(keyOf(s))) !== undefined },
  {
    what: "read among many",
    succeeds: async (store, s) => (await store.getMany([keyOf(s)]))[0] !== undefined,
  },
  { what: "counted", succeeds: async (store, s) => (await store.count(s.userId)) === 1 },
  {
    what: "listed among its user's active sessions",
    succeeds: async (store, { userId }) =>
      (await store.list({ ...ACTIVE, userId, limit: 1 })).sessions.length === 1,
  },
  {
    what: "listed among all active sessions",
    succeeds: async (store, { id }) =>
      (await store.list({ ...ACTIVE, limit: 10 })).sessions.some((session) => session.id === id),
  },
  { what: "touched", succeeds: async (store, s) => (await store.touch(keyOf(s))) !== undefined },
  {
    what: "touched by its token",
    succeeds: async (store, s) => (await store.touch(keyOf(s), s.tokenHash)) !== undefined,
  },
  {
    what: "changed",
    succeeds: async (store, s) =>
      (await store.replaceRecord(keyOf(s), s.version, new Uint8Array([1]))) !== undefined,
  },
  {
    what: "given a new token",
    succeeds: async (store, s) =>
      (await store.rotateToken(keyOf(s), s.tokenHash, new Uint8Array(32))) !== undefined,
  },
  { what: "revoked", succeeds: (store, s) => store.revoke(keyOf(s), "") },
  { what: "revoked by its token", succeeds: (store, s) => store.revoke(keyOf(s), "", s.tokenHash) },
  {
    what: "revoked with its user's sessions",
    succeeds: async (store, s) => (await store.revokeUser(s.userId, "")) === 1,
  },
];

function edgeCheck({ what, succeeds }: Attempt): SessionStoreChecks {
  return {
    [`a session can be ${what} a millisecond before its deadline, and not at it`]: async ({
      store,
      clock,
    }) => {
      const early = await addSession(store, { userId: "early" });
      const late = await addSession(store, { userId: "late" });
      clock.advanceTo(early.expireTimeMs - 1);
      assert.equal(await succeeds(store, early), true, "a millisecond before the deadline");
      clock.advanceTo(late.expireTimeMs);
      assert.equal(await succeeds(store, late), false, "at the deadline");
      await assertUntouched(store, late);
    },
  };
}

/** Deadlines: idle and absolute, both sides of each. */
export const expiryChecks: SessionStoreChecks = {
  ...Object.assign({}, ...ATTEMPTS.map(edgeCheck)),
  "an expired session stays expired, and is not revoked": async ({ store, clock }) => {
    const session = await addSession(store);
    clock.advanceTo(session.expireTimeMs);
    await store.revoke(keyOf(session), "too late");
    await store.revokeUser(session.userId, "too late");
    await assertUntouched(store, session);
    clock.advance(1);
    assert.equal(await store.touch(keyOf(session)), undefined);
  },
  "touching sets the last access and the idle deadline, and changes nothing else": async (t) => {
    const { store, clock } = t;
    const session = await addSession(store);
    clock.advanceTo(session.expireTimeMs - 1);
    const touched = await store.touch(keyOf(session), session.tokenHash);
    const expireTimeMs = clock.now() + session.idleTimeoutMs;
    const expected = { ...session, lastAccessTimeMs: clock.now(), expireTimeMs };
    assertSame(touched, expected);
    assert.equal(touched?.readTimeMs, clock.now());
    await assertUntouched(store, expected);
    clock.advanceTo(expireTimeMs - 1);
    assert.ok(await store.get(keyOf(session)));
    clock.advance(1);
    assert.equal(await store.get(keyOf(session)), undefined);
  },
  "a session in steady use lives until its absolute deadline, and not at it": async (t) => {
    const { store, clock } = t;
    const session = await addSession(store, { idleTimeoutMs: 60_000, lifetimeMs: 200_000 });
    const { absoluteExpireTimeMs } = session;
    while (clock.now() + 59_999 < absoluteExpireTimeMs) {
      clock.advance(59_999);
      const touched = await store.touch(keyOf(session));
      const idleDeadlineMs = clock.now() + 60_000;
      assert.equal(touched?.expireTimeMs, Math.min(idleDeadlineMs, absoluteExpireTimeMs));
      assert.equal(touched.absoluteExpireTimeMs, absoluteExpireTimeMs);
    }
    clock.advanceTo(absoluteExpireTimeMs - 1);
    const last = await store.touch(keyOf(session));
    assert.equal(last?.expireTimeMs, absoluteExpireTimeMs);
    assert.equal(await store.count(), 1);
    clock.advanceTo(absoluteExpireTimeMs);
    assert.equal(await store.touch(keyOf(session)), undefined);
    assert.equal(await store.count(), 0);
  },
  "rotating the token moves the deadline too, and no further than the absolute one": async (t) => {
    const { store, clock } = t;
    const session = await addSession(store, { idleTimeoutMs: 60_000, lifetimeMs: 100_000 });
    clock.advance(30_000);
    const newHash = new Uint8Array(32).fill(1);
    const rotated = await store.rotateToken(keyOf(session), session.tokenHash, newHash);
    assert.equal(rotated?.expireTimeMs, clock.now() + 60_000);
    clock.advance(50_000);
    const again = await store.rotateToken(keyOf(session), newHash, new Uint8Array(32).fill(2));
    assert.equal(again?.expireTimeMs, session.absoluteExpireTimeMs);
  },
  "changing the content is no activity": async ({ store, clock }) => {
    const session = await addSession(store);
    clock.advance(10);
    await store.replaceRecord(keyOf(session), 1, session.record);
    await assertUntouched(store, { ...session, version: 2 });
    clock.advanceTo(session.expireTimeMs);
    assert.equal(await store.get(keyOf(session)), undefined);
  },
  "a clock that is set back never shortens a session": async ({ store, clock }) => {
    const session = await addSession(store);
    clock.advance(20_000);
    const touched = await store.touch(keyOf(session));
    assert.ok(touched);
    clock.stepBack(15_000);
    const again = await store.touch(keyOf(session));
    assert.equal(again?.expireTimeMs, touched.expireTimeMs);
    const newHash = new Uint8Array(32).fill(1);
    const rotated = await store.rotateToken(keyOf(session), session.tokenHash, newHash);
    assert.equal(rotated?.expireTimeMs, touched.expireTimeMs);
  },
  "each session has its own timeouts, kept to the millisecond up to a year": async (t) => {
    const { store, clock } = t;
    const yearMs = 365 * 24 * 3_600_000;
    const short = await addSession(store, { idleTimeoutMs: 1_000 });
    const long = await addSession(store, { idleTimeoutMs: yearMs, lifetimeMs: yearMs });
    assert.equal(long.expireTimeMs, clock.now() + yearMs);
    clock.advance(1_000);
    assert.equal(await store.get(keyOf(short)), undefined);
    assert.equal(await store.count(), 1);
    clock.advanceTo(long.expireTimeMs - 1);
    assert.ok(await store.get(keyOf(long)));
    clock.advance(1);
    assert.equal(await store.get(keyOf(long)), undefined);
  },
};

const NOTHING_SWEPT: SweepResult = { expired: 0, reclaimed: 0, healed: 0, more: false };

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
