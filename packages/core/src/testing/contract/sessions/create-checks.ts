import assert from "node:assert/strict";
import { partitionOfUser } from "../../../sessions/session-id.js";
import { EVICTION_REASON, type SessionLimit } from "../../../sessions/session-store.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  assertRefused,
  assertSame,
  assertUntouched,
  byCreation,
  EVERYTHING,
  idsOf,
  inspect,
  keyOf,
  listAll,
  newSession,
} from "./fixtures.js";
import type { SessionStoreCheck } from "./session-store-check.js";

const RACERS = 1_000;

function evictBeyond(maxSessionsPerUser: number): SessionLimit {
  return { maxSessionsPerUser, policy: "evict_oldest" };
}

function rejectBeyond(maxSessionsPerUser: number): SessionLimit {
  return { maxSessionsPerUser, policy: "reject" };
}

/** Creation, the ids that are taken, and the limit. */
export const createChecks: readonly SessionStoreCheck[] = [
  {
    title: "a created session is answered, and read back, as it was given",
    async run({ store, clock }) {
      const given = newSession({ userId: "ann" });
      const { session, evictedIds } = await store.create(given, evictBeyond(10));
      assert.deepEqual(evictedIds, []);
      assert.equal(session.id, given.key.id);
      assert.equal(session.userId, "ann");
      assert.equal(session.version, 1);
      assert.equal(session.readTimeMs, clock.now());
      assert.equal(session.revokeTimeMs, undefined);
      assert.equal(session.revokeReason, undefined);
      const { record, tokenHash } = given;
      assertSame(await store.get(given.key), { ...session, record, tokenHash });
    },
  },
  {
    title: "a new session's times are now, and its deadlines follow from its timeouts",
    async run({ store, clock }) {
      clock.advance(1234);
      const nowMs = clock.now();
      const session = await addSession(store, { idleTimeoutMs: 60_000, lifetimeMs: 600_000 });
      assert.equal(session.createTimeMs, nowMs);
      assert.equal(session.authenticateTimeMs, nowMs);
      assert.equal(session.lastAccessTimeMs, nowMs);
      assert.equal(session.idleTimeoutMs, 60_000);
      assert.equal(session.expireTimeMs, nowMs + 60_000);
      assert.equal(session.absoluteExpireTimeMs, nowMs + 600_000);
    },
  },
  {
    title: "a lifetime shorter than the idle timeout is the first deadline",
    async run({ store, clock }) {
      const session = await addSession(store, { idleTimeoutMs: 60_000, lifetimeMs: 59_999 });
      assert.equal(session.expireTimeMs, clock.now() + 59_999);
      assert.equal(session.absoluteExpireTimeMs, clock.now() + 59_999);
    },
  },
  {
    title: "an id that is taken is refused to its own user and to others",
    async run({ store }) {
      const first = await addSession(store, { userId: "ann", id: "jti-1" });
      for (const userId of ["ann", "bob", "carol"]) {
        const again = newSession({ userId, id: "jti-1" });
        await assertRefused("SESSION_ALREADY_EXISTS", store.create(again, evictBeyond(10)));
      }
      await assertUntouched(store, first);
      assert.equal(await store.count(), 1);
      assert.deepEqual(idsOf(await listAll(store, EVERYTHING)), ["jti-1"]);
    },
  },
  {
    title: "a generated id that is taken is refused",
    async run({ store }) {
      const first = await addSession(store, { userId: "ann" });
      const again = newSession({ userId: "ann", id: first.id });
      await assertRefused("SESSION_ALREADY_EXISTS", store.create(again, evictBeyond(10)));
      await assertUntouched(store, first);
    },
  },
  {
    title: "a taken id is refused before anyone is evicted for it",
    async run({ store }) {
      await addSession(store, { userId: "ann", id: "jti-1" });
      const bobs = await addSession(store, { userId: "bob" });
      const attempt = newSession({ userId: "bob", id: "jti-1" });
      await assertRefused("SESSION_ALREADY_EXISTS", store.create(attempt, evictBeyond(1)));
      await assertRefused("SESSION_ALREADY_EXISTS", store.create(attempt, rejectBeyond(1)));
      await assertUntouched(store, bobs);
      assert.equal(await store.count("bob"), 1);
    },
  },
  {
    title:
      "of users who choose the same id at once exactly one gets it, and no other loses anything",
    async run({ store, peer }) {
      const users = Array.from({ length: 64 }, (_, i) => `user-${i}`);
      const before = await Promise.all(users.map((userId) => addSession(store, { userId })));
      const outcomes = await Promise.allSettled(
        users.map((userId, i) =>
          (i % 2 ? store : peer).create(newSession({ userId, id: "jti-1" }), evictBeyond(1)),
        ),
      );
      const winners = users.filter((_, i) => outcomes[i]?.status === "fulfilled");
      assert.equal(winners.length, 1, `${winners.length} users got the id`);
      for (const outcome of outcomes) {
        if (outcome.status === "rejected") {
          await assertRefused("SESSION_ALREADY_EXISTS", Promise.reject(outcome.reason));
        }
      }
      for (const [i, userId] of users.entries()) {
        const own = before[i];
        assert.ok(own);
        const active = idsOf(await listAll(store, { ...ACTIVE, userId }));
        assert.deepEqual(active, winners.includes(userId) ? ["jti-1"] : [own.id]);
      }
      assert.equal(await store.partitionOf("jti-1"), partitionOfUser(winners[0] ?? ""));
    },
  },
  {
    title: "below the limit nobody is evicted, at it the oldest session is",
    async run({ store, clock }) {
      const first = await addSession(store, {}, evictBeyond(3));
      clock.advance(1);
      const second = await addSession(store, {}, evictBeyond(3));
      clock.advance(1);
      const third = await store.create(newSession(), evictBeyond(3));
      assert.deepEqual(third.evictedIds, []);
      clock.advance(1);
      const fourth = await store.create(newSession(), evictBeyond(3));
      assert.deepEqual(fourth.evictedIds, [first.id]);
      assert.deepEqual(
        idsOf(await listAll(store, ACTIVE)),
        idsOf([second, third.session, fourth.session]),
      );
      assert.equal(await store.get(keyOf(first)), undefined);
    },
  },
  {
    title: "the oldest session goes, not the one that was used longest ago",
    async run({ store, clock }) {
      const first = await addSession(store);
      clock.advance(1);
      const second = await addSession(store);
      clock.advance(1);
      await store.touch(keyOf(first));
      await store.rotateToken(keyOf(first), first.tokenHash, second.tokenHash);
      const { evictedIds } = await store.create(newSession(), evictBeyond(2));
      assert.deepEqual(evictedIds, [first.id]);
    },
  },
  {
    title: "among sessions created at the same moment the one with the least id goes first",
    async run({ store }) {
      const sessions = await addSessions(store, 5);
      const { evictedIds } = await store.create(newSession(), evictBeyond(4));
      assert.deepEqual([...evictedIds], idsOf(sessions.toSorted(byCreation)).slice(0, 2));
    },
  },
  {
    title: "a lowered limit evicts as many as are too many, the oldest first",
    async run({ store, clock }) {
      const sessions = [];
      for (let i = 0; i < 7; i++) {
        sessions.push(await addSession(store));
        clock.advance(1);
      }
      const { session, evictedIds } = await store.create(newSession(), evictBeyond(3));
      assert.deepEqual([...evictedIds], idsOf(sessions.slice(0, 5)));
      const active = await listAll(store, ACTIVE);
      assert.deepEqual(idsOf(active), idsOf([...sessions.slice(5), session]));
    },
  },
  {
    title: "an evicted session is revoked, for the reason of eviction",
    async run({ store, clock }) {
      const old = await addSession(store);
      clock.advance(5);
      await store.create(newSession(), evictBeyond(1));
      const evicted = await inspect(store, old);
      assert.equal(evicted?.revokeTimeMs, clock.now());
      assert.equal(evicted.revokeReason, EVICTION_REASON);
      assert.equal(evicted.version, 2);
      assert.equal(evicted.tokenHash.length, 0);
      assert.equal(await store.touch(keyOf(old), old.tokenHash), undefined);
    },
  },
  {
    title: "under the policy reject a session beyond the limit is refused and nothing changes",
    async run({ store }) {
      const own = [await addSession(store), await addSession(store)];
      const refused = newSession({ id: "jti-1" });
      await assertRefused("SESSION_LIMIT_REACHED", store.create(refused, rejectBeyond(2)));
      assert.deepEqual(idsOf(await listAll(store, EVERYTHING)), idsOf(own.toSorted(byCreation)));
      for (const session of own) await assertUntouched(store, session);
      assert.equal(await store.count(), 2);
    },
  },
  {
    title: "an id is free again after its creation was refused by the limit",
    async run({ store }) {
      await addSession(store, { userId: "ann" });
      const refused = newSession({ userId: "ann", id: "jti-1" });
      await assertRefused("SESSION_LIMIT_REACHED", store.create(refused, rejectBeyond(1)));
      assert.equal(await store.partitionOf("jti-1"), undefined);
      await addSession(store, { userId: "bob", id: "jti-1" });
      assert.equal(await store.partitionOf("jti-1"), partitionOfUser("bob"));
    },
  },
  {
    title: "expired and revoked sessions take no place under the limit",
    async run({ store, clock }) {
      await addSession(store, { idleTimeoutMs: 1_000 });
      const revoked = await addSession(store);
      await store.revoke(keyOf(revoked), "");
      const kept = await addSession(store);
      clock.advance(1_000);
      await store.create(newSession(), rejectBeyond(2));
      await assertRefused("SESSION_LIMIT_REACHED", store.create(newSession(), rejectBeyond(2)));
      clock.advance(1);
      const { evictedIds } = await store.create(newSession(), evictBeyond(3));
      assert.deepEqual(evictedIds, []);
      const next = await store.create(newSession(), evictBeyond(3));
      assert.equal(next.evictedIds.length, 1);
      assert.ok((await store.count()) === 3 && kept);
    },
  },
  {
    title: "a session takes its place under the limit until its deadline",
    async run({ store, clock }) {
      const { expireTimeMs } = await addSession(store);
      clock.advanceTo(expireTimeMs - 1);
      await assertRefused("SESSION_LIMIT_REACHED", store.create(newSession(), rejectBeyond(1)));
      clock.advanceTo(expireTimeMs);
      await store.create(newSession(), rejectBeyond(1));
    },
  },
  {
    title: "the limit is each user's own",
    async run({ store }) {
      await addSession(store, { userId: "ann" });
      const { evictedIds } = await store.create(newSession({ userId: "bob" }), evictBeyond(1));
      assert.deepEqual(evictedIds, []);
      assert.equal(await store.count(), 2);
    },
  },
  {
    title: "a thousand concurrent creates leave exactly the limit, in count and in list",
    async run({ store, peer }) {
      const results = await Promise.all(
        Array.from({ length: RACERS }, (_, i) =>
          (i % 2 ? store : peer).create(newSession(), evictBeyond(10)),
        ),
      );
      const evicted = results.flatMap(({ evictedIds }) => evictedIds);
      const active = await listAll(store, ACTIVE);
      assert.equal(await store.count("user"), 10);
      assert.equal(await store.count(), 10);
      assert.equal(active.length, 10);
      assert.equal(evicted.length, RACERS - 10);
      assert.equal(new Set([...evicted, ...idsOf(active)]).size, RACERS);
    },
  },
  {
    title: "of a thousand concurrent creates under the policy reject exactly the limit succeed",
    async run({ store, peer }) {
      const outcomes = await Promise.allSettled(
        Array.from({ length: RACERS }, (_, i) =>
          (i % 2 ? store : peer).create(newSession(), rejectBeyond(10)),
        ),
      );
      const created = outcomes
        .filter((outcome) => outcome.status === "fulfilled")
        .map((outcome) => outcome.value.session);
      assert.equal(created.length, 10);
      assert.equal(await store.count("user"), 10);
      const active = await listAll(store, ACTIVE);
      assert.deepEqual(idsOf(active), idsOf(created.toSorted(byCreation)));
    },
  },
];
