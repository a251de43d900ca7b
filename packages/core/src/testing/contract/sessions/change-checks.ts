import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  addSession,
  assertRefused,
  assertSame,
  assertUntouched,
  EVERYTHING,
  elsewhere,
  followEvents,
  hex,
  inspect,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
  othersThan,
  race,
  sweepAll,
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

/** Sealing a record again, which is no change of the session. */
export const resealChecks: SessionStoreChecks = {
  "resealing replaces exactly the record, and is neither a version nor an event": async (t) => {
    const { store, peer, clock } = t;
    const neighbour = await addSession(store);
    const session = await addSession(store, { record: randomBytes(40) });
    clock.advance(10);
    const resealed = randomBytes(90);
    const news = await followEvents(store);
    assert.equal(await store.reseal(keyOf(session), session.record, resealed), true);
    assert.deepEqual(await news(), []);
    await assertUntouched(store, { ...session, record: resealed });
    assert.equal(hex((await peer.get(keyOf(session)))?.record ?? session.record), hex(resealed));
    await assertUntouched(store, neighbour);
    const replaced = await store.replaceRecord(keyOf(session), 1, session.record);
    assert.ok(typeof replaced === "object");
    assert.ok(await store.touch(keyOf(session), session.tokenHash));
  },
  "expired and revoked sessions are resealed too, and stay what they are": async (t) => {
    const { store, clock, retentionMs } = t;
    const revoked = await addSession(store, { id: "jti-1" });
    const expired = await addSession(store);
    await store.revoke(keyOf(revoked), "logout");
    clock.advanceTo(expired.expireTimeMs);
    for (const session of [revoked, expired]) {
      const before = await inspect(store, session);
      assert.ok(before);
      const resealed = randomBytes(50);
      assert.equal(await store.reseal(keyOf(session), before.record, resealed), true);
      await assertUntouched(store, { ...before, record: resealed });
      assert.equal(await store.get(keyOf(session)), undefined);
      assert.equal(await store.touch(keyOf(session), session.tokenHash), undefined);
      assert.equal(await store.replaceRecord(keyOf(session), 1, resealed), undefined);
      assert.equal(await store.revoke(keyOf(session), "again"), false);
    }
    assert.equal(await store.count(), 0);
    const sameId = newSession({ id: "jti-1" });
    await assertRefused("SESSION_ALREADY_EXISTS", store.create(sameId, NO_LIMIT));
    // Nor does it keep them for longer.
    clock.advance(retentionMs);
    assert.equal(await sweepAll(store), 2);
  },
  "a record that is not the session's own is not replaced by resealing": async ({ store }) => {
    const session = await addSession(store, { record: randomBytes(32) });
    const other = await addSession(store);
    for (const wrong of [other.record, session.tokenHash, ...othersThan(session.record)]) {
      assert.equal(await store.reseal(keyOf(session), wrong, randomBytes(50)), false);
    }
    await assertUntouched(store, session);
    const resealed = randomBytes(50);
    assert.equal(await store.reseal(keyOf(session), session.record, resealed), true);
    assert.equal(await store.reseal(keyOf(session), session.record, randomBytes(50)), false);
    await assertUntouched(store, { ...session, record: resealed });
  },
  "resealing what does not exist, or is in another partition, does nothing": async (t) => {
    const { store, clock, retentionMs, leftovers } = t;
    const session = await addSession(store, { userId: "ann", id: "jti-1" });
    const { record } = session;
    assert.equal(await store.reseal(elsewhere(session), record, record), false);
    assert.equal(await store.reseal(newSession().key, new Uint8Array(), record), false);
    await assertUntouched(store, session);
    clock.advanceTo(session.expireTimeMs + retentionMs + 1);
    await sweepAll(store);
    assert.equal(await store.reseal(keyOf(session), record, randomBytes(8)), false);
    assert.equal(await store.reseal(keyOf(session), new Uint8Array(), randomBytes(8)), false);
    assert.deepEqual(await listAll(store, EVERYTHING), []);
    if (leftovers) assert.equal(await leftovers(), 0);
  },
  "of a change and a resealing that race, the change is never lost": async ({ store, peer }) => {
    for (let round = 0; round < 20; round++) {
      const session = await addSession(store);
      const [changed, resealed] = [randomBytes(30), randomBytes(30)];
      const reseal = () => peer.reseal(keyOf(session), session.record, resealed);
      const change = () => store.replaceRecord(keyOf(session), 1, changed);
      await Promise.all(round % 2 ? [reseal(), change()] : [change(), reseal()]);
      await assertUntouched(store, { ...session, record: changed, version: 2 });
    }
  },
};
