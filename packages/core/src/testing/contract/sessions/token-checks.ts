import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  isProof,
  MAX_REPLACED_TOKENS,
  REUSE_EVENT_INTERVAL_MS,
  REUSE_REASON,
  REUSE_TOLERANCE_MS,
} from "../../../sessions/replaced-tokens.js";
import type { SessionStore, StoredSession } from "../../../sessions/session-store.js";
import {
  addSession,
  assertSame,
  assertUntouched,
  eventOf,
  followEvents,
  hex,
  inspect,
  keyOf,
  newSession,
  othersThan,
  race,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

const RACERS = 50;
const GRACE_MS = 5_000;

/** Replaces a session's token. Answers the session with the new one. */
async function rotate(
  store: SessionStore,
  session: StoredSession,
  graceMs?: number,
): Promise<StoredSession> {
  const key = keyOf(session);
  const rotated = await store.rotateToken(key, session.tokenHash, randomBytes(32), graceMs);
  assert.ok(rotated, "a session's own token was refused");
  return rotated;
}

/** Whether a token hash proves an active session, as all calls that take one must agree. */
async function proves(store: SessionStore, of: StoredSession, hash: Uint8Array): Promise<boolean> {
  const session = await store.get(keyOf(of));
  const isProven = session !== undefined && isProof(session, hash, session.readTimeMs);
  assert.equal((await store.touch(keyOf(of), hash)) !== undefined, isProven);
  return isProven;
}

/** Replacing tokens, and what replaced tokens are still good for. */
export const tokenChecks: SessionStoreChecks = {
  "rotating replaces the token, is authentication and activity, and adds a version": async (t) => {
    const { store, clock } = t;
    const session = await addSession(store);
    const other = await addSession(store);
    clock.advance(10);
    const key = keyOf(session);
    for (const wrong of [other.tokenHash, ...othersThan(session.tokenHash)]) {
      assert.equal(await store.rotateToken(key, wrong, randomBytes(32)), undefined);
    }
    await assertUntouched(store, session);
    const tokenHash = randomBytes(32);
    const rotated = await store.rotateToken(key, session.tokenHash, tokenHash);
    const expected = {
      ...session,
      tokenHash,
      version: 2,
      authenticateTimeMs: clock.now(),
      tokenCreateTimeMs: clock.now(),
      lastAccessTimeMs: clock.now(),
      expireTimeMs: clock.now() + session.idleTimeoutMs,
    };
    assertSame(rotated, expected);
    assert.equal(await store.replaceRecord(key, 1, randomBytes(8)), "version_mismatch");
    await assertUntouched(store, expected);
  },
  "after a rotation the old token opens nothing and the new one everything": async ({ store }) => {
    const session = await addSession(store);
    const key = keyOf(session);
    const newHash = randomBytes(32);
    const rotated = await store.rotateToken(key, session.tokenHash, newHash);
    assert.ok(rotated);
    assert.equal(await store.touch(key, session.tokenHash), undefined);
    assert.equal(await store.rotateToken(key, session.tokenHash, randomBytes(32)), undefined);
    assert.equal(await store.revoke(key, "", session.tokenHash), false);
    await assertUntouched(store, rotated);
    assert.ok(await store.touch(key, newHash));
    assert.equal(await store.revoke(key, "", newHash), true);
  },
  "of rotations that race exactly one wins, and its token is the one that counts": async (t) => {
    const session = await addSession(t.store);
    const hashes = Array.from({ length: RACERS }, () => randomBytes(32));
    const answers = await race(t, RACERS, (from, i) =>
      from.rotateToken(keyOf(session), session.tokenHash, hashes[i] ?? session.tokenHash),
    );
    assert.equal(answers.filter((answer) => answer !== undefined).length, 1);
    const winner = hashes[answers.findIndex((answer) => answer !== undefined)];
    const after = await t.store.get(keyOf(session));
    assert.equal(after && hex(after.tokenHash), winner && hex(winner));
    assert.equal(after?.version, 2);
  },
  "a token that is replaced with a grace proves the session until the grace is over": async (t) => {
    const { store, peer, clock } = t;
    const session = await addSession(store);
    clock.advance(10);
    const rotated = await rotate(store, session, GRACE_MS);
    // From time to time, which is no authentication.
    assertSame(rotated, {
      ...session,
      tokenHash: rotated.tokenHash,
      version: 2,
      lastAccessTimeMs: clock.now(),
      tokenCreateTimeMs: clock.now(),
      expireTimeMs: clock.now() + session.idleTimeoutMs,
    });
    clock.advance(GRACE_MS - 1);
    for (const from of [store, peer]) {
      assert.ok(await proves(from, session, session.tokenHash));
      assert.ok(await proves(from, session, rotated.tokenHash));
    }
    for (const wrong of othersThan(session.tokenHash)) {
      assert.equal(await proves(store, session, wrong), false);
    }
    const key = keyOf(session);
    assert.equal(await store.rotateToken(key, session.tokenHash, randomBytes(32)), undefined);
    clock.advance(1);
    assert.equal(await proves(peer, session, session.tokenHash), false);
    assert.equal(await store.revoke(key, "", session.tokenHash), false);
    assert.ok(await proves(store, session, rotated.tokenHash));
  },
  "a replaced token in its grace can end the session, whose tokens then prove nothing": async (
    t,
  ) => {
    const { store } = t;
    const session = await addSession(store);
    const rotated = await rotate(store, session, GRACE_MS);
    assert.equal(await store.revoke(keyOf(session), "logout", session.tokenHash), true);
    for (const { tokenHash } of [session, rotated]) {
      assert.equal(await proves(store, session, tokenHash), false);
      assert.equal(await store.revoke(keyOf(session), "", tokenHash), false);
      assert.equal(await store.rotateToken(keyOf(session), tokenHash, tokenHash), undefined);
    }
    const { replacedTokens } = (await inspect(store, session)) ?? {};
    assert.equal(replacedTokens?.length, 0);
  },
  "a grace ends with a rotation that has none, and with a change that says so": async (t) => {
    const { store, clock } = t;
    const enders: readonly (readonly [boolean, (s: StoredSession) => Promise<unknown>])[] = [
      [true, (s) => rotate(store, s)],
      [true, (s) => store.replaceRecord(keyOf(s), 3, s.record, undefined, true)],
      [false, (s) => rotate(store, s, 1)],
      [false, (s) => store.replaceRecord(keyOf(s), 3, s.record)],
    ];
    for (const [ends, change] of enders) {
      const first = await addSession(store);
      const second = await rotate(store, first, GRACE_MS);
      const third = await rotate(store, second, GRACE_MS);
      clock.advance(1);
      assert.ok(await change(third));
      for (const { tokenHash } of [first, second]) {
        assert.equal(await proves(store, first, tokenHash), !ends);
      }
    }
  },
  "a token whose grace was none, or was ended early, proves nothing when the clock is set back":
    async (t) => {
      const { store, peer, clock } = t;
      const enders: readonly ((s: StoredSession) => Promise<unknown>)[] = [
        (s) => rotate(store, s),
        (s) => store.replaceRecord(keyOf(s), 2, s.record, undefined, true),
      ];
      for (const endGraces of enders) {
        const session = await addSession(store);
        clock.advance(GRACE_MS);
        const rotated = await rotate(store, session, GRACE_MS);
        clock.advance(2);
        await endGraces(rotated);
        clock.stepBack(1);
        for (const from of [store, peer]) {
          assert.equal(await proves(from, session, session.tokenHash), false);
        }
      }
      const session = await addSession(store);
      clock.advance(1);
      const rotated = await rotate(store, session);
      clock.stepBack(1);
      assert.equal(await proves(store, session, session.tokenHash), false);
      assert.ok(await proves(store, session, rotated.tokenHash));
    },
  "rotations that race over a token with a grace have one winner, and lose no session": async (
    t,
  ) => {
    const session = await addSession(t.store);
    const answers = await race(t, RACERS, (from) =>
      from.rotateToken(keyOf(session), session.tokenHash, randomBytes(32), GRACE_MS),
    );
    const winners = answers.filter((answer) => answer !== undefined);
    assert.equal(winners.length, 1);
    assert.ok(await proves(t.peer, session, session.tokenHash));
    assert.ok(await proves(t.peer, session, winners[0]?.tokenHash ?? session.tokenHash));
  },
};

/** Replaced tokens that are presented after their time. */
export const reuseChecks: SessionStoreChecks = {
  "a replaced token that is presented after its grace is an event, once a minute": async (t) => {
    const { store, peer, clock } = t;
    const session = await addSession(store, { idleTimeoutMs: 10 * REUSE_EVENT_INTERVAL_MS });
    const rotated = await rotate(store, session, GRACE_MS);
    const news = await followEvents(store);
    const report = (from = store) => from.reportReuse(keyOf(session), session.tokenHash, false);
    clock.advance(GRACE_MS - 1);
    await report();
    assert.deepEqual(await news(), []);
    clock.advance(1);
    await Promise.all([report(), report(peer), report()]);
    const firstMs = clock.now();
    assert.deepEqual(await news(), [eventOf("token_reused", session, 3, firstMs)]);
    await assertUntouched(store, { ...rotated, version: 3 });
    clock.advance(REUSE_EVENT_INTERVAL_MS - 1);
    await report(peer);
    assert.deepEqual(await news(), []);
    clock.advance(1);
    await report(peer);
    assert.deepEqual(await news(), [eventOf("token_reused", session, 4, clock.now())]);
    await assertUntouched(peer, { ...rotated, version: 4 });
  },
  "a reuse ends the session if it is asked for, once the token's grace is over for long": async (
    t,
  ) => {
    const { store, clock } = t;
    for (const [graceMs, isRotatedAgain] of [[0], [GRACE_MS], [GRACE_MS, true]] as const) {
      const session = await addSession(store, { userId: `${graceMs}-${isRotatedAgain}` });
      let rotated = await rotate(store, session, graceMs);
      clock.advance(graceMs);
      if (isRotatedAgain) rotated = await rotate(store, rotated);
      const { version } = rotated;
      const news = await followEvents(store);
      const report = () => store.reportReuse(keyOf(session), session.tokenHash, true);
      clock.advance(REUSE_TOLERANCE_MS);
      assert.equal(await report(), false);
      await assertUntouched(store, { ...rotated, version: version + 1 });
      const reused = eventOf("token_reused", session, version + 1, clock.now());
      clock.advance(1);
      assert.equal(await report(), true);
      const revoked = eventOf("revoked", session, version + 2, clock.now(), REUSE_REASON);
      assert.deepEqual(await news(), [reused, revoked]);
      assert.equal(await store.get(keyOf(session)), undefined);
      const { revokeReason } = (await inspect(store, session)) ?? {};
      assert.equal(revokeReason, REUSE_REASON);
      assert.equal(await report(), false);
      assert.deepEqual(await news(), []);
    }
  },
  "a token whose grace was ended early is replaced from then on": async ({ store, clock }) => {
    const session = await addSession(store);
    const second = await rotate(store, session, 10 * REUSE_TOLERANCE_MS);
    clock.advance(REUSE_TOLERANCE_MS);
    const third = await rotate(store, second);
    clock.advance(REUSE_TOLERANCE_MS);
    const report = () => store.reportReuse(keyOf(session), session.tokenHash, true);
    await report();
    assert.ok(await proves(store, session, third.tokenHash));
    clock.advance(1);
    await report();
    assert.equal(await store.get(keyOf(session)), undefined);
  },
  "a report of a token that was never the session's, or still is, changes nothing": async (t) => {
    const { store, clock } = t;
    const session = await rotate(store, await addSession(store));
    const other = await addSession(store);
    const stranger = await rotate(store, other);
    const news = await followEvents(store);
    clock.advance(REUSE_TOLERANCE_MS + 1);
    for (const hash of [session.tokenHash, other.tokenHash, ...othersThan(session.tokenHash)]) {
      await store.reportReuse(keyOf(session), hash, true);
    }
    await store.reportReuse(newSession().key, session.tokenHash, true);
    clock.advanceTo(session.expireTimeMs);
    await store.reportReuse(keyOf(stranger), other.tokenHash, true);
    assert.deepEqual(await news(), []);
    await assertUntouched(store, session);
  },
  "a session remembers its newest replaced tokens, in bounded space": async ({ store, clock }) => {
    const idleTimeoutMs = 100 * REUSE_EVENT_INTERVAL_MS;
    let session: StoredSession = await addSession(store, {
      idleTimeoutMs,
      lifetimeMs: idleTimeoutMs,
    });
    const replaced: StoredSession[] = [];
    const sizes = new Set<number>();
    for (let i = 0; i < 3 * MAX_REPLACED_TOKENS; i++) {
      replaced.push(session);
      session = await rotate(store, session, i % 2);
      if (i >= MAX_REPLACED_TOKENS) sizes.add(session.replacedTokens.length);
    }
    assert.equal(sizes.size, 1);
    const news = await followEvents(store);
    let remembered = 0;
    for (const { tokenHash } of replaced) {
      clock.advance(REUSE_EVENT_INTERVAL_MS);
      await store.reportReuse(keyOf(session), tokenHash, false);
      remembered += (await news()).length;
    }
    assert.equal(remembered, MAX_REPLACED_TOKENS);
  },
};
