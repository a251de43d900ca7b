import assert from "node:assert/strict";
import fc from "fast-check";
import type { SessionStore, StoredSession } from "../../../sessions/session-store.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  assertSame,
  byCreation,
  EVERYTHING,
  idsOf,
  keyOf,
  type Listing,
  listAll,
} from "./fixtures.js";
import type { SessionStoreChecks, SessionStoreContext } from "./session-store-check.js";

/** More sessions of one user than fit into the compact form that Redis gives small sorted sets. */
const CROWD = 150;

/** By user. Words sort differently. The first sort before all generated ids, the last after. */
const CHOSEN_IDS = [
  ["-", "--", "-0"],
  ["00", "b", "B"],
  ["a", "A", "a.b", "aB", "Ab"],
  ["a-b", "a:b", "a_b"],
  ["z", "_", "@", ":"],
  ["~", "~-", "~~"],
];

/** How many sessions of which users are created, the clock moving on or standing still in between. */
const populations = fc.array(
  fc.record({ user: fc.integer({ min: 0, max: 2 }), pauseMs: fc.constantFrom(0, 0, 0, 1, 2) }),
  { minLength: 1, maxLength: 30, size: "max" },
);

type Population = readonly { readonly user: number; readonly pauseMs: number }[];

async function populate(
  { store, clock }: SessionStoreContext,
  population: Population,
): Promise<StoredSession[]> {
  const sessions = [];
  for (const { user, pauseMs } of population) {
    clock.advance(pauseMs);
    sessions.push(await addSession(store, { userId: `user-${user}` }));
  }
  return sessions;
}

/** Changes all sorts of things, but ends no session from before. */
async function stir({ store, clock }: SessionStoreContext, page: readonly StoredSession[]) {
  clock.advance(1);
  await addSession(store, { userId: "user-0" });
  const removed = await addSession(store, { userId: "user-1" });
  await store.revoke(keyOf(removed), "");
  for (const session of page) {
    await store.touch(keyOf(session));
    await store.replaceRecord(keyOf(session), session.version, new Uint8Array([1]));
  }
  await store.sweep(100);
}

/** Asserts what a list holds, in ascending order, and that its reverse is the descending one. */
async function assertListed(
  store: SessionStore,
  query: Listing,
  expected: readonly string[],
): Promise<void> {
  assert.deepEqual(idsOf(await listAll(store, query)), expected);
  const descending = await listAll(store, { ...query, order: "desc" });
  assert.deepEqual(idsOf(descending), expected.toReversed());
}

