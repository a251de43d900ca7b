import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type {
  Creation,
  NewSession,
  OnceOnly,
  RepeatedCreation,
  SessionLimit,
  SessionStore,
  StoredSession,
} from "../../../sessions/session-store.js";
import { followEvents } from "./event-fixtures.js";
import {
  type AnsweredSession,
  addSession,
  assertRefused,
  assertSame,
  assertUntouched,
  comparable,
  EVERYTHING,
  hex,
  idsOf,
  inspect,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
  type SessionSpec,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreCheck } from "./session-store-check.js";

const KEPT_FOR_MS = 120_000;
const RACERS = 20;
/**
 * How much longer than a request is kept a store of several nodes may keep its key from users of
 * other partitions: that is claimed ahead of the session, in another place.
 */
const CLAIM_SLACK_MS = 60_000;
/** How often it is looked whether what is left of requests is reclaimed. */
const RECLAIM_INTERVAL_MS = 250;

function atMost(maxSessionsPerUser: number, policy: SessionLimit["policy"]): SessionLimit {
  return { maxSessionsPerUser, policy };
}

/** A request; the record is another every time, as is that of a caller who tries again. */
function request(key: string, keptForMs = KEPT_FOR_MS): OnceOnly {
  return { key, record: randomBytes(40), keptForMs };
}

/** Creates a session at once for a request that must be a new one. Answers it with what was given. */
async function createFirst(
  store: SessionStore,
  once: OnceOnly,
  spec: SessionSpec | NewSession = {},
  limit = NO_LIMIT,
): Promise<{ readonly session: StoredSession; readonly evictedIds: readonly string[] }> {
  const given = "key" in spec ? spec : newSession(spec);
  const { record, tokenHash } = given;
  const answer = await store.createOnce(once, given, limit);
  assert.ok(!("repeated" in answer), "a new request was taken for a repeated one");
  assert.equal(answer.session.id, given.key.id);
  return { session: { ...answer.session, record, tokenHash }, evictedIds: answer.evictedIds };
}

/** Asserts that an answer is what a repetition must be told of the first call. */
function assertRepeats(
  answer: Creation | RepeatedCreation,
  first: OnceOnly,
  session: AnsweredSession | undefined,
  evictedIds: readonly string[] = [],
): void {
  assert.ok("repeated" in answer, "a repetition was taken for a new request");
  assert.equal(hex(answer.repeated), hex(first.record));
  if (session) assertSame(answer.session, session);
  else assert.equal(answer.session, undefined);
  assert.deepEqual([...answer.evictedIds], [...evictedIds]);
}

/** Sends a request once more, and asserts that it is told of the first call and changes nothing. */
async function assertRepetition(
  store: SessionStore,
  first: OnceOnly,
  session: AnsweredSession | undefined,
  { spec = {}, limit = NO_LIMIT, evictedIds = [] as readonly string[] } = {},
): Promise<void> {
  const before = await listAll(store, EVERYTHING);
  const news = await followEvents(store);
  const answer = await store.createOnce(request(first.key), newSession(spec), limit);
  assertRepeats(answer, first, session, evictedIds);
  assert.deepEqual((await listAll(store, EVERYTHING)).map(comparable), before.map(comparable));
  assert.deepEqual(await news(), []);
}

