import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  EVICTION_REASON,
  type SessionLimit,
  type SessionStore,
} from "../../../sessions/session-store.js";
import { bySession, eventOf, followEvents } from "./event-fixtures.js";
import {
  addSession,
  addSessions,
  assertRefused,
  byCreation,
  inspect,
  keyOf,
  NO_LIMIT,
  newSession,
} from "./fixtures.js";
import type { SessionStoreCheck } from "./session-store-check.js";

const RACERS = 60;
const EVICT_BEYOND_THREE: SessionLimit = { maxSessionsPerUser: 3, policy: "evict_oldest" };
const REJECT_BEYOND_ONE: SessionLimit = { maxSessionsPerUser: 1, policy: "reject" };

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
export const eventChecks: readonly SessionStoreCheck[] = [
  {
    title: "each change of a session is an event with its version, time and reason, in order",
    async run({ store, clock }) {
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
  },
  {
    title:
      "the events of an eviction come with the creation that caused it, the evicted ones first",
    async run({ store, clock }) {
      const own = (await addSessions(store, 4)).toSorted(byCreation);
      await addSession(store, { userId: "ann" });
      const news = await followEvents(store);
      clock.advance(7);
      const { session } = await store.create(newSession(), EVICT_BEYOND_THREE);
      assert.deepEqual(await news(), [
        ...own.slice(0, 2).map((old) => eventOf("evicted", old, 2, clock.now(), EVICTION_REASON)),
        eventOf("created", session, 1, clock.now()),
      ]);
    },
  },
  {
    title: "at no place in the log does a user have more sessions than the limit",
    async run({ store, peer }) {
      const news = await followEvents(store);
      await Promise.all(
        Array.from({ length: RACERS }, (_, i) =>
          (i % 2 ? store : peer).create(newSession(), EVICT_BEYOND_THREE),
        ),
      );
      const events = await news();
      const active = new Set<string>();
      for (const { type, sessionId } of events) {
        if (type === "created") active.add(sessionId);
        else assert.ok(active.delete(sessionId), "evicted before it was created, or twice");
        assert.ok(active.size <= EVICT_BEYOND_THREE.maxSessionsPerUser);
      }
      assert.equal(events.length, RACERS + RACERS - EVICT_BEYOND_THREE.maxSessionsPerUser);
    },
  },
  {
    title: "revoking a user's sessions is an event for each of them, and none for the one spared",
    async run({ store, clock }) {
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
  },
  {
    title: "touches, reads and natural expiry are no events",
    async run({ store, clock }) {
      const session = await addSession(store);
      const news = await followEvents(store);
      clock.advance(10);
      assert.ok(await store.touch(keyOf(session)));
      assert.ok(await store.touch(keyOf(session), session.tokenHash));
      assert.ok(await store.get(keyOf(session)));
      clock.advance(session.idleTimeoutMs);
      assert.equal(await store.get(keyOf(session)), undefined);
      await store.sweep(10);
      assert.deepEqual(await news(), []);
    },
  },
  {
    title: "a change that fails is no event",
    async run({ store, clock }) {
      const session = await addSession(store, { id: "jti-1" });
      const revoked = await addSession(store, { userId: "ann" });
      const expired = await addSession(store, { userId: "bob", idleTimeoutMs: 1_000 });
      const unknown = newSession().key;
      const hash = randomBytes(32);
      await store.revoke(keyOf(revoked), "logout");
      clock.advance(1_000);
      const news = await followEvents(store);
      assert.equal(await store.replaceRecord(keyOf(session), 2, hash), "version_mismatch");
      assert.equal(await store.rotateToken(keyOf(session), hash, hash), undefined);
      assert.equal(await store.revoke(keyOf(session), "", hash), false);
      for (const key of [keyOf(revoked), keyOf(expired), unknown]) {
        assert.equal(await store.replaceRecord(key, 1, hash), undefined);
        assert.equal(await store.rotateToken(key, expired.tokenHash, hash), undefined);
        assert.equal(await store.revoke(key, "again"), false);
      }
      for (const userId of ["ann", "bob"]) assert.equal(await store.revokeUser(userId, ""), 0);
      for (const userId of ["user", "carol"]) {
        const taken = newSession({ userId, id: "jti-1" });
        await assertRefused("SESSION_ALREADY_EXISTS", store.create(taken, NO_LIMIT));
      }
      const beyond = store.create(newSession({ id: "jti-2" }), REJECT_BEYOND_ONE);
      await assertRefused("SESSION_LIMIT_REACHED", beyond);
      assert.deepEqual(await news(), []);
    },
  },
  {
    title: "events name any user, and give any reason, as it is",
    async run({ store }) {
      const texts = ["", "{}", "a:b", "a b", "line\nbreak\r\n", "nul\0inside", '"\\', "\u{1f510}"];
      const userIds = ["{00}", "a b", "'; --", "\u7ba1\u7406\u5458", "\u{10ffff}".repeat(64)];
      const news = await followEvents(store);
      for (const reason of texts) {
        const session = await addSession(store);
        await store.revoke(keyOf(session), reason);
        assert.equal((await news()).at(-1)?.reason, reason);
        await addSession(store);
        await store.revokeUser("user", reason);
        assert.equal((await news()).at(-1)?.reason, reason);
      }
      for (const userId of userIds) {
        const { id } = await addSession(store, { userId });
        const [event, ...others] = await news();
        assert.deepEqual([event?.userId, event?.sessionId, others], [userId, id, []]);
      }
    },
  },
  {
    title: "changes of one session by several servers at once are events without a gap in versions",
    async run({ store, peer, clock }) {
      const news = await followEvents(store);
      const session = await addSession(store);
      const rotate = (from: SessionStore) =>
        from.rotateToken(keyOf(session), session.tokenHash, randomBytes(32));
      await Promise.all([
        ...Array.from({ length: 10 }, (_, i) => change(i % 2 ? store : peer, session)),
        rotate(store),
        rotate(peer),
        store.touch(keyOf(session)),
        peer.touch(keyOf(session)),
      ]);
      const revoked = await Promise.all([store, peer].map((one) => one.revoke(keyOf(session), "")));
      assert.deepEqual(revoked.toSorted(), [false, true]);

      const events = await news();
      assert.deepEqual(
        events.map(({ version }) => version),
        Array.from({ length: 13 }, (_, i) => i + 1),
      );
      assert.equal((await inspect(store, session))?.version, 13);
      const count = (type: string) => events.filter((event) => event.type === type).length;
      assert.deepEqual([count("updated"), count("token_rotated")], [10, 1]);
      assert.equal(events.at(-1)?.type, "revoked");
      assert.ok(events.every(({ timeMs }) => timeMs === clock.now()));
    },
  },
];
