import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { OnceOnly, SessionStore } from "../../../sessions/session-store.js";
import type { EventCursor } from "../../../watch/session-event.js";
import {
  addSession,
  assertRefused,
  assertSame,
  assertUntouched,
  EVERYTHING,
  evictBeyond,
  followEvents,
  idsOf,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
  rejectBeyond,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

/** Names that are as much alike as names can be. */
const NAMES = ["", "shop", "shop-a", "shop.a", "shop1", "ns"] as const;
const OTHERS_THAN_SHOP = NAMES.filter((name) => name !== "shop");
/** How soon a hint must come, on a machine that does much else. */
const HINT_TIMEOUT_MS = 5_000;

function viewsOf(store: SessionStore): SessionStore[] {
  return NAMES.map((name) => store.namespace(name));
}

function once(key: string): OnceOnly {
  return { key, record: randomBytes(16), keptForMs: 60_000 };
}

/** A cursor without the time of reading. */
function positionsOf(cursor: EventCursor): object[] {
  return [...cursor].map(([lane, { timeMs: _, ...position }]) => ({ lane, ...position }));
}

const separationChecks: SessionStoreChecks = {
  "a session is found and changed in its own namespace only, whatever is known of it": async (
    t,
  ) => {
    const shop = t.store.namespace("shop");
    const session = await addSession(shop, { id: "jti-1", userId: "ann" });
    const key = keyOf(session);
    const record = randomBytes(32);
    for (const name of OTHERS_THAN_SHOP) {
      const other = t.peer.namespace(name);
      assert.equal(await other.partitionOf(session.id), undefined);
      assert.equal(await other.get(key), undefined);
      assert.deepEqual(await other.getMany([key]), [undefined]);
      assert.equal(await other.touch(key), undefined);
      assert.equal(await other.touch(key, session.tokenHash), undefined);
      assert.equal(await other.replaceRecord(key, 1, record), undefined);
      assert.equal(await other.replaceRecord(key, 1, record, { lock: "l", token: 7 }), undefined);
      assert.equal(await other.reseal(key, session.record, record), false);
      assert.equal(await other.rotateToken(key, session.tokenHash, record), undefined);
      await other.reportReuse(key, session.tokenHash, true);
      assert.equal(await other.revoke(key, "by another"), false);
      assert.equal(await other.revoke(key, "by another", session.tokenHash), false);
      assert.equal(await other.revokeUser("ann", "by another"), 0);
    }
    await assertUntouched(t.peer.namespace("shop"), session);
  },
  "each namespace may have the same chosen id, and keeps it unique for itself": async (t) => {
    const sessions = [];
    for (const view of viewsOf(t.store)) {
      sessions.push(await addSession(view, { id: "jti-1", userId: "ann" }));
    }
    for (const [i, view] of viewsOf(t.peer).entries()) {
      const own = sessions[i] as (typeof sessions)[number];
      assertSame(await view.get(keyOf(own)), own);
      const another = newSession({ id: "jti-1", userId: "bob" });
      await assertRefused("SESSION_ALREADY_EXISTS", view.create(another, NO_LIMIT));
    }
  },
  "lists and counts show the sessions of their own namespace only": async ({ store, peer }) => {
    const added = new Map<SessionStore, string[]>();
    for (const [i, view] of viewsOf(store).entries()) {
      const sessions = [];
      for (let n = 0; n <= i; n++) sessions.push(await addSession(view, { userId: "ann" }));
      added.set(peer.namespace(NAMES[i] ?? ""), idsOf(sessions).toSorted());
    }
    for (const [view, ids] of added) {
      assert.deepEqual(idsOf(await listAll(view, { ...EVERYTHING, limit: 2 })).toSorted(), ids);
      assert.deepEqual(
        idsOf(await listAll(view, { ...EVERYTHING, userId: "ann" })).toSorted(),
        ids,
      );
      assert.deepEqual([await view.count(), await view.count("ann")], [ids.length, ids.length]);
    }
  },
  "a user's limit counts the sessions of one namespace only": async ({ store }) => {
    const shop = store.namespace("shop");
    const kept = await addSession(shop, { userId: "ann" });
    for (const name of OTHERS_THAN_SHOP) {
      for (const limit of [rejectBeyond(1), evictBeyond(1)]) {
        const view = store.namespace(name);
        const { evictedIds } = await view.create(newSession({ userId: "ann" }), limit);
        assert.equal(evictedIds.length, limit.policy === "reject" ? 0 : 1);
      }
    }
    await assertUntouched(shop, kept);
  },
  "revoking a user's sessions revokes those of one namespace only": async ({ store, peer }) => {
    for (const view of viewsOf(store)) await addSession(view, { userId: "ann" });
    assert.equal(await store.namespace("shop").revokeUser("ann", "logout"), 1);
    const counts = await Promise.all(viewsOf(peer).map((view) => view.count("ann")));
    assert.deepEqual(counts, [1, 0, 1, 1, 1, 1]);
  },
  "a request to create is recognised in its own namespace only": async ({ store, peer }) => {
    const requests = viewsOf(store).map(() => once("request"));
    for (const [i, view] of viewsOf(store).entries()) {
      const session = newSession({ userId: `user-${i}` });
      const answer = await view.createOnce(requests[i] ?? once(""), session, NO_LIMIT);
      assert.ok(!("repeated" in answer), "a request of another namespace was recognised");
    }
    for (const [i, view] of viewsOf(peer).entries()) {
      const session = newSession({ userId: `user-${i}` });
      const answer = await view.createOnce(once("request"), session, NO_LIMIT);
      assert.ok("repeated" in answer);
      assert.deepEqual(Buffer.from(answer.repeated), requests[i]?.record);
    }
  },
  "a request to rotate is recognised in its own namespace only": async ({ store }) => {
    const userId = "ann";
    for (const view of viewsOf(store)) {
      const session = await addSession(view, { id: "jti-1", userId });
      const { tokenHash } = session;
      const newHash = randomBytes(32);
      const key = keyOf(session);
      const answer = await view.rotateTokenOnce(once("request"), key, tokenHash, newHash);
      assert.ok(answer && !("repeated" in answer), "another namespace's request was recognised");
    }
  },
  "the fence of a lock in one namespace refuses no update in another": async ({ store }) => {
    const record = randomBytes(8);
    for (const [i, view] of viewsOf(store).entries()) {
      const { id, userId } = await addSession(view, { id: "jti-1", userId: "ann" });
      const fence = { lock: "invoices", token: 100 - i };
      const replaced = await view.replaceRecord(keyOf({ id, userId }), 1, record, fence);
      assert.ok(typeof replaced === "object", `the update was answered ${replaced}`);
    }
  },
  "a name that is none is refused, so that it cannot stand for a key of another namespace": async ({
    store,
  }) => {
    for (const name of [
      "Shop",
      "shop:",
      "a:b",
      "{a}",
      "a b",
      "-a",
      ".",
      "ä",
      "a\0",
      "a".repeat(65),
    ]) {
      assert.throws(() => store.namespace(name), Error, name);
    }
  },
};

const eventChecks: SessionStoreChecks = {
  "a namespace's log has its own events only, and its end tells nothing of others": async (t) => {
    const views = viewsOf(t.peer);
    await addSession(t.store.namespace("shop"), { userId: "ann" });
    const logs = await Promise.all(views.map(followEvents));
    const ends = await Promise.all(views.map(({ events }) => events.end()));
    const session = await addSession(t.store.namespace("shop"), { userId: "ann" });
    await t.store.namespace("shop").revoke(keyOf(session), "logout");
    for (const [i, name] of NAMES.entries()) {
      const told = await logs[i]?.();
      assert.equal(told?.length, name === "shop" ? 2 : 0, `"${name}" was told`);
      if (name === "shop") continue;
      const end = await views[i]?.events.end();
      assert.deepEqual(positionsOf(end ?? new Map()), positionsOf(ends[i] ?? new Map()));
    }
  },
  "a position in one namespace's log leads to no event of another": async ({ store, peer }) => {
    const start = await store.namespace("shop").events.end();
    await addSession(store.namespace("shop"), { userId: "ann" });
    await addSession(store.namespace("ns"), { id: "own", userId: "ann" });
    for (const name of OTHERS_THAN_SHOP) {
      const page = await peer.namespace(name).events.read(start, 1_000);
      const told = page === "lost" ? [] : page.events.map(({ sessionId }) => sessionId);
      assert.deepEqual(
        told.filter((id) => name !== "ns" || id !== "own"),
        [],
        `"${name}" was told`,
      );
    }
  },
  "listeners hear of events in their namespace, through any server": async ({ store, peer }) => {
    let hints = 0;
    const stop = peer.namespace("shop").events.subscribe(() => hints++);
    const deadlineMs = performance.now() + HINT_TIMEOUT_MS;
    // A listener may miss hints while it begins.
    while (hints === 0) {
      assert.ok(performance.now() < deadlineMs, "no hint came");
      await addSession(store.namespace("shop"), { userId: "ann" });
      await sleep(20);
    }
    stop();
  },
};

const upkeepChecks: SessionStoreChecks = {
  "a sweep removes what has ended in every namespace, and nothing else": async (t) => {
    const { store, peer, clock, retentionMs, leftovers } = t;
    for (const view of viewsOf(store)) {
      await addSession(view, { id: "jti-1", userId: "ann", idleTimeoutMs: 1_000 });
      await addSession(view, { userId: "ann", idleTimeoutMs: 5_000 });
    }
    clock.advance(1_000 + retentionMs);
    assert.equal(await sweepAll(peer, 4), NAMES.length);
    for (const view of viewsOf(store)) {
      assert.equal((await listAll(view, EVERYTHING)).length, 1);
      await addSession(view, { id: "jti-1", userId: "bob", idleTimeoutMs: 1_000 });
    }
    clock.advance(10_000 + retentionMs);
    assert.equal(await sweepAll(store.namespace("shop"), 4), 2 * NAMES.length);
    assert.equal(await sweepAll(store, 4), 0);
    if (leftovers) assert.equal(await leftovers(), 0);
  },
  "the namespaces are known that have sessions, and forgotten with the last": async (t) => {
    const { store, peer, clock, retentionMs } = t;
    assert.deepEqual(await store.namespaces(), [""]);
    for (const name of ["shop", "blog"]) {
      await addSession(store.namespace(name), { idleTimeoutMs: 1_000 });
    }
    await addSession(store.namespace("shop"), { idleTimeoutMs: 5_000 });
    for (const any of [peer, peer.namespace("shop"), peer.namespace("empty")]) {
      assert.deepEqual((await any.namespaces()).toSorted(), ["", "blog", "shop"]);
    }
    clock.advance(1_000 + retentionMs);
    await sweepAll(store);
    assert.deepEqual((await peer.namespaces()).toSorted(), ["", "shop"]);
    clock.advance(10_000 + retentionMs);
    await sweepAll(store);
    assert.deepEqual(await peer.namespaces(), [""]);
  },
};

/** Namespaces share nothing. */
export const namespaceChecks: SessionStoreChecks = {
  ...separationChecks,
  ...eventChecks,
  ...upkeepChecks,
};
