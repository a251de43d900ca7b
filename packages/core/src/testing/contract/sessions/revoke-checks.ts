import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { SessionStore, StoredSession } from "../../../sessions/session-store.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  assertRefused,
  assertUntouched,
  EVERYTHING,
  evictBeyond,
  hex,
  idsOf,
  inspect,
  keyOf,
  listAll,
  NO_LIMIT,
  neighbourOf,
  newSession,
  othersThan,
  race,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

/** A session as it is once it was revoked at a time. */
function revokedAt(session: StoredSession, revokeTimeMs: number, revokeReason: string) {
  const tokenHash = new Uint8Array();
  return { ...session, version: session.version + 1, tokenHash, revokeTimeMs, revokeReason };
}

/** Asserts that nothing which shows active sessions shows this one. */
async function assertGone(store: SessionStore, { id, userId }: StoredSession): Promise<void> {
  const key = keyOf({ id, userId });
  assert.equal(await store.get(key), undefined);
  assert.deepEqual(await store.getMany([key]), [undefined]);
  assert.equal(await store.count(userId), 0);
  assert.deepEqual(await listAll(store, { ...ACTIVE, userId }), []);
  assert.ok(!idsOf(await listAll(store, ACTIVE)).includes(id));
}

/** Tries everything that might bring a revoked session back, and expects it to be gone still. */
async function assertFinal(store: SessionStore, before: StoredSession): Promise<void> {
  const key = keyOf(before);
  const revoked = await inspect(store, before);
  assert.ok(revoked?.revokeTimeMs !== undefined, "expected a tombstone");
  for (const hash of [undefined, before.tokenHash, new Uint8Array(), new Uint8Array(32)]) {
    assert.equal(await store.touch(key, hash), undefined);
    assert.equal(await store.revoke(key, "again", hash), false);
    if (hash === undefined) continue;
    assert.equal(await store.rotateToken(key, hash, randomBytes(32)), undefined);
  }
  for (let version = 0; version <= revoked.version + 1; version++) {
    assert.equal(await store.replaceRecord(key, version, randomBytes(8)), undefined);
  }
  assert.equal(await store.revokeUser(before.userId, "again"), 0);
  const sameId = newSession({ id: before.id, userId: before.userId });
  await assertRefused("SESSION_ALREADY_EXISTS", store.create(sameId, NO_LIMIT));
  await assertGone(store, before);
  await assertUntouched(store, revoked);
}