/** Lists, page by page. */
export const listingChecks: SessionStoreChecks = {
  "a page holds as many as were asked for, and only the last names no next one": async (t) => {
    const { store, clock } = t;
    assert.deepEqual(await store.list({ ...ACTIVE, limit: 10 }), { sessions: [] });
    const ofNobody = await store.list({ ...EVERYTHING, userId: "ann", order: "desc", limit: 10 });
    assert.deepEqual(ofNobody, { sessions: [] });
    await addSessions(store, 2);
    clock.advance(1);
    await addSessions(store, 2);
    for (const order of ["asc", "desc"] as const) {
      const first = await store.list({ ...ACTIVE, order, limit: 2 });
      assert.equal(first.sessions.length, 2);
      const { createTimeMs, id } = first.sessions[1] ?? {};
      assert.deepEqual(first.next, { createTimeMs, id });
      const second = await store.list({ ...ACTIVE, order, limit: 2, after: first.next });
      assert.equal(second.sessions.length, 2);
      assert.equal(second.next, undefined);
      assert.equal((await store.list({ ...ACTIVE, order, limit: 4 })).next, undefined);
      assert.equal((await store.list({ ...ACTIVE, order, limit: 3 })).sessions.length, 3);
    }
  },
  "a user's list holds that user's sessions, the list of all everybody's, all whole": async (t) => {
    const { store, clock } = t;
    const [ann, bob] = [
      await addSession(store, { userId: "ann" }),
      await addSession(store, { userId: "bob" }),
    ];
    clock.advance(10);
    const all = await listAll(store, ACTIVE);
    assert.deepEqual(idsOf(all), idsOf([ann, bob].toSorted(byCreation)));
    assert.deepEqual(await listAll(store, { ...ACTIVE, userId: "carol" }), []);
    for (const session of [ann, bob]) {
      const [own, ...others] = await listAll(store, { ...ACTIVE, userId: session.userId });
      assertSame(own, session);
      assert.deepEqual([own?.readTimeMs, others], [clock.now(), []]);
      assertSame(
        all.find(({ id }) => id === session.id),
        session,
      );
    }
  },
  "all pages together are all sessions by creation and then by id, both ways": async (t) => {
    const { openAnother } = t;
    const limits = fc.integer({ min: 1, max: 7 });
    const property = fc.asyncProperty(populations, limits, async (population, limit) => {
      const context = await openAnother();
      const sessions = (await populate(context, population)).toSorted(byCreation);
      // Activity moves no session in its list.
      const [oldest] = sessions;
      context.clock.advance(1);
      if (oldest) await context.store.touch(keyOf(oldest));
      for (const userId of [undefined, "user-0", "user-1"]) {
        const all = sessions.filter((s) => userId === undefined || s.userId === userId);
        const query = { ...ACTIVE, limit, ...(userId && { userId }) };
        await assertListed(context.store, query, idsOf(all));
      }
    });
    await fc.assert(property, { numRuns: 15 });
  },
  "expired and revoked sessions are listed when asked for, until they are swept": async (t) => {
    const { store, clock, retentionMs } = t;
    const sessions = [];
    for (const idleTimeoutMs of [10_000, 1_000, 2_000]) {
      sessions.push(await addSession(store, { idleTimeoutMs }));
      clock.advance(1);
    }
    const [active, expired, revoked] = sessions;
    assert.ok(active && expired && revoked);
    await store.revoke(keyOf(revoked), "");
    // A revoked session stays a revoked one past its deadline, and sweeping changes nothing yet.
    for (const timeMs of [expired.expireTimeMs, revoked.expireTimeMs + 1]) {
      clock.advanceTo(timeMs);
      for (const scope of [{}, { userId: "user" }]) {
        const query = { ...ACTIVE, ...scope };
        await assertListed(store, query, [active.id]);
        await assertListed(store, { ...query, showExpired: true }, [active.id, expired.id]);
        await assertListed(store, { ...query, showRevoked: true }, [active.id, revoked.id]);
        await assertListed(store, { ...EVERYTHING, ...scope }, idsOf(sessions));
      }
      await store.sweep(100);
    }
    clock.advance(retentionMs);
    await store.sweep(100);
    await assertListed(store, EVERYTHING, [active.id]);
  },
  "pages of every kind are in order across active and ended sessions": async ({ store, clock }) => {
    const sessions = [];
    for (let i = 0; i < 24; i++) {
      const idleTimeoutMs = i % 3 === 0 ? 1_000 : 60_000;
      const session = await addSession(store, { userId: `user-${i % 2}`, idleTimeoutMs });
      if (i % 3 === 1) await store.revoke(keyOf(session), "");
      if (i % 4 === 3) clock.advance(1);
      sessions.push(session);
    }
    clock.advance(1_000);
    const ordered = sessions.toSorted(byCreation);
    const own = ordered.filter(({ userId }) => userId === "user-1");
    for (const swept of [false, true]) {
      if (swept) await store.sweep(5);
      for (const limit of [1, 2, 5, 100]) {
        await assertListed(store, { ...EVERYTHING, limit }, idsOf(ordered));
        await assertListed(store, { ...EVERYTHING, userId: "user-1", limit }, idsOf(own));
      }
    }
  },
  "a range of creation times includes its start and excludes its end": async ({ store, clock }) => {
    const sessions = [];
    for (let i = 0; i < 4; i++) {
      sessions.push(await addSession(store));
      clock.advance(10);
    }
    const ids = idsOf(sessions);
    const startMs = sessions[0]?.createTimeMs ?? 0;
    const from = (ms: number) => ({ createTimeFromMs: startMs + ms });
    const to = (ms: number) => ({ createTimeToMs: startMs + ms });
    for (const scope of [{}, { userId: "user" }, { limit: 1 }]) {
      const query = { ...ACTIVE, ...scope };
      await assertListed(store, { ...query, ...from(10) }, ids.slice(1));
      await assertListed(store, { ...query, ...from(11) }, ids.slice(2));
      await assertListed(store, { ...query, ...to(20) }, ids.slice(0, 2));
      await assertListed(store, { ...query, ...to(21) }, ids.slice(0, 3));
      await assertListed(store, { ...query, ...from(10), ...to(30) }, ids.slice(1, 3));
      await assertListed(store, { ...query, ...from(10), ...to(10) }, []);
    }
  },
  "a session that stays is on exactly one page, whatever changes between the pages": async (t) => {
    const { openAnother } = t;
    const property = fc.asyncProperty(
      populations,
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom("asc" as const, "desc" as const),
      async (population, limit, order) => {
        const context = await openAnother();
        const before = (await populate(context, population)).toSorted(byCreation);
        const staying = idsOf(order === "asc" ? before : before.toReversed());
        let stirred = 0;
        const walk = await listAll(context.store, { ...ACTIVE, order, limit }, async (page) => {
          // A list that is added to between all pages would have no end.
          if (stirred++ < before.length) await stir(context, page);
        });
        const seen = idsOf(walk).filter((id) => staying.includes(id));
        assert.deepEqual(seen, staying);
        assert.equal(new Set(idsOf(walk)).size, walk.length, "a session was listed twice");
      },
    );
    await fc.assert(property, { numRuns: 10 });
  },
  "a walk goes on from where it was after the session it stopped at is gone": async (t) => {
    const { store, clock, retentionMs } = t;
    const sessions = [];
    const longMs = 10 * retentionMs;
    for (let i = 0; i < 6; i++) {
      sessions.push(await addSession(store, { lifetimeMs: longMs, idleTimeoutMs: longMs }));
      if (i % 2) clock.advance(1);
    }
    const ordered = idsOf(sessions.toSorted(byCreation));
    const first = await store.list({ ...ACTIVE, limit: 3 });
    const last = first.sessions[2];
    assert.ok(last && first.next);
    await store.revoke(keyOf(last), "");
    clock.advance(retentionMs);
    await store.sweep(100);
    const rest = await listAll(store, { ...ACTIVE, after: first.next });
    assert.deepEqual(idsOf(rest), ordered.slice(3));
    const back = await listAll(store, { ...ACTIVE, order: "desc", after: first.next });
    assert.deepEqual(idsOf(back), ordered.slice(0, 2).toReversed());
  },
  "sessions of one moment are in the order of their ids, byte by byte, on pages of any size":
    async ({ store, clock }) => {
      const sessions = [await addSession(store, { userId: "before" })];
      clock.advance(1);
      for (const [i, ids] of CHOSEN_IDS.entries()) {
        for (const id of ids) sessions.push(await addSession(store, { userId: `user-${i}`, id }));
      }
      sessions.push(...(await addSessions(store, CROWD, { userId: "crowd" })));
      clock.advance(1);
      sessions.push(await addSession(store, { userId: "behind" }));
      const ordered = idsOf(sessions.toSorted(byCreation));
      for (const limit of [3, 50, 1_000]) await assertListed(store, { ...ACTIVE, limit }, ordered);
    },
  "pages are full and in order however unevenly users have sessions": async (t) => {
    const { store, clock } = t;
    const sessions = [];
    for (let i = 0; i < 1_100; i++) {
      // First many users in turn, then one alone, then both.
      const isOfCrowd = i < CROWD ? false : i < 2 * CROWD || i % 2 === 0;
      const userId = isOfCrowd ? "crowd" : `user-${i % 60}`;
      sessions.push(await addSession(store, { userId }));
      clock.advance(i % 3);
    }
    const ordered = idsOf(sessions.toSorted(byCreation));
    for (const order of ["asc", "desc"] as const) {
      for (const limit of [70, 300, 1_000]) {
        const listed = await listAll(store, { ...ACTIVE, order, limit }, async (page) => {
          assert.equal(page.length, limit);
        });
        assert.deepEqual(idsOf(listed), order === "asc" ? ordered : ordered.toReversed());
      }
    }
    assert.equal(await store.count(), 1_100);
    const crowd = sessions.filter(({ userId }) => userId === "crowd");
    assert.equal(await store.count("crowd"), crowd.length);
  },
  "counts follow every creation, revocation and deadline to the millisecond": async (t) => {
    const { store, clock } = t;
    const assertCounts = async (ann: number, crowd: number) => {
      const counts = [await store.count(), await store.count("ann"), await store.count("crowd")];
      assert.deepEqual(counts, [ann + crowd, ann, crowd]);
    };
    const ann = await addSession(store, { userId: "ann", idleTimeoutMs: 1_000 });
    await addSession(store, { userId: "ann", idleTimeoutMs: 2_000 });
    for (const idleTimeoutMs of [999, 1_000, 1_001]) {
      const sessions = await addSessions(store, CROWD, { userId: "crowd", idleTimeoutMs });
      for (const session of sessions.slice(0, 10)) await store.revoke(keyOf(session), "");
    }
    const alive = CROWD - 10;
    clock.advance(998);
    await assertCounts(2, 3 * alive);
    await store.touch(keyOf(ann));
    for (const rest of [2, 1, 0]) {
      clock.advance(1);
      await assertCounts(2, rest * alive);
    }
    clock.advanceTo(ann.createTimeMs + 1_998);
    await assertCounts(1, 0);
    clock.advance(2);
    await assertCounts(0, 0);
    await store.sweep(100);
    await assertCounts(0, 0);
    await addSession(store, { userId: "ann" });
    await store.revokeUser("ann", "");
    await assertCounts(0, 0);
  },
};
