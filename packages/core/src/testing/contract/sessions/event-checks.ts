import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { EVICTION_REASON, type SessionStore } from "../../../sessions/session-store.js";
import {
  addSession,
  addSessions,
  assertRefused,
  byCreation,
  bySession,
  eventOf,
  evictBeyond,
  followEvents,
  inspect,
  keyOf,
  NO_LIMIT,
  newSession,
  race,
  rejectBeyond,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

const RACERS = 60;
const MAX_SESSIONS = 3;
/** Texts that have tripped up key patterns, SQL, Lua, or text encodings. */
const REASONS = [
  ...["", "logout", '{}:*\\"%s', "a b", "line\nbreak\ttab\r\n", "nul\0inside", "x".repeat(256)],
  ...["'; DROP TABLE sessions; --", "\u7ba1\u7406\u5458 \u{1f510} d\u00e9connect\u00e9"],
];
const USER_IDS = ["{00}", "a b", "'; --", "\u7ba1\u7406\u5458", "\u{10ffff}".repeat(64)];

/** Replaces the record at whatever version the session has. Answers whether it was active. */
async function change(store: SessionStore, session: { id: string; userId: string }) {
  for (;;) {
    const current = await store.get(keyOf(session));
    if (current === undefined) return false;
    const replaced = await store.replaceRecord(keyOf(session), current.version, randomBytes(8));
    if (typeof replaced === "object") return true;
  }
}

/** What changes append to the log, and what appends nothing. */
export const eventChecks: SessionStoreChecks = {
  "each change of a session is an event with its version, time and reason, in order": async (t) => {
    const { store, clock } = t;
    const news = await followEvents(store);
    const session = await addSession(store, { userId: "ann" });
    const createdAtMs = clock.now();
    assert.deepEqual(await news(), [eventOf("created", session, 1, createdAtMs)]);
    clock.advance(5);
    await store.replaceRecord(keyOf(session), 1, randomBytes(8));
    clock.advance(5);
    await store.rotateToken(keyOf(session), session.tokenHash, randomBytes(32));
    clock.advance(5);
    await store.replaceRecord(keyOf(session), 3, randomBytes(8));
    clock.advance(5);
    await store.revoke(keyOf(session), "logout");
    assert.deepEqual(await news(), [
      eventOf("updated", session, 2, createdAtMs + 5),
      eventOf("token_rotated", session, 3, createdAtMs + 10),
      eventOf("updated", session, 4, createdAtMs + 15),
      eventOf("revoked", session, 5, createdAtMs + 20, "logout"),
    ]);
    assert.deepEqual(await news(), []);
  },
  "the events of an eviction come with the creation that caused it, the evicted ones first":
    async ({ store, clock }) => {
      const own = (await addSessions(store, 4)).toSorted(byCreation);
      await addSession(store, { userId: "ann" });
      const news = await followEvents(store);
      clock.advance(7);
      const { session } = await store.create(newSession(), evictBeyond(MAX_SESSIONS));
      assert.deepEqual(await news(), [
        ...own.slice(0, 2).map((old) => eventOf("evicted", old, 2, clock.now(), EVICTION_REASON)),
        eventOf("created", session, 1, clock.now()),
      ]);
    },
  "nowhere in the log does a user have more sessions than the limit": async (context) => {
    const news = await followEvents(context.store);
    await race(context, RACERS, (from) => from.create(newSession(), evictBeyond(MAX_SESSIONS)));
    const events = await news();
    const active = new Set<string>();
    for (const { type, sessionId } of events) {
      if (type === "created") active.add(sessionId);
      else assert.ok(active.delete(sessionId), "evicted before it was created, or twice");
      assert.ok(active.size <= MAX_SESSIONS);
    }
    assert.equal(events.length, RACERS + RACERS - MAX_SESSIONS);
  },
  "revoking a user's sessions is an event for each, and none for the one spared": async (t) => {
    const { store, clock } = t;
    const own = await addSessions(store, 5, { userId: "ann" });
    const [spared, revokedBefore, ...others] = own;
    assert.ok(spared && revokedBefore);
    await addSession(store, { userId: "bob" });
    await store.revoke(keyOf(revokedBefore), "logout");
    const news = await followEvents(store);
    clock.advance(3);
    await store.revokeUser("ann", "password changed", spared.id);
    const events = bySession(await news());
    assert.equal(events.size, others.length);
    for (const session of others) {
      const expected = eventOf("revoked", session, 2, clock.now(), "password changed");
      assert.deepEqual(events.get(session.id), [expected]);
    }
    await store.revokeUser("ann", "all");
    assert.deepEqual(await news(), [eventOf("revoked", spared, 2, clock.now(), "all")]);
    await store.revokeUser("ann", "all");
    assert.deepEqual(await news(), []);
  },
  "touches, reads, natural expiry and changes that fail are no events": async (t) => {
    const { store, clock } = t;
    const session = await addSession(store, { id: "jti-1" });
    const revoked = await addSession(store, { userId: "ann" });
    const expired = await addSession(store, { userId: "bob", idleTimeoutMs: 1_000 });
    const hash = randomBytes(32);
    await store.revoke(keyOf(revoked), "logout");
    clock.advance(999);
    const news = await followEvents(store);
    assert.ok(await store.touch(keyOf(session), session.tokenHash));
    assert.ok(await store.get(keyOf(session)));
    clock.advance(1);
    assert.equal(await store.get(keyOf(expired)), undefined);
    await store.sweep(10);
    assert.equal(await store.replaceRecord(keyOf(session), 2, hash), "version_mismatch");
    assert.equal(await store.rotateToken(keyOf(session), hash, hash), undefined);
    assert.equal(await store.revoke(keyOf(session), "", hash), false);
    for (const key of [keyOf(revoked), keyOf(expired), newSession().key]) {
      assert.equal(await store.replaceRecord(key, 1, hash), undefined);
      assert.equal(await store.rotateToken(key, expired.tokenHash, hash), undefined);
      assert.equal(await store.revoke(key, "again"), false);
    }
    for (const userId of ["ann", "bob"]) assert.equal(await store.revokeUser(userId, ""), 0);
    for (const userId of ["user", "carol"]) {
      const taken = newSession({ userId, id: "jti-1" });
      await assertRefused("SESSION_ALREADY_EXISTS", store.create(taken, NO_LIMIT));
    }
    const beyond = store.create(newSession({ id: "jti-2" }), rejectBeyond(1));
    await assertRefused("SESSION_LIMIT_REACHED", beyond);
    assert.deepEqual(await news(), []);
  },
  "reasons and user ids may be any text, and sessions and events give them back as they were":
    async ({ store }) => {
      const news = await followEvents(store);
      for (const reason of REASONS) {
        const one = await addSession(store);
        await store.revoke(keyOf(one), reason);
        const other = await addSession(store);
        await store.revokeUser("user", reason);
        for (const session of [one, other]) {
          assert.equal((await inspect(store, session))?.revokeReason, reason);
        }
        const told = (await news()).filter(({ type }) => type === "revoked");
        assert.deepEqual([told[0]?.reason, told[1]?.reason, told.length], [reason, reason, 2]);
      }
      for (const userId of USER_IDS) {
        const { id } = await addSession(store, { userId });
        const [event, ...others] = await news();
        assert.deepEqual([event?.userId, event?.sessionId, others], [userId, id, []]);
      }
    },
  "changes of one session by several servers are events without a gap in versions": async (t) => {
    const { store, peer, clock } = t;
    const news = await followEvents(store);
    const session = await addSession(store);
    const key = keyOf(session);
    await Promise.all([
      race(t, 10, (from) => change(from, session)),
      race(t, 2, (from) => from.rotateToken(key, session.tokenHash, randomBytes(32))),
      race(t, 2, (from) => from.touch(key)),
    ]);
    const revoked = await Promise.all([store, peer].map((one) => one.revoke(key, "")));
    assert.deepEqual(revoked.toSorted(), [false, true]);

    const events = await news();
    const versions = events.map(({ version }) => version);
    assert.deepEqual(versions, [...Array(14).keys()].slice(1));
    assert.equal((await inspect(store, session))?.version, 13);
    const count = (type: string) => events.filter((event) => event.type === type).length;
    assert.deepEqual([count("updated"), count("token_rotated")], [10, 1]);
    assert.equal(events.at(-1)?.type, "revoked");
    assert.ok(events.every(({ timeMs }) => timeMs === clock.now()));
  },
};
