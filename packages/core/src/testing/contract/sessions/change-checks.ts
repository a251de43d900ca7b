import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  addSession,
  assertSame,
  assertUntouched,
  hex,
  keyOf,
  othersThan,
  race,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

const RACERS = 50;

/** Tokens, contents and versions. */
export const changeChecks: SessionStoreChecks = {
  "touching by a token hash works with the session's own and no other": async (t) => {
    const { store, clock } = t;
    const session = await addSession(store);
    const other = await addSession(store);
    clock.advance(10);
    for (const wrong of [other.tokenHash, ...othersThan(session.tokenHash)]) {
      assert.equal(await store.touch(keyOf(session), wrong), undefined);
    }
    await assertUntouched(store, session);
    assert.ok(await store.touch(keyOf(session), session.tokenHash));
  },
  "a touch answers the record, unless its caller knows the session's version": async (t) => {
    const { store } = t;
    const session = await addSession(store);
    const record = randomBytes(80);
    await store.replaceRecord(keyOf(session), 1, record);
    for (const known of [undefined, 1, 3]) {
      const touched = await store.touch(keyOf(session), session.tokenHash, known);
      assert.equal(touched?.record && hex(touched.record), hex(record));
    }
    const touched = await store.touch(keyOf(session), session.tokenHash, 2);
    assertSame(touched, { ...session, record, version: 2 });
  },
  "the record is replaced at its version, which grows by one, and at no other": async (t) => {
    const { store } = t;
    const session = await addSession(store);
    const record = randomBytes(80);
    const replaced = await store.replaceRecord(keyOf(session), 1, record);
    assert.ok(typeof replaced === "object");
    assertSame(replaced, { ...session, record, version: 2 });
    await assertUntouched(store, { ...session, record, version: 2 });
    for (const version of [0, 1, 3]) {
      const answer = await store.replaceRecord(keyOf(session), version, randomBytes(8));
      assert.equal(answer, "version_mismatch");
    }
    await assertUntouched(store, { ...session, record, version: 2 });
    const again = await store.replaceRecord(keyOf(session), 2, session.record);
    assert.ok(typeof again === "object");
    assertSame(again, { ...session, version: 3 });
  },
  "of changes that race at one version exactly one wins": async (context) => {
    const { store } = context;
    const session = await addSession(store);
    const records = Array.from({ length: RACERS }, () => randomBytes(16));
    const answers = await race(context, RACERS, (from, i) =>
      from.replaceRecord(keyOf(session), 1, records[i] ?? session.record),
    );
    const mismatches = answers.filter((answer) => answer === "version_mismatch");
    assert.equal(mismatches.length, RACERS - 1);
    const record = records[answers.findIndex((answer) => typeof answer === "object")];
    await assertUntouched(store, { ...session, record: record ?? session.record, version: 2 });
  },
  "touching does not get in the way of a change, nor a change of a touch": async (t) => {
    const { store, clock } = t;
    const session = await addSession(store);
    clock.advance(10);
    const record = randomBytes(16);
    const [, replaced] = await Promise.all([
      store.touch(keyOf(session)),
      store.replaceRecord(keyOf(session), 1, record),
      store.touch(keyOf(session)),
    ]);
    assert.ok(typeof replaced === "object");
    await assertUntouched(store, {
      ...session,
      record,
      version: 2,
      lastAccessTimeMs: clock.now(),
      expireTimeMs: clock.now() + session.idleTimeoutMs,
    });
  },
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
  "a change of one session leaves all others alone": async ({ store, clock }) => {
    const users = ["user", "bob", "carol"];
    const neighbours = await Promise.all(users.map((userId) => addSession(store, { userId })));
    const session = await addSession(store);
    clock.advance(10);
    const newHash = randomBytes(32);
    await store.touch(keyOf(session), session.tokenHash);
    await store.replaceRecord(keyOf(session), 1, randomBytes(8));
    await store.rotateToken(keyOf(session), session.tokenHash, newHash);
    await store.revoke(keyOf(session), "", newHash);
    for (const neighbour of neighbours) await assertUntouched(store, neighbour);
  },
};
