import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { followEvents } from "./event-fixtures.js";
import {
  addSession,
  assertRefused,
  assertUntouched,
  EVERYTHING,
  elsewhere,
  hex,
  inspect,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
  othersThan,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

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
