import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type {
  Creation,
  NewSession,
  OnceOnly,
  RepeatedCreation,
  SessionStore,
  StoredSession,
} from "../../../sessions/session-store.js";
import {
  type AnsweredSession,
  addSession,
  assertRefused,
  assertSame,
  assertUntouched,
  comparable,
  EVERYTHING,
  evictBeyond,
  followEvents,
  hex,
  idsOf,
  inspect,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
  race,
  rejectBeyond,
  type SessionSpec,
  storedSession,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

const KEPT_FOR_MS = 120_000;
const RACERS = 20;
/**
 * How much longer than it keeps a request a store of several nodes may keep its key from users of
 * other partitions: it claims the key ahead of the session, on another node.
 */
const CLAIM_SLACK_MS = 60_000;
/** How often a check looks whether the store has reclaimed what is left of requests. */
const RECLAIM_INTERVAL_MS = 250;

/** A request. Its record differs every time, as it does for a caller who tries again. */
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
  const answer = await store.createOnce(once, given, limit);
  assert.ok(!("repeated" in answer), "a new request was taken for a repeated one");
  assert.equal(answer.session.id, given.key.id);
  return { session: storedSession(answer.session, given), evictedIds: answer.evictedIds };
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
  { spec = {} as SessionSpec, limit = NO_LIMIT, evictedIds = [] as readonly string[] } = {},
): Promise<void> {
  const before = await listAll(store, EVERYTHING);
  const news = await followEvents(store);
  const given = newSession({ ...(session && { userId: session.userId }), ...spec });
  const answer = await store.createOnce(request(first.key), given, limit);
  assertRepeats(answer, first, session, evictedIds);
  assert.deepEqual((await listAll(store, EVERYTHING)).map(comparable), before.map(comparable));
  assert.deepEqual(await news(), []);
}

