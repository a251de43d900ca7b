import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { SessionStore } from "../../../sessions/session-store.js";
import type { Author, SessionChange } from "../../../watch/author.js";
import {
  addSession,
  addSessions,
  assertRefused,
  evictBeyond,
  followEvents,
  keyOf,
  newSession,
  rejectBeyond,
} from "./fixtures.js";
import type { SessionStoreChecks } from "./session-store-check.js";

/** Longer than the time in which a reuse is an accident. */
const STOLEN_AFTER_MS = 60_000;
/** Texts that have tripped up key patterns, Lua, or text encodings, up to the longest. */
const NAMES = ["a b", '{}:*\\"%s', "nul\0inside", "\u7ba1\u7406\u5458 \u{1f510}", "x".repeat(256)];

/** A store as an author sees it, and what the author was told. */
function authored(store: SessionStore, name: string, namespace = "") {
  const told: SessionChange[] = [];
  const author: Author = { name, changed: (change) => void told.push(change) };
  return { view: store.namespace(namespace, author), told };
}

/** Who makes which changes. */
export const authorChecks: SessionStoreChecks = {
  "each event names the author of its change, and nobody where there is none": async (t) => {
    const { store, peer, clock } = t;
    const news = await followEvents(store);
    const { view: gateway } = authored(store, "gateway");
    const { view: support } = authored(peer, "support");
    const [first, second] = [await addSession(gateway), await addSession(store)];
    const key = keyOf(first);
    await support.replaceRecord(key, 1, randomBytes(8));
    await gateway.rotateToken(key, first.tokenHash, randomBytes(32));
    clock.advance(STOLEN_AFTER_MS - 1);
    await support.reportReuse(key, first.tokenHash, true);
    await support.create(newSession(), evictBeyond(1));
    await gateway.revokeUser("user", "all");
    const told = (await news()).map(({ type, changedBy }) => [type, changedBy]);
    assert.deepEqual(told, [
      ["created", "gateway"],
      ["created", ""],
      ["updated", "support"],
      ["token_rotated", "gateway"],
      ["token_reused", "support"],
      ["revoked", "support"],
      ["evicted", "support"],
      ["created", "support"],
      ["revoked", "gateway"],
    ]);
    assert.equal(await store.get(keyOf(second)), undefined);
    for (const name of NAMES) {
      const { view } = authored(store, name);
      await addSession(view, { userId: "ann" });
      assert.deepEqual(
        (await news()).map(({ changedBy }) => changedBy),
        [name],
      );
    }
  },
  "an author is told each change once, as its event tells it, and nobody else's": async (t) => {
    const { store, clock } = t;
    for (const namespace of ["", "shop"]) {
      const news = await followEvents(store.namespace(namespace));
      const { view, told } = authored(store, "gateway", namespace);
      const { told: othersTold } = authored(store, "support", namespace);
      const [first] = await addSessions(view, 3);
      assert.ok(first);
      await view.rotateToken(keyOf(first), first.tokenHash, randomBytes(32));
      clock.advance(STOLEN_AFTER_MS - 1);
      await view.reportReuse(keyOf(first), first.tokenHash, true);
      const request = { key: `request-${namespace}`, record: randomBytes(8), keptForMs: 60_000 };
      for (let i = 0; i < 2; i++) await view.createOnce(request, newSession(), evictBeyond(2));
      const one = await addSession(view, { userId: "ann" });
      await view.revoke(keyOf(one), "logout");
      await view.revokeUser("user", "password changed");
      // These change nothing.
      await view.revoke(keyOf(one), "again");
      await view.touch(keyOf(first));
      await addSession(store.namespace(namespace), { userId: "bob" });
      await assertRefused(
        "SESSION_LIMIT_REACHED",
        view.create(newSession({ userId: "bob" }), rejectBeyond(1)),
      );
      await view.reportReuse(keyOf(first), first.tokenHash, true);
      await Promise.all([1, 2].map(() => view.revokeUser("user", "again")));

      const events = (await news()).filter(({ changedBy }) => changedBy === "gateway");
      const changes = events.map(({ type, sessionId, userId, version, reason }) => ({
        ...{ type, sessionId, userId, version },
        ...(reason !== undefined && { reason }),
      }));
      assert.deepEqual(told.toSorted(byText), changes.toSorted(byText));
      assert.equal(told.length, 12);
      assert.deepEqual(othersTold, []);
    }
  },
};

function byText(a: object, b: object): number {
  return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1;
}