/** Requests that take effect at most once. */
export const onceChecks: readonly SessionStoreCheck[] = [
  {
    title: "a request that was not made before creates a session as any other call does",
    async run({ store, clock }) {
      const old = await addSession(store);
      clock.advance(10);
      const news = await followEvents(store);
      const given = newSession();
      const limit = atMost(1, "evict_oldest");
      const { session, evictedIds } = await createFirst(store, request("r1"), given, limit);
      assert.deepEqual(evictedIds, [old.id]);
      assert.equal(session.createTimeMs, clock.now());
      assert.equal(session.expireTimeMs, clock.now() + given.idleTimeoutMs);
      assert.equal(session.version, 1);
      assertSame(await store.get(given.key), session);
      assert.equal(await store.count(), 1);
      assert.deepEqual(
        (await news()).map(({ type, sessionId }) => [type, sessionId]),
        [
          ["evicted", old.id],
          ["created", session.id],
        ],
      );
    },
  },
  {
    title: "a request made again is told of the session that the first one created, and no more",
    async run({ store, peer, clock }) {
      const buffer = randomBytes(100);
      const first = { ...request("r1"), record: buffer.subarray(13, 77) };
      const { session } = await createFirst(store, first);
      await assertRepetition(store, first, session);
      await assertRepetition(peer, first, session);
      clock.advance(10);
      await assertRepetition(store, first, session);
      const touched = await store.touch(keyOf(session));
      assert.ok(touched);
      await assertRepetition(peer, first, touched);
      assert.equal(await store.count(), 1);
    },
  },
  {
    title: "a request for a chosen id that is made again finds its own session no obstacle",
    async run({ store, peer }) {
      const first = request("r1");
      const { session } = await createFirst(store, first, { id: "jti-1" });
      for (const from of [store, peer]) {
        await assertRepetition(from, first, session, { spec: { id: "jti-1" } });
      }
      assert.equal(await store.partitionOf("jti-1"), keyOf(session).partition);
    },
  },
  {
    title: "a request made again with another chosen id takes that id from nobody",
    async run({ store }) {
      const first = request("r1");
      const { session } = await createFirst(store, first, { id: "jti-1" });
      await assertRepetition(store, first, session, { spec: { id: "jti-2" } });
      assert.equal(await store.partitionOf("jti-2"), undefined);
      await addSession(store, { userId: "bob", id: "jti-2" });
      await assertRepetition(store, first, session, { spec: { id: "jti-2" } });
    },
  },
  {
    title: "a request made again at the limit is neither refused nor does it evict anyone",
    async run({ store, peer, clock }) {
      const first = request("r1");
      const { session } = await createFirst(store, first, {}, atMost(1, "reject"));
      await assertRepetition(peer, first, session, { limit: atMost(1, "reject") });
      await assertRepetition(peer, first, session, { limit: atMost(1, "evict_oldest") });

      const evicting = request("r2");
      await addSession(store, { userId: "ann", id: "jti-1" });
      clock.advance(1);
      await addSession(store, { userId: "ann", id: "jti-2" });
      const limit = atMost(1, "evict_oldest");
      const created = await createFirst(store, evicting, { userId: "ann" }, limit);
      const evictedIds = ["jti-1", "jti-2"];
      assert.deepEqual(created.evictedIds, evictedIds);
      const spec = { userId: "ann" };
      await assertRepetition(peer, evicting, created.session, { spec, limit, evictedIds });
    },
  },
  {
    title:
      "a request made again is told of a session that has been changed, revoked or has expired",
    async run({ store, peer, clock }) {
      const [toRevoke, toExpire] = [request("r1"), request("r2")];
      const { session: revoked } = await createFirst(store, toRevoke, { userId: "ann" });
      const { session: expired } = await createFirst(store, toExpire, { userId: "bob" });
      await store.replaceRecord(keyOf(revoked), 1, randomBytes(9));
      const changed = await inspect(store, revoked);
      await assertRepetition(store, toRevoke, changed, { spec: { userId: "ann" } });
      await store.revoke(keyOf(revoked), "logout");
      clock.advanceTo(expired.expireTimeMs);
      const tombstone = await inspect(store, revoked);
      assert.equal(tombstone?.revokeReason, "logout");
      for (const from of [store, peer]) {
        await assertRepetition(from, toRevoke, tombstone, { spec: { userId: "ann" } });
        await assertRepetition(from, toExpire, expired, { spec: { userId: "bob" } });
      }
      assert.equal(await store.count(), 0);
    },
  },
  {
    title: "a request made again after its session was removed for good creates no other",
    async run({ store, peer, clock, retentionMs }) {
      const first = request("r1", 10 * retentionMs);
      const { session } = await createFirst(store, first, { id: "jti-1" });
      await store.revoke(keyOf(session), "logout");
      clock.advance(retentionMs);
      await sweepAll(store);
      const spec = { id: "jti-1" };
      for (const from of [store, peer]) await assertRepetition(from, first, undefined, { spec });
      assert.equal(await store.partitionOf("jti-1"), undefined);
    },
  },
  {
    title: "a request made again is not told of a later session that was given the same id",
    async run({ store, clock, retentionMs }) {
      const first = request("r1", 10 * retentionMs);
      const { session } = await createFirst(store, first, { id: "jti-1" });
      for (const userId of ["user", "bob"]) {
        await store.revokeUser("user", "logout");
        clock.advance(retentionMs);
        await sweepAll(store);
        await addSession(store, { id: "jti-1", userId });
        await assertRepetition(store, first, undefined, { spec: { id: session.id } });
      }
    },
  },
  {
    title: "a request is recognised for as long as it said, and is a new one after that",
    async run({ store, peer, clock }) {
      const first = request("r1", 30_000);
      const { session } = await createFirst(store, first);
      clock.advance(29_999);
      await assertRepetition(store, first, session);
      clock.advance(1);
      const second = request("r1", 30_000);
      const next = await createFirst(peer, second);
      await assertUntouched(store, session);
      await assertRepetition(store, second, next.session);
    },
  },
  {
    title: "how long a request is recognised is what the first call said, not a repetition",
    async run({ store, peer, clock }) {
      const [long, short] = [request("r1", 600_000), request("r2", 60_000)];
      const { session } = await createFirst(store, long, { userId: "ann" });
      await createFirst(store, short, { userId: "ann" });
      for (const [key, keptForMs] of [["r1", 1_000] as const, ["r2", 10_000_000] as const]) {
        const again = request(key, keptForMs);
        const answer = await peer.createOnce(again, newSession({ userId: "ann" }), NO_LIMIT);
        assert.ok("repeated" in answer);
      }
      clock.advance(60_000);
      await createFirst(store, request("r2"), { userId: "ann" });
      clock.advance(600_000 - 60_001);
      const others = store.createOnce(request("r1"), newSession({ userId: "bob" }), NO_LIMIT);
      await assertRefused("REQUEST_ID_REUSED", others);
      const spec = { userId: "ann" };
      await assertRepetition(store, long, await inspect(store, session), { spec });
    },
  },
  {
    title: "a request that is no longer recognised may be made for anybody",
    async run({ store, peer, clock, retentionMs }) {
      const first = request("r1", retentionMs);
      const { session } = await createFirst(store, first, { userId: "ann" });
      clock.advance(retentionMs - 1);
      await assertRepetition(peer, first, await inspect(store, session), {
        spec: { userId: "ann" },
      });
      clock.advance(1 + CLAIM_SLACK_MS);
      await createFirst(store, request("r1"), { userId: "bob" });
    },
  },
  {
    title: "of one request made many times at once one creates the session, and all name it",
    async run({ store, peer }) {
      for (let round = 0; round < 5; round++) {
        const userId = `user-${round}`;
        const requests = Array.from({ length: RACERS }, () => request(`r${round}`));
        const answers = await Promise.all(
          requests.map((once, i) =>
            (i % 2 ? store : peer).createOnce(once, newSession({ userId }), atMost(5, "reject")),
          ),
        );
        const winner = answers.findIndex((answer) => !("repeated" in answer));
        const created = answers[winner];
        const first = requests[winner];
        assert.ok(created?.session && first);
        for (const [i, answer] of answers.entries()) {
          if (i !== winner) assertRepeats(answer, first, created.session);
        }
        assert.deepEqual(idsOf(await listAll(store, { ...EVERYTHING, userId })), [
          created.session.id,
        ]);
      }
    },
  },
  {
    title: "a request of one user that is made for another is refused and changes nothing",
    async run({ store, peer }) {
      const first = request("r1");
      const { session } = await createFirst(store, first, { userId: "ann" });
      const news = await followEvents(store);
      for (const spec of [{}, { id: "jti-1" }]) {
        const others = newSession({ userId: "bob", ...spec });
        for (const from of [store, peer]) {
          const limit = atMost(1, "evict_oldest");
          await assertRefused("REQUEST_ID_REUSED", from.createOnce(request("r1"), others, limit));
        }
      }
      assert.deepEqual(await news(), []);
      assert.equal(await store.count("bob"), 0);
      assert.equal(await store.partitionOf("jti-1"), undefined);
      await assertRepetition(store, first, session, { spec: { userId: "ann" } });
    },
  },
  {
    title: "of one request made for two users at once at most one gets a session",
    async run({ store, peer }) {
      for (let round = 0; round < 20; round++) {
        const calls = ["ann", "bob"].map((userId, i) =>
          (i % 2 ? store : peer).createOnce(request(`r${round}`), newSession({ userId }), NO_LIMIT),
        );
        const outcomes = await Promise.allSettled(round % 4 < 2 ? calls : calls.toReversed());
        const refused = outcomes.filter((outcome) => outcome.status === "rejected");
        assert.equal(refused.length, 1, `${refused.length} of 2 were refused`);
        await assertRefused("REQUEST_ID_REUSED", Promise.reject(refused[0]?.reason));
        assert.equal(await store.count(), round + 1);
      }
    },
  },
  {
    title: "a request that was refused is as if it had not been made",
    async run({ store, peer }) {
      const taken = await addSession(store, { userId: "ann", id: "jti-1" });
      const limit = atMost(1, "reject");
      for (const [key, userId] of [["r1", "ann"] as const, ["r2", "bob"] as const]) {
        const call = store.createOnce(request(key), newSession({ userId, id: "jti-1" }), NO_LIMIT);
        await assertRefused("SESSION_ALREADY_EXISTS", call);
      }
      const beyond = newSession({ userId: "ann", id: "jti-2" });
      await assertRefused("SESSION_LIMIT_REACHED", store.createOnce(request("r3"), beyond, limit));
      await assertUntouched(store, taken);

      for (const [key, userId] of [["r1", "carol"] as const, ["r2", "bob"] as const]) {
        const again = request(key);
        const { session } = await createFirst(peer, again, { userId });
        await assertRepetition(store, again, session, { spec: { userId } });
      }
      await createFirst(peer, request("r3"), { userId: "dave", id: "jti-2" });
    },
  },
  {
    title: "a request that was refused may be made again when there is room",
    async run({ store }) {
      const old = await addSession(store);
      const limit = atMost(1, "reject");
      const call = store.createOnce(request("r1"), newSession(), limit);
      await assertRefused("SESSION_LIMIT_REACHED", call);
      await store.revoke(keyOf(old), "logout");
      const again = request("r1");
      const { session } = await createFirst(store, again, {}, limit);
      await assertRepetition(store, again, session, { limit });
    },
  },
  {
    title: "requests of different keys are different requests, however much alike the keys are",
    async run({ store }) {
      const long = "x".repeat(199);
      const keys = ["a", "A", "a:", ":a", "a:b", "*", "?", "{}", "{49}", "'", '"', "\\", "%", "_"];
      keys.push("__proto__", "\u00e9", "e\u0301", "0", "00", `${long}y`, `${long}z`);
      const created = new Map<string, { first: OnceOnly; session: StoredSession }>();
      for (const key of keys) {
        const first = request(key);
        const { session } = await createFirst(store, first);
        created.set(key, { first, session });
      }
      assert.equal(await store.count("user"), keys.length);
      for (const { first, session } of created.values()) {
        await assertRepetition(store, first, session);
      }
    },
  },
  {
    title: "a request that is no longer recognised leaves nothing behind",
    async run({ store, clock, retentionMs, leftovers, requestReclaimMs }) {
      // Short, because a store may leave it to real time to reclaim requests.
      for (let i = 0; i < 20; i++) {
        const { session } = await createFirst(store, request(`r${i}`, 20), { userId: `user-${i}` });
        await store.revoke(keyOf(session), "");
      }
      const taken = await createFirst(store, request("r", 20), { id: "jti-1" });
      const call = store.createOnce(request("s", 20), newSession({ id: "jti-1" }), NO_LIMIT);
      await assertRefused("SESSION_ALREADY_EXISTS", call);
      clock.advanceTo(taken.session.expireTimeMs + retentionMs + 1);
      assert.equal(await sweepAll(store, 7), 21);
      if (leftovers === undefined) return;
      for (let waitedMs = 0; (await leftovers()) > 0; waitedMs += RECLAIM_INTERVAL_MS) {
        assert.ok(waitedMs < requestReclaimMs, `${await leftovers()} are left`);
        await sleep(RECLAIM_INTERVAL_MS);
      }
    },
  },
];