/** Revocation, of one session and of all of a user. */
export const revokeChecks: SessionStoreChecks = {
  "revoking says so once, ends the session, and leaves all it had but its token": async (t) => {
    const { store, clock } = t;
    const session = await addSession(store);
    clock.advance(10);
    assert.equal(await store.revoke(keyOf(session), "logout"), true);
    assert.equal(await store.revoke(keyOf(session), "logout"), false);
    await assertGone(store, session);
    assert.equal(await store.count(), 0);
    await assertUntouched(store, revokedAt(session, clock.now(), "logout"));
  },
  "revoking by a token works with the session's own and no other": async ({ store }) => {
    const session = await addSession(store);
    const other = await addSession(store);
    for (const wrong of [other.tokenHash, ...othersThan(session.tokenHash)]) {
      assert.equal(await store.revoke(keyOf(session), "", wrong), false);
    }
    await assertUntouched(store, session);
    assert.equal(await store.revoke(keyOf(session), "", session.tokenHash), true);
  },
  "revoking for a user works for the session's own and no other": async ({ store }) => {
    for (const id of ["jti-1", undefined]) {
      const session = await addSession(store, { userId: "ann", ...(id && { id }) });
      for (const userId of ["bob", "an", "anna", "ann\0"]) {
        assert.equal(await store.revoke(keyOf(session), "", undefined, userId), false);
      }
      await assertUntouched(store, session);
      assert.equal(await store.revoke(keyOf(session), "", undefined, "ann"), true);
      assert.equal(await store.revoke(keyOf(session), "", undefined, "ann"), false);
    }
  },
  "of revocations that race exactly one says that it did it": async (context) => {
    const session = await addSession(context.store);
    const answers = await race(context, 50, (from, i) => from.revoke(keyOf(session), `racer ${i}`));
    assert.equal(answers.filter(Boolean).length, 1);
    const revoked = await inspect(context.store, session);
    assert.equal(revoked?.version, 2);
    assert.equal(revoked.revokeReason, `racer ${answers.indexOf(true)}`);
  },
  "nothing brings a revoked session back, or frees its id, before it is swept": async (t) => {
    const { store, clock, retentionMs } = t;
    const chosen = await addSession(store, { id: "jti-1" });
    const withUser = await addSession(store, { userId: "ann" });
    const evicted = await addSession(store, { userId: "bob" });
    await store.revoke(keyOf(chosen), "logout");
    await store.revokeUser("ann", "logout");
    const { session } = await store.create(newSession({ userId: "bob" }), evictBeyond(1));
    await store.revoke(keyOf(session), "");
    const endMs = clock.now() + retentionMs;
    for (const timeMs of [clock.now(), clock.now(), endMs - 1]) {
      clock.advanceTo(timeMs);
      for (const one of [chosen, withUser, evicted]) await assertFinal(store, one);
      await store.sweep(100);
    }
  },
  "nothing brings an expired session back, or frees its id, before it is swept": async (t) => {
    const { store, clock, retentionMs } = t;
    const session = await addSession(store, { id: "jti-1" });
    clock.advanceTo(session.expireTimeMs + retentionMs - 1);
    await store.sweep(100);
    assert.equal(await store.touch(keyOf(session), session.tokenHash), undefined);
    for (const userId of ["user", "bob"]) {
      const sameId = newSession({ id: "jti-1", userId });
      await assertRefused("SESSION_ALREADY_EXISTS", store.create(sameId, NO_LIMIT));
    }
    await assertUntouched(store, session);
  },
  "a swept session's id is free, and its old token opens nothing of the new session": async (t) => {
    const { store, clock, retentionMs } = t;
    let old: StoredSession | undefined;
    for (const userId of ["ann", "ann", "bob"]) {
      const session = await addSession(store, { id: "jti-1", userId });
      assert.equal(
        await store.touch(keyOf(session), old?.tokenHash ?? new Uint8Array()),
        undefined,
      );
      assert.equal(
        await store.revoke(keyOf(session), "", old?.tokenHash ?? new Uint8Array()),
        false,
      );
      await assertUntouched(store, session);
      await store.revoke(keyOf(session), "logout");
      clock.advance(retentionMs);
      assert.equal(await sweepAll(store), 1);
      old = session;
    }
  },
  "a session that is revoked in the middle of other calls stays revoked": async (t) => {
    const { store, peer } = t;
    for (let round = 0; round < 20; round++) {
      const session = await addSession(store, { userId: `user-${round}` });
      const key = keyOf(session);
      const newHash = randomBytes(32);
      const calls: (() => Promise<unknown>)[] = [
        () => peer.touch(key),
        () => store.touch(key, session.tokenHash),
        () => peer.replaceRecord(key, 1, randomBytes(16)),
        () => store.rotateToken(key, session.tokenHash, newHash),
        () => peer.touch(key, newHash),
        () => store.replaceRecord(key, 2, randomBytes(16)),
      ];
      calls.splice(round % (calls.length + 1), 0, () => store.revoke(key, "logout"));
      await Promise.all(calls.map((call) => call()));
      await assertFinal(store, { ...session, tokenHash: newHash });
      assert.equal((await inspect(store, session))?.revokeReason, "logout");
    }
  },
  "revoking a user's sessions revokes all active ones, and says how many": async (t) => {
    const { store, clock } = t;
    const anns = await addSessions(store, 5, { userId: "ann" });
    const expired = await addSession(store, { userId: "ann", idleTimeoutMs: 10 });
    const bobs = await addSession(store, { userId: "bob" });
    clock.advance(10);
    assert.equal(await store.revokeUser("ann", "password changed"), 5);
    assert.equal(await store.revokeUser("ann", "password changed"), 0);
    for (const session of anns) {
      await assertGone(store, session);
      await assertUntouched(store, revokedAt(session, clock.now(), "password changed"));
    }
    await assertUntouched(store, expired);
    await assertUntouched(store, bobs);
    assert.equal(await store.count(), 1);
  },
  "revoking a user's sessions spares the excepted one": async ({ store }) => {
    const [kept] = await addSessions(store, 4, { userId: "ann" });
    assert.ok(kept);
    assert.equal(await store.revokeUser("ann", "", kept.id), 3);
    assert.deepEqual(idsOf(await listAll(store, { ...ACTIVE, userId: "ann" })), [kept.id]);
    assert.equal(await store.revokeUser("ann", "", kept.id), 0);
    await assertUntouched(store, kept);
  },
  "revoking all sessions but one that is not an active one of the user's revokes none": async (
    t,
  ) => {
    const { store, clock } = t;
    const sessions = await addSessions(store, 2, { userId: "ann" });
    const expired = await addSession(store, { userId: "ann", idleTimeoutMs: 10 });
    const revoked = await addSession(store, { userId: "ann", id: "jti-1" });
    // A user whose name begins alike, in the same partition or not.
    const others = await Promise.all(
      [neighbourOf("ann"), "anna"].map((userId) => addSession(store, { userId })),
    );
    await store.revoke(keyOf(revoked), "");
    clock.advance(10);
    for (const { id } of [expired, revoked, ...others, { id: "no-such-session" }]) {
      assert.equal(await store.revokeUser("ann", "", id), undefined);
    }
    for (const session of [...sessions, ...others]) await assertUntouched(store, session);
    assert.equal(await store.revokeUser("ann", "", sessions[0]?.id), 1);
  },
  "of the excepted session's revocation and its user's that race, either comes first": async (
    t,
  ) => {
    const { store, peer } = t;
    for (let round = 0; round < 10; round++) {
      const userId = `user-${round}`;
      const [kept] = await addSessions(store, 3, { userId });
      assert.ok(kept);
      const revokeKept = async () => {
        await peer.revoke(keyOf(kept), "");
        return peer.count(userId);
      };
      const early = round % 2 === 0 ? revokeKept() : undefined;
      const [revoked, leftOver] = await Promise.all([
        store.revokeUser(userId, "", kept.id),
        early ?? revokeKept(),
      ]);
      // What is left once the excepted one is gone stays: no call may revoke it later.
      assert.equal(revoked, leftOver === 0 ? 2 : undefined);
      assert.equal(await store.count(userId), leftOver);
    }
  },
  "a user's many sessions are revoked at once": async ({ store }) => {
    await addSessions(store, 1_500);
    assert.equal(await store.revokeUser("user", ""), 1_500);
    assert.equal(await store.count(), 0);
    assert.equal((await listAll(store, EVERYTHING)).length, 1_500);
  },
  "racing revocations of a user and of single sessions revoke each session once": async (t) => {
    const { store, peer } = t;
    const sessions = await addSessions(store, 30);
    const [all, again, ...singles] = await Promise.all([
      store.revokeUser("user", "all"),
      peer.revokeUser("user", "all"),
      ...sessions.map((session) => peer.revoke(keyOf(session), "single")),
    ]);
    const revoked = Number(all) + Number(again) + singles.filter(Boolean).length;
    assert.equal(revoked, 30);
    for (const session of await listAll(store, EVERYTHING)) {
      assert.equal(session.version, 2);
      assert.equal(hex(session.tokenHash), "");
    }
  },
  "of a session's creation and its user's revocation that race, either comes first": async (t) => {
    const { store, peer } = t;
    for (let round = 0; round < 10; round++) {
      const userId = `user-${round}`;
      await addSession(store, { userId });
      const [created, revoked] = await Promise.all([
        store.create(newSession({ userId }), NO_LIMIT),
        peer.revokeUser(userId, ""),
      ]);
      const active = idsOf(await listAll(store, { ...ACTIVE, userId }));
      assert.ok(revoked === 1 || revoked === 2, `revoked ${revoked}`);
      assert.deepEqual(active, revoked === 1 ? [created.session.id] : []);
      assert.equal(await store.count(userId), active.length);
    }
  },
};