/** Requests that take effect at most once. */
export const onceChecks: SessionStoreChecks = {
  "a request that was not made before creates a session as any other call does": async (t) => {
    const { store, clock } = t;
    const old = await addSession(store);
    clock.advance(10);
    const news = await followEvents(store);
    const given = newSession();
    const { session, evictedIds } = await createFirst(store, request("r1"), given, evictBeyond(1));
    assert.deepEqual(evictedIds, [old.id]);
    assert.equal(session.createTimeMs, clock.now());
    assert.equal(session.expireTimeMs, clock.now() + given.idleTimeoutMs);
    assert.equal(session.version, 1);
    assertSame(await store.get(given.key), session);
    assert.equal(await store.count(), 1);
    const told = (await news()).map(({ type, sessionId }) => `${type} ${sessionId}`);
    assert.deepEqual(told, [`evicted ${old.id}`, `created ${session.id}`]);
  },
  "a repeated request is told of the session that the first created, and no more": async (t) => {
    const { store, peer, clock } = t;
    const buffer = randomBytes(100);
    const first = { ...request("r1"), record: buffer.subarray(13, 77) };
    const { session } = await createFirst(store, first);
    for (const from of [store, peer]) await assertRepetition(from, first, session);
    clock.advance(10);
    await assertRepetition(store, first, session);
    const touched = await store.touch(keyOf(session));
    assert.ok(touched);
    await assertRepetition(peer, first, touched);
    assert.equal(await store.count(), 1);
  },
  "a repeated request is not in the way of its own chosen id, and takes no other": async (t) => {
    const { store, peer } = t;
    const first = request("r1");
    const { session } = await createFirst(store, first, { id: "jti-1" });
    for (const from of [store, peer]) {
      await assertRepetition(from, first, session, { spec: { id: "jti-1" } });
    }
    assert.equal(await store.partitionOf("jti-1"), keyOf(session).partition);
    await assertRepetition(store, first, session, { spec: { id: "jti-2" } });
    assert.equal(await store.partitionOf("jti-2"), undefined);
    await addSession(store, { userId: "bob", id: "jti-2" });
    await assertRepetition(store, first, session, { spec: { id: "jti-2" } });
  },
  "a repeated request at the limit is neither refused nor does it evict anyone": async (t) => {
    const { store, peer, clock } = t;
    const first = request("r1");
    const { session } = await createFirst(store, first, {}, rejectBeyond(1));
    await assertRepetition(peer, first, session, { limit: rejectBeyond(1) });
    await assertRepetition(peer, first, session, { limit: evictBeyond(1) });

    const evicting = request("r2");
    await addSession(store, { userId: "ann", id: "jti-1" });
    clock.advance(1);
    await addSession(store, { userId: "ann", id: "jti-2" });
    const limit = evictBeyond(1);
    const created = await createFirst(store, evicting, { userId: "ann" }, limit);
    const evictedIds = ["jti-1", "jti-2"];
    assert.deepEqual(created.evictedIds, evictedIds);
    await assertRepetition(peer, evicting, created.session, { limit, evictedIds });
  },
  "a repeated request is told of its session as it is: changed, revoked or expired": async (t) => {
    const { store, peer, clock } = t;
    const [toRevoke, toExpire] = [request("r1"), request("r2")];
    const { session: revoked } = await createFirst(store, toRevoke, { userId: "ann" });
    const { session: expired } = await createFirst(store, toExpire, { userId: "bob" });
    await store.replaceRecord(keyOf(revoked), 1, randomBytes(9));
    await assertRepetition(store, toRevoke, await inspect(store, revoked));
    await store.revoke(keyOf(revoked), "logout");
    clock.advanceTo(expired.expireTimeMs);
    const tombstone = await inspect(store, revoked);
    assert.equal(tombstone?.revokeReason, "logout");
    for (const from of [store, peer]) {
      await assertRepetition(from, toRevoke, tombstone);
      await assertRepetition(from, toExpire, expired);
    }
    assert.equal(await store.count(), 0);
  },
  "once its session is swept, a repeated request creates and finds no other": async (t) => {
    const { store, peer, clock, retentionMs } = t;
    const first = request("r1", 10 * retentionMs);
    const spec = { id: "jti-1" };
    await createFirst(store, first, spec);
    for (const userId of ["user", "bob"]) {
      await store.revokeUser("user", "logout");
      clock.advance(retentionMs);
      await sweepAll(store);
      for (const from of [store, peer]) await assertRepetition(from, first, undefined, { spec });
      assert.equal(await store.partitionOf("jti-1"), undefined);
      await addSession(store, { ...spec, userId });
      await assertRepetition(store, first, undefined, { spec });
    }
  },
  "a repeated request finds no later session that moved in with the same id and times": async (
    t,
  ) => {
    const { store, peer, clock, retentionMs } = t;
    const once = request("r-1", 2 * retentionMs);
    const times = { idleTimeoutMs: 3 * retentionMs, lifetimeMs: 9 * retentionMs };
    const spec = { ...times, id: "ext:1", movedIn: { createTimeMs: clock.now() - 1_000 } };
    const { session } = await createFirst(store, once, spec);
    await store.revoke(keyOf(session), "");
    clock.advance(retentionMs);
    await sweepAll(store);
    const later = await addSession(store, spec);
    assert.equal(later.createTimeMs, session.createTimeMs);
    const answer = await peer.createOnce(once, newSession(spec), NO_LIMIT);
    assert.ok("repeated" in answer);
    assert.equal(answer.session, undefined);
  },
  "a request is recognised for as long as its first call said, and is a new one after that":
    async ({ store, peer, clock }) => {
      const [long, short] = [request("r1", 600_000), request("r2", 30_000)];
      const userId = "ann";
      const { session } = await createFirst(store, long, { userId });
      const other = await createFirst(store, short, { userId });
      clock.advance(29_999);
      // A repetition does not change for how long.
      for (const [key, keptForMs] of [["r1", 1_000] as const, ["r2", 10_000_000] as const]) {
        const again = await peer.createOnce(
          request(key, keptForMs),
          newSession({ userId }),
          NO_LIMIT,
        );
        assert.ok("repeated" in again);
      }
      await assertRepetition(store, short, other.session);
      clock.advance(1);
      const second = request("r2", 30_000);
      const next = await createFirst(peer, second, { userId });
      await assertUntouched(store, other.session);
      await assertRepetition(store, second, next.session);
      clock.advance(600_000 - 30_001);
      const others = store.createOnce(request("r1"), newSession({ userId: "bob" }), NO_LIMIT);
      await assertRefused("REQUEST_ID_REUSED", others);
      await assertRepetition(store, long, await inspect(store, session));
      clock.advance(1 + CLAIM_SLACK_MS);
      await createFirst(store, request("r1"), { userId: "bob" });
    },
  "of one request made many times at once one creates the session, and all name it": async (t) => {
    for (let round = 0; round < 5; round++) {
      const userId = `user-${round}`;
      const requests = Array.from({ length: RACERS }, () => request(`r${round}`));
      const answers = await race(t, RACERS, (from, i) =>
        from.createOnce(requests[i] as OnceOnly, newSession({ userId }), rejectBeyond(5)),
      );
      const winner = answers.findIndex((answer) => !("repeated" in answer));
      const [created, first] = [answers[winner], requests[winner]];
      assert.ok(created?.session && first);
      for (const [i, answer] of answers.entries()) {
        if (i !== winner) assertRepeats(answer, first, created.session);
      }
      const all = await listAll(t.store, { ...EVERYTHING, userId });
      assert.deepEqual(idsOf(all), [created.session.id]);
    }
  },
  "a request that another user has made is refused and changes nothing": async (t) => {
    const { store, peer } = t;
    const first = request("r1");
    const { session } = await createFirst(store, first, { userId: "ann" });
    const news = await followEvents(store);
    for (const spec of [{}, { id: "jti-1" }]) {
      const others = newSession({ userId: "bob", ...spec });
      for (const from of [store, peer]) {
        const call = from.createOnce(request("r1"), others, evictBeyond(1));
        await assertRefused("REQUEST_ID_REUSED", call);
      }
    }
    assert.deepEqual(await news(), []);
    assert.equal(await store.count("bob"), 0);
    assert.equal(await store.partitionOf("jti-1"), undefined);
    await assertRepetition(store, first, session);
  },
  "of one request made for two users at once at most one gets a session": async (context) => {
    for (let round = 0; round < 20; round++) {
      const users = round % 4 < 2 ? ["ann", "bob"] : ["bob", "ann"];
      const outcomes = await race(context, 2, (from, i) => {
        const given = newSession({ userId: users[i] ?? "" });
        return from.createOnce(request(`r${round}`), given, NO_LIMIT).catch((error) => error);
      });
      const refused = outcomes.filter((outcome) => outcome instanceof Error);
      assert.equal(refused.length, 1, `${refused.length} of 2 were refused`);
      await assertRefused("REQUEST_ID_REUSED", Promise.reject(refused[0]));
      assert.equal(await context.store.count(), round + 1);
    }
  },
  "a request that was refused is as if it had not been made": async ({ store, peer }) => {
    const taken = await addSession(store, { userId: "ann", id: "jti-1" });
    for (const [key, userId] of [["r1", "ann"] as const, ["r2", "bob"] as const]) {
      const call = store.createOnce(request(key), newSession({ userId, id: "jti-1" }), NO_LIMIT);
      await assertRefused("SESSION_ALREADY_EXISTS", call);
    }
    for (const key of ["r3", "r4"]) {
      const beyond = newSession({ userId: "ann", id: "jti-2" });
      const call = store.createOnce(request(key), beyond, rejectBeyond(1));
      await assertRefused("SESSION_LIMIT_REACHED", call);
    }
    await assertUntouched(store, taken);

    for (const [key, userId] of [["r1", "carol"] as const, ["r2", "bob"] as const]) {
      const again = request(key);
      const { session } = await createFirst(peer, again, { userId });
      await assertRepetition(store, again, session);
    }
    await createFirst(peer, request("r3"), { userId: "dave", id: "jti-2" });
    // By the same user, once there is room.
    await store.revoke(keyOf(taken), "logout");
    await createFirst(store, request("r4"), { userId: "ann" }, rejectBeyond(1));
  },
  "requests of different keys are different requests, however alike the keys are": async (t) => {
    const { store } = t;
    const long = "x".repeat(199);
    const keys = [
      "a",
      "A",
      "a:",
      ":a",
      "*",
      "{49}",
      "'",
      "\\",
      "%",
      "__proto__",
      "\u00e9",
      "e\u0301",
    ];
    keys.push(`${long}y`, `${long}z`);
    const requests = keys.map((key) => request(key));
    const created: StoredSession[] = [];
    for (const first of requests) created.push((await createFirst(store, first)).session);
    assert.equal(await store.count("user"), keys.length);
    for (const [i, first] of requests.entries()) await assertRepetition(store, first, created[i]);
  },
  "a request that is no longer recognised leaves nothing behind": async (t) => {
    const { store, clock, retentionMs, leftovers, requestReclaimMs } = t;
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
};
