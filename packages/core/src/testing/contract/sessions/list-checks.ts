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
import type { SessionStoreCheck, SessionStoreContext } from "./session-store-check.js";

/** Three sessions, in order of creation: an active, an expired and a revoked one. */
async function addOneOfEachState({ store, clock }: SessionStoreContext): Promise<StoredSession[]> {
  const active = await addSession(store, { idleTimeoutMs: 10_000 });
  clock.advance(1);
  const expired = await addSession(store, { idleTimeoutMs: 1_000 });
  clock.advance(1);
  const revoked = await addSession(store, { idleTimeoutMs: 2_000 });
  await store.revoke(keyOf(revoked), "");
  clock.advance(1_000);
  return [active, expired, revoked];
}

/** As many sessions of one user as no longer fit into the compact form that small sorted sets have in Redis. */
const CROWD = 150;

/** By user. Words would be sorted differently; the first are before all generated ids, the last after. */
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

async function assertListed(
  store: SessionStore,
  query: Listing,
  expected: readonly string[],
): Promise<void> {
  assert.deepEqual(idsOf(await listAll(store, query)), expected);
}

/** Lists, page by page. */
export const listChecks: readonly SessionStoreCheck[] = [
  {
    title: "an empty store lists nothing",
    async run({ store }) {
      assert.deepEqual(await store.list({ ...ACTIVE, limit: 10 }), { sessions: [] });
      const page = await store.list({ ...EVERYTHING, userId: "ann", order: "desc", limit: 10 });
      assert.deepEqual(page, { sessions: [] });
    },
  },
  {
    title: "a listed session is the whole session",
    async run({ store, clock }) {
      const session = await addSession(store);
      clock.advance(10);
      const [ofUser] = await listAll(store, { ...ACTIVE, userId: "user" });
      const [ofAll] = await listAll(store, ACTIVE);
      assertSame(ofUser, session);
      assertSame(ofAll, session);
      assert.equal(ofUser?.readTimeMs, clock.now());
    },
  },
  {
    title: "all pages together are all sessions in the order of creation, then of id, both ways",
    async run({ openAnother }) {
      const property = fc.asyncProperty(
        populations,
        fc.integer({ min: 1, max: 7 }),
        async (population, limit) => {
          const context = await openAnother();
          const sessions = (await populate(context, population)).toSorted(byCreation);
          for (const userId of [undefined, "user-0", "user-1"]) {
            const all = sessions.filter((s) => userId === undefined || s.userId === userId);
            const query = { ...ACTIVE, limit, ...(userId && { userId }) };
            const list = (order: "asc" | "desc") => listAll(context.store, { ...query, order });
            assert.deepEqual(idsOf(await list("asc")), idsOf(all));
            assert.deepEqual(idsOf(await list("desc")), idsOf(all.toReversed()));
          }
        },
      );
      await fc.assert(property, { numRuns: 15 });
    },
  },
  {
    title: "a page holds as many as were asked for, and only the last one says nothing of a next",
    async run({ store, clock }) {
      await addSessions(store, 2);
      clock.advance(1);
      await addSessions(store, 2);
      for (const order of ["asc", "desc"] as const) {
        const first = await store.list({ ...ACTIVE, order, limit: 2 });
        assert.equal(first.sessions.length, 2);
        assert.deepEqual(first.next, {
          createTimeMs: first.sessions[1]?.createTimeMs,
          id: first.sessions[1]?.id,
        });
        const second = await store.list({ ...ACTIVE, order, limit: 2, after: first.next });
        assert.equal(second.sessions.length, 2);
        assert.equal(second.next, undefined);
        const all = await store.list({ ...ACTIVE, order, limit: 4 });
        assert.equal(all.next, undefined);
        assert.equal((await store.list({ ...ACTIVE, order, limit: 3 })).sessions.length, 3);
      }
    },
  },
  {
    title: "a user's list holds that user's sessions only, the list of all everybody's",
    async run({ store }) {
      const ann = await addSession(store, { userId: "ann" });
      const bob = await addSession(store, { userId: "bob" });
      await assertListed(store, { ...ACTIVE, userId: "ann" }, [ann.id]);
      await assertListed(store, { ...ACTIVE, userId: "bob" }, [bob.id]);
      await assertListed(store, { ...ACTIVE, userId: "carol" }, []);
      await assertListed(store, ACTIVE, idsOf([ann, bob].toSorted(byCreation)));
    },
  },
  {
    title: "expired and revoked sessions are listed when asked for, each by its own switch",
    async run(context) {
      const { store } = context;
      const [active, expired, revoked] = idsOf(await addOneOfEachState(context));
      assert.ok(active && expired && revoked);
      for (const scope of [{}, { userId: "user" }]) {
        const query = { ...ACTIVE, ...scope };
        await assertListed(store, query, [active]);
        await assertListed(store, { ...query, showExpired: true }, [active, expired]);
        await assertListed(store, { ...query, showRevoked: true }, [active, revoked]);
        await assertListed(store, { ...EVERYTHING, ...scope }, [active, expired, revoked]);
        await assertListed(store, { ...EVERYTHING, ...scope, order: "desc" }, [
          revoked,
          expired,
          active,
        ]);
      }
    },
  },
  {
    title: "a revoked session stays a revoked one past its deadline",
    async run(context) {
      const { store, clock } = context;
      const [active, , revoked] = idsOf(await addOneOfEachState(context));
      assert.ok(active && revoked);
      clock.advance(1_500);
      await assertListed(store, { ...ACTIVE, showRevoked: true }, [active, revoked]);
      await store.sweep(100);
      await assertListed(store, { ...ACTIVE, showRevoked: true }, [active, revoked]);
    },
  },
  {
    title: "sweeping leaves what is listed as it is until the retention is over",
    async run(context) {
      const { store } = context;
      const all = idsOf(await addOneOfEachState(context));
      await store.sweep(100);
      await assertListed(store, EVERYTHING, all);
      await assertListed(store, { ...EVERYTHING, showExpired: false }, all.toSpliced(1, 1));
      await assertListed(store, { ...EVERYTHING, showRevoked: false }, all.slice(0, 2));
    },
  },
  {
    title: "pages of every kind are in order across active and ended sessions",
    async run(context) {
      const { store, clock } = context;
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
      for (const swept of [false, true]) {
        if (swept) await store.sweep(5);
        for (const limit of [1, 2, 5, 100]) {
          await assertListed(store, { ...EVERYTHING, limit }, idsOf(ordered));
          const descending = { ...EVERYTHING, order: "desc" as const, limit };
          await assertListed(store, descending, idsOf(ordered.toReversed()));
          const ofUser = { ...EVERYTHING, userId: "user-1", limit };
          const own = ordered.filter(({ userId }) => userId === "user-1");
          await assertListed(store, ofUser, idsOf(own));
        }
      }
    },
  },
  {
    title: "a range of creation times includes its start and excludes its end",
    async run({ store, clock }) {
      const sessions = [];
      for (let i = 0; i < 4; i++) {
        sessions.push(await addSession(store));
        clock.advance(10);
      }
      const [first, second, third, fourth] = idsOf(sessions);
      assert.ok(first && second && third && fourth);
      const startMs = sessions[0]?.createTimeMs ?? 0;
      const from = (ms: number) => ({ createTimeFromMs: startMs + ms });
      const to = (ms: number) => ({ createTimeToMs: startMs + ms });
      for (const scope of [{}, { userId: "user" }]) {
        const query = { ...ACTIVE, ...scope };
        await assertListed(store, { ...query, ...from(10) }, [second, third, fourth]);
        await assertListed(store, { ...query, ...from(11) }, [third, fourth]);
        await assertListed(store, { ...query, ...to(20) }, [first, second]);
        await assertListed(store, { ...query, ...to(21) }, [first, second, third]);
        await assertListed(store, { ...query, ...from(10), ...to(30) }, [second, third]);
        await assertListed(store, { ...query, ...from(10), ...to(10) }, []);
        const descending = { ...query, ...from(10), ...to(31), order: "desc" as const };
        await assertListed(store, descending, [fourth, third, second]);
        assert.deepEqual(idsOf(await listAll(store, { ...descending, limit: 1 })), [
          fourth,
          third,
          second,
        ]);
      }
    },
  },
  {
    title: "a session that stays is on exactly one page, whatever changes between the pages",
    async run({ openAnother }) {
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
  },
  {
    title: "a walk goes on from where it was after the session it stopped at is gone",
    async run({ store, clock, retentionMs }) {
      const sessions = [];
      for (let i = 0; i < 6; i++) {
        sessions.push(
          await addSession(store, {
            lifetimeMs: 10 * retentionMs,
            idleTimeoutMs: 10 * retentionMs,
          }),
        );
        if (i % 2) clock.advance(1);
      }
      const ordered = sessions.toSorted(byCreation);
      const first = await store.list({ ...ACTIVE, limit: 3 });
      const last = first.sessions[2];
      assert.ok(last && first.next);
      await store.revoke(keyOf(last), "");
      clock.advance(retentionMs);
      await store.sweep(100);
      const rest = await listAll(store, { ...ACTIVE, after: first.next });
      assert.deepEqual(idsOf(rest), idsOf(ordered.slice(3)));
      const back = await listAll(store, { ...ACTIVE, order: "desc", after: first.next });
      assert.deepEqual(idsOf(back), idsOf(ordered.slice(0, 2).toReversed()));
    },
  },
  {
    title: "sessions of many users are listed in pages of a thousand and counted exactly",
    async run({ store, clock }) {
      const created = [];
      for (let i = 0; i < 12; i++) {
        const users = Array.from({ length: 100 }, (_, user) => `user-${user}`);
        created.push(...(await Promise.all(users.map((userId) => addSession(store, { userId })))));
        clock.advance(1);
      }
      assert.equal(await store.count(), 1_200);
      assert.equal(await store.count("user-7"), 12);
      const listed = await listAll(store, { ...ACTIVE, order: "desc", limit: 1_000 });
      assert.deepEqual(idsOf(listed), idsOf(created.toSorted(byCreation).toReversed()));
    },
  },
  {
    title:
      "sessions of one moment are in the order of their ids, byte by byte, on pages of any size",
    async run({ store, clock }) {
      const sessions = [await addSession(store, { userId: "before" })];
      clock.advance(1);
      for (const [i, ids] of CHOSEN_IDS.entries()) {
        for (const id of ids) sessions.push(await addSession(store, { userId: `user-${i}`, id }));
      }
      sessions.push(...(await addSessions(store, CROWD, { userId: "crowd" })));
      clock.advance(1);
      sessions.push(await addSession(store, { userId: "behind" }));
      const ordered = idsOf(sessions.toSorted(byCreation));
      for (const limit of [3, 50, 1_000]) {
        await assertListed(store, { ...ACTIVE, limit }, ordered);
        const descending = { ...ACTIVE, order: "desc" as const, limit };
        await assertListed(store, descending, ordered.toReversed());
      }
    },
  },
  {
    title: "pages are full and in order however unevenly the users have sessions",
    async run({ store, clock }) {
      const sessions = [];
      for (let i = 0; i < 3 * CROWD; i++) {
        // First many users in turn, then one alone, then both.
        const isOfCrowd = i < CROWD ? false : i < 2 * CROWD || i % 2 === 0;
        const userId = isOfCrowd ? "crowd" : `user-${i % 60}`;
        sessions.push(await addSession(store, { userId }));
        clock.advance(i % 3);
      }
      const ordered = idsOf(sessions.toSorted(byCreation));
      for (const order of ["asc", "desc"] as const) {
        for (const limit of [10, 70, 300]) {
          const listed = await listAll(store, { ...ACTIVE, order, limit }, async (page) => {
            assert.equal(page.length, limit);
          });
          assert.deepEqual(idsOf(listed), order === "asc" ? ordered : ordered.toReversed());
        }
      }
    },
  },
  {
    title: "of sessions that end around one millisecond exactly those still alive are counted",
    async run({ store, clock }) {
      const counts = async () => [await store.count(), await store.count("crowd")];
      await addSession(store, { userId: "ann", idleTimeoutMs: 1_000 });
      for (const idleTimeoutMs of [999, 1_000, 1_001]) {
        const sessions = await addSessions(store, CROWD, { userId: "crowd", idleTimeoutMs });
        for (const session of sessions.slice(0, 10)) await store.revoke(keyOf(session), "");
      }
      const alive = CROWD - 10;
      clock.advance(998);
      assert.deepEqual(await counts(), [3 * alive + 1, 3 * alive]);
      clock.advance(1);
      assert.deepEqual(await counts(), [2 * alive + 1, 2 * alive]);
      clock.advance(1);
      assert.deepEqual(await counts(), [alive, alive]);
      clock.advance(1);
      assert.deepEqual(await counts(), [0, 0]);
    },
  },
  {
    title: "counts follow every creation, revocation and deadline at once",
    async run({ store, clock }) {
      const counts = async () => [
        await store.count(),
        await store.count("ann"),
        await store.count("bob"),
      ];
      const ann = await addSession(store, { userId: "ann", idleTimeoutMs: 1_000 });
      await addSession(store, { userId: "ann", idleTimeoutMs: 2_000 });
      await addSession(store, { userId: "bob", idleTimeoutMs: 3_000 });
      assert.deepEqual(await counts(), [3, 2, 1]);
      clock.advance(999);
      await store.touch(keyOf(ann));
      clock.advance(999);
      assert.deepEqual(await counts(), [3, 2, 1]);
      clock.advance(1);
      assert.deepEqual(await counts(), [2, 1, 1]);
      clock.advance(1);
      assert.deepEqual(await counts(), [1, 0, 1]);
      await store.sweep(100);
      assert.deepEqual(await counts(), [1, 0, 1]);
      await store.revokeUser("bob", "");
      assert.deepEqual(await counts(), [0, 0, 0]);
    },
  },
];
