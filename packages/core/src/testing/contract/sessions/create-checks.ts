import assert from "node:assert/strict";
import { partitionOfUser } from "../../../sessions/session-id.js";
import { EVICTION_REASON } from "../../../sessions/session-store.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  assertRefused,
  assertSame,
  assertUntouched,
  byCreation,
  comparable,
  EVERYTHING,
  evictBeyond,
  idsOf,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
  race,
  rejectBeyond,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

const RACERS = 1_000;
/** Enough that two calls meet in each of their steps. */
const RACING_PAIRS = 200;

/** Creation, the ids that are taken, and the limit. */
export const createChecks: SessionStoreChecks = {
  "a created session is answered, and read back, as it was given": async ({ store, clock }) => {
    const given = newSession({ userId: "ann" });
    const { session, evictedIds } = await store.create(given, evictBeyond(10));
    assert.deepEqual(evictedIds, []);
    assert.deepEqual([session.id, session.userId], [given.key.id, "ann"]);
    assert.deepEqual([session.version, session.readTimeMs], [1, clock.now()]);
    assert.deepEqual([session.revokeTimeMs, session.revokeReason], [undefined, undefined]);
    const { record, tokenHash } = given;
    assertSame(await store.get(given.key), { ...session, record, tokenHash });
  },
  "a new session's times are now, and its deadlines follow from its timeouts": async (t) => {
    const { store, clock } = t;
    clock.advance(1234);
    const nowMs = clock.now();
    const session = await addSession(store, { idleTimeoutMs: 60_000, lifetimeMs: 600_000 });
    assert.equal(session.createTimeMs, nowMs);
    assert.equal(session.authenticateTimeMs, nowMs);
    assert.equal(session.lastAccessTimeMs, nowMs);
    assert.equal(session.idleTimeoutMs, 60_000);
    assert.equal(session.expireTimeMs, nowMs + 60_000);
    assert.equal(session.absoluteExpireTimeMs, nowMs + 600_000);
    const brief = await addSession(store, { idleTimeoutMs: 60_000, lifetimeMs: 59_999 });
    assert.equal(brief.expireTimeMs, nowMs + 59_999);
    assert.equal(brief.absoluteExpireTimeMs, nowMs + 59_999);
  },
  "an id that is taken is refused to everybody, before anyone is evicted for it": async (t) => {
    const { store } = t;
    const chosen = await addSession(store, { userId: "ann", id: "jti-1" });
    const generated = await addSession(store, { userId: "bob" });
    const attempts = ["ann", "bob", "carol"].map((userId) => newSession({ userId, id: "jti-1" }));
    attempts.push(newSession({ userId: "bob", id: generated.id }));
    for (const attempt of attempts) {
      for (const limit of [evictBeyond(10), evictBeyond(1), rejectBeyond(1)]) {
        await assertRefused("SESSION_ALREADY_EXISTS", store.create(attempt, limit));
      }
    }
    for (const session of [chosen, generated]) await assertUntouched(store, session);
    assert.equal((await listAll(store, EVERYTHING)).length, 2);
    assert.equal(await store.count(), 2);
  },
  "of users who choose the same id at once exactly one gets it, and no other loses anything":
    async (context) => {
      const { store } = context;
      const users = Array.from({ length: 64 }, (_, i) => `user-${i}`);
      const before = await Promise.all(users.map((userId) => addSession(store, { userId })));
      const outcomes = await race(context, users.length, (from, i) => {
        const session = newSession({ userId: users[i] ?? "", id: "jti-1" });
        return from.create(session, evictBeyond(1)).catch((error: unknown) => error);
      });
      const errors = outcomes.filter((outcome) => outcome instanceof Error);
      assert.equal(errors.length, users.length - 1);
      for (const error of errors) {
        await assertRefused("SESSION_ALREADY_EXISTS", Promise.reject(error));
      }
      for (const [i, { userId, id }] of before.entries()) {
        const won = !(outcomes[i] instanceof Error);
        const active = idsOf(await listAll(store, { ...ACTIVE, userId }));
        assert.deepEqual(active, won ? ["jti-1"] : [id]);
        if (won) assert.equal(await store.partitionOf("jti-1"), partitionOfUser(userId));
      }
    },
  "at each user's own limit the oldest session goes, however lately it was used": async (t) => {
    const { store, clock } = t;
    const sessions = [];
    for (let i = 0; i < 3; i++) {
      const { session, evictedIds } = await store.create(newSession(), evictBeyond(3));
      assert.deepEqual(evictedIds, []);
      sessions.push(session);
      clock.advance(1);
    }
    const bobs = await store.create(newSession({ userId: "bob" }), evictBeyond(3));
    assert.deepEqual(bobs.evictedIds, []);
    const [first, ...others] = sessions;
    assert.ok(first);
    await store.touch(keyOf(first));
    const { session, evictedIds } = await store.create(newSession(), evictBeyond(3));
    assert.deepEqual(evictedIds, [first.id]);
    const active = idsOf(await listAll(store, { ...ACTIVE, userId: "user" }));
    assert.deepEqual(active, idsOf([...others, session]));
    assert.equal(await store.count(), 4);
  },
  "a lowered limit evicts as many as are too many, by age and then by id": async (t) => {
    const { store, clock } = t;
    const sessions = [];
    for (let i = 0; i < 3; i++) {
      sessions.push(...(await addSessions(store, 3)));
      clock.advance(1);
    }
    const ordered = idsOf(sessions.toSorted(byCreation));
    const { session, evictedIds } = await store.create(newSession(), evictBeyond(3));
    assert.deepEqual([...evictedIds], ordered.slice(0, 7));
    const active = idsOf(await listAll(store, ACTIVE));
    assert.deepEqual(active, [...ordered.slice(7), session.id]);
  },
  "an evicted session is revoked, for the reason of eviction": async ({ store, clock }) => {
    const old = await addSession(store);
    clock.advance(5);
    await store.create(newSession(), evictBeyond(1));
    const revocation = { revokeTimeMs: clock.now(), revokeReason: EVICTION_REASON };
    await assertUntouched(store, {
      ...old,
      ...revocation,
      version: 2,
      tokenHash: new Uint8Array(),
    });
    assert.equal(await store.get(keyOf(old)), undefined);
    assert.equal(await store.touch(keyOf(old), old.tokenHash), undefined);
  },
  "under policy reject a session beyond the limit is refused, and its id stays free": async (t) => {
    const { store } = t;
    const own = [await addSession(store), await addSession(store)];
    const refused = newSession({ id: "jti-1" });
    await assertRefused("SESSION_LIMIT_REACHED", store.create(refused, rejectBeyond(2)));
    assert.deepEqual(idsOf(await listAll(store, EVERYTHING)), idsOf(own.toSorted(byCreation)));
    for (const session of own) await assertUntouched(store, session);
    assert.equal(await store.count(), 2);
    assert.equal(await store.partitionOf("jti-1"), undefined);
    await addSession(store, { userId: "bob", id: "jti-1" });
    assert.equal(await store.partitionOf("jti-1"), partitionOfUser("bob"));
  },
  "a session counts towards the limit until its deadline or its revocation": async (t) => {
    const { store, clock } = t;
    const { expireTimeMs } = await addSession(store, { idleTimeoutMs: 1_000 });
    const revoked = await addSession(store);
    await addSession(store);
    await store.revoke(keyOf(revoked), "");
    clock.advanceTo(expireTimeMs - 1);
    await assertRefused("SESSION_LIMIT_REACHED", store.create(newSession(), rejectBeyond(2)));
    clock.advanceTo(expireTimeMs);
    await store.create(newSession(), rejectBeyond(2));
    await assertRefused("SESSION_LIMIT_REACHED", store.create(newSession(), rejectBeyond(2)));
    clock.advance(1);
    assert.deepEqual((await store.create(newSession(), evictBeyond(3))).evictedIds, []);
    assert.equal((await store.create(newSession(), evictBeyond(3))).evictedIds.length, 1);
    assert.equal(await store.count(), 3);
  },
  "a thousand concurrent creates leave exactly the limit, in count and in list": async (t) => {
    const { store } = t;
    const results = await race(t, RACERS, (from) => from.create(newSession(), evictBeyond(10)));
    const evicted = results.flatMap(({ evictedIds }) => evictedIds);
    const active = idsOf(await listAll(store, ACTIVE));
    assert.deepEqual([await store.count("user"), await store.count(), active.length], [10, 10, 10]);
    assert.equal(evicted.length, RACERS - 10);
    assert.equal(new Set([...evicted, ...active]).size, RACERS);
  },
  "of a thousand concurrent creates under policy reject exactly the limit succeed": async (t) => {
    const { store } = t;
    const outcomes = await race(t, RACERS, (from) =>
      from.create(newSession(), rejectBeyond(10)).catch(() => undefined),
    );
    const created = outcomes.flatMap((outcome) => outcome?.session ?? []);
    assert.equal(created.length, 10);
    assert.equal(await store.count("user"), 10);
    const active = idsOf(await listAll(store, ACTIVE));
    assert.deepEqual(active, idsOf(created.toSorted(byCreation)));
  },
  "a moved-in session has its times, within its deadlines": async ({ store, peer, clock }) => {
    const now = clock.now();
    const times = { createTimeMs: now - 1_000, authenticateTimeMs: now - 500 };
    const movedIn = { ...times, expireTimeMs: now + 2_000 };
    const spec = { idleTimeoutMs: 10_000, lifetimeMs: 5_000 };
    const session = await addSession(store, { ...spec, movedIn, id: "ext:1" });
    assertSame(session, {
      ...session,
      ...movedIn,
      lastAccessTimeMs: now - 1_000,
      tokenCreateTimeMs: now - 1_000,
      absoluteExpireTimeMs: now + 4_000,
      version: 1,
    });
    await assertUntouched(peer, session);
    clock.advance(1_999);
    assert.ok(await store.get(keyOf(session)));
    clock.advance(1);
    assert.equal(await store.get(keyOf(session)), undefined);
  },
  "a moved-in session's times are cut to what can be, and one that has ended is refused": async (
    t,
  ) => {
    const { store, clock, leftovers } = t;
    const now = clock.now();
    const spec = { idleTimeoutMs: 10_000, lifetimeMs: 50_000 };
    for (const [field, movedIn] of [
      ["create_time", { createTimeMs: now - 50_000 }],
      ["create_time", { createTimeMs: now - 50_000, expireTimeMs: now }],
      ["expire_time", { expireTimeMs: now }],
      ["expire_time", { createTimeMs: now - 1, expireTimeMs: now - 1 }],
    ] as const) {
      const late = newSession({ ...spec, movedIn, id: "ext:1" });
      const limit = { maxSessionsPerUser: 9, policy: "reject" } as const;
      const message = new RegExp(`^${field}: expected`);
      const refusal = { reason: "INVALID_ARGUMENT", message };
      await assert.rejects(store.create(late, limit), refusal);
    }
    if (leftovers) assert.equal(await leftovers(), 0);
    const future = now + 1_000_000;
    const session = await addSession(store, {
      ...spec,
      id: "ext:1",
      movedIn: { createTimeMs: future, authenticateTimeMs: future, expireTimeMs: future },
    });
    const expected = await addSession(store, spec);
    assert.deepEqual(comparable({ ...session, id: "", record: undefined, tokenHash: undefined }), {
      ...comparable({ ...expected, id: "", record: undefined, tokenHash: undefined }),
    });
  },
  "a session that moves in a second time, its first times over, exists and stays found by its id":
    async ({ store, peer, clock }) => {
      const movedIn = { expireTimeMs: clock.now() + 1_000 };
      const session = await addSession(store, { userId: "ann", id: "ext:1", movedIn });
      clock.advance(999);
      await store.touch(keyOf(session));
      clock.advance(1);
      const again = newSession({ userId: "ann", id: "ext:1", movedIn });
      await assertRefused("SESSION_ALREADY_EXISTS", store.create(again, NO_LIMIT));
      await assertRefused("SESSION_ALREADY_EXISTS", store.create(again, rejectBeyond(1)));
      const once = { key: "r-1", record: again.record, keptForMs: 60_000 };
      await assertRefused("SESSION_ALREADY_EXISTS", store.createOnce(once, again, NO_LIMIT));
      for (const from of [store, peer]) {
        assert.equal(await from.partitionOf("ext:1"), partitionOfUser("ann"));
        assert.ok(await from.get(keyOf(session)));
      }
    },
  "a session that moves in while a late call for it is refused stays found by its id": async (
    t,
  ) => {
    const { store } = t;
    const limit = NO_LIMIT;
    for (let i = 0; i < RACING_PAIRS; i++) {
      const id = `ext:${i}`;
      const outcomes = await race(t, 2, (from, n) => {
        const movedIn = { expireTimeMs: (n + i) % 2 ? 1 : Number.MAX_SAFE_INTEGER };
        return from.create(newSession({ userId: id, id, movedIn }), limit).catch(() => undefined);
      });
      assert.ok(outcomes.some((created) => created !== undefined));
      assert.equal(await store.partitionOf(id), partitionOfUser(id));
    }
  },
};
