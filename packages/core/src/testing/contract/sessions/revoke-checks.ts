import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { SessionStore, StoredSession } from "../../../sessions/session-store.js";
import {
  ACTIVE,
  addSession,
  addSessions,
  assertRefused,
  assertUntouched,
  EVERYTHING,
  hex,
  idsOf,
  inspect,
  keyOf,
  listAll,
  NO_LIMIT,
  newSession,
  sweepAll,
} from "./fixtures.js";
import type { SessionStoreCheck } from "./session-store-check.js";

const REASONS = [
  "",
  "logout",
  "\u7ba1\u7406\u5458 \u{1f510} d\u00e9connect\u00e9",
  "line\nbreak\ttab\r\n",
  "nul\0inside",
  "'; DROP TABLE sessions; --",
  '{}:*\\"%s',
  "x".repeat(256),
];

/** Tries everything that might bring a revoked session back, and expects it to be gone still. */
async function assertFinal(store: SessionStore, before: StoredSession): Promise<void> {
  const key = keyOf(before);
  const revoked = await inspect(store, before);
  assert.ok(revoked?.revokeTimeMs !== undefined, "expected a tombstone");
  assert.equal(await store.touch(key), undefined);
  assert.equal(await store.touch(key, before.tokenHash), undefined);
  assert.equal(await store.touch(key, new Uint8Array()), undefined);
  for (let version = 0; version <= revoked.version + 1; version++) {
    assert.equal(await store.replaceRecord(key, version, randomBytes(8)), undefined);
  }
  for (const hash of [before.tokenHash, new Uint8Array(), new Uint8Array(32)]) {
    assert.equal(await store.rotateToken(key, hash, randomBytes(32)), undefined);
  }
  assert.equal(await store.revoke(key, "again"), false);
  assert.equal(await store.revoke(key, "again", before.tokenHash), false);
  assert.equal(await store.revoke(key, "again", new Uint8Array()), false);
  assert.equal(await store.revokeUser(before.userId, "again"), 0);
  const sameId = newSession({ id: before.id, userId: before.userId });
  await assertRefused("SESSION_ALREADY_EXISTS", store.create(sameId, NO_LIMIT));
  assert.equal(await store.get(key), undefined);
  assert.deepEqual(await store.getMany([key]), [undefined]);
  assert.equal(await store.count(before.userId), 0);
  await assertUntouched(store, revoked);
}

/** Revocation, of one session and of all of a user. */
export const revokeChecks: readonly SessionStoreCheck[] = [
  {
    title: "revoking says so once, and the session is gone from all that shows active ones",
    async run({ store }) {
      const session = await addSession(store);
      const key = keyOf(session);
      assert.equal(await store.revoke(key, "logout"), true);
      assert.equal(await store.revoke(key, "logout"), false);
      assert.equal(await store.get(key), undefined);
      assert.deepEqual(await store.getMany([key]), [undefined]);
      assert.equal(await store.count(), 0);
      assert.equal(await store.count("user"), 0);
      assert.deepEqual(await listAll(store, ACTIVE), []);
      assert.deepEqual(await listAll(store, { ...ACTIVE, userId: "user" }), []);
    },
  },
  {
    title: "a revoked session keeps all it had but its token, with the time and the reason",
    async run({ store, clock }) {
      const session = await addSession(store);
      clock.advance(10);
      await store.revoke(keyOf(session), "logout");
      await assertUntouched(store, {
        ...session,
        version: 2,
        tokenHash: new Uint8Array(),
        revokeTimeMs: clock.now(),
        revokeReason: "logout",
      });
    },
  },
  {
    title: "reasons may be any text",
    async run({ store }) {
      for (const reason of REASONS) {
        const session = await addSession(store);
        await store.revoke(keyOf(session), reason);
        assert.equal((await inspect(store, session))?.revokeReason, reason);
      }
      for (const reason of REASONS) {
        const session = await addSession(store, { userId: "other" });
        assert.equal(await store.revokeUser("other", reason), 1);
        assert.equal((await inspect(store, session))?.revokeReason, reason);
      }
    },
  },
  {
    title: "revoking by a token works with the session's own and no other",
    async run({ store }) {
      const session = await addSession(store);
      const other = await addSession(store);
      for (const wrong of [other.tokenHash, new Uint8Array(), new Uint8Array(32)]) {
        assert.equal(await store.revoke(keyOf(session), "", wrong), false);
      }
      await assertUntouched(store, session);
      assert.equal(await store.revoke(keyOf(session), "", session.tokenHash), true);
    },
  },
  {
    title: "of revocations that race exactly one says that it did it",
    async run({ store, peer }) {
      const session = await addSession(store);
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, i) =>
          (i % 2 ? store : peer).revoke(keyOf(session), `racer ${i}`),
        ),
      );
      assert.equal(answers.filter(Boolean).length, 1);
      const revoked = await inspect(store, session);
      assert.equal(revoked?.version, 2);
      assert.equal(revoked.revokeReason, `racer ${answers.indexOf(true)}`);
    },
  },
  {
    title: "nothing brings a revoked session back, or frees its id, until its retention is over",
    async run({ store, clock, retentionMs }) {
      const session = await addSession(store, { id: "jti-1" });
      const generated = await addSession(store, { userId: "bob" });
      await store.revoke(keyOf(session), "logout");
      await store.revoke(keyOf(generated), "logout");
      const revokedAtMs = clock.now();
      await assertFinal(store, session);
      await assertFinal(store, generated);
      await store.sweep(100);
      await assertFinal(store, session);
      clock.advanceTo(revokedAtMs + retentionMs - 1);
      await store.sweep(100);
      await assertFinal(store, session);
      await assertFinal(store, generated);
    },
  },
  {
    title: "nothing brings a session back that was revoked with its user's, or evicted",
    async run({ store }) {
      const session = await addSession(store, { userId: "ann" });
      await store.revokeUser("ann", "logout");
      await assertFinal(store, session);

      const evicted = await addSession(store, { userId: "bob" });
      const limit = { maxSessionsPerUser: 1, policy: "evict_oldest" } as const;
      const { session: next } = await store.create(newSession({ userId: "bob" }), limit);
      await store.revoke(keyOf(next), "");
      await assertFinal(store, evicted);
    },
  },
  {
    title: "nothing brings an expired session back, or frees its id, until its retention is over",
    async run({ store, clock, retentionMs }) {
      const session = await addSession(store, { id: "jti-1" });
      clock.advanceTo(session.expireTimeMs + retentionMs - 1);
      await store.sweep(100);
      assert.equal(await store.touch(keyOf(session), session.tokenHash), undefined);
      for (const userId of ["user", "bob"]) {
        const sameId = newSession({ id: "jti-1", userId });
        await assertRefused("SESSION_ALREADY_EXISTS", store.create(sameId, NO_LIMIT));
      }
      await assertUntouched(store, session);
    },
  },
  {
    title: "a swept session's id is free, and its old token opens nothing of the new session",
    async run({ store, clock, retentionMs }) {
      const session = await addSession(store, { id: "jti-1", userId: "ann" });
      await store.revoke(keyOf(session), "logout");
      clock.advance(retentionMs);
      assert.equal(await sweepAll(store), 1);
      const next = await addSession(store, { id: "jti-1", userId: "ann" });
      assert.equal(await store.touch(keyOf(next), session.tokenHash), undefined);
      assert.equal(await store.revoke(keyOf(next), "", session.tokenHash), false);
      await assertUntouched(store, next);
      await store.revoke(keyOf(next), "");
      clock.advance(retentionMs);
      assert.equal(await sweepAll(store), 1);
      await addSession(store, { id: "jti-1", userId: "bob" });
    },
  },
  {
    title: "a session that is revoked in the middle of other calls stays revoked",
    async run({ store, peer }) {
      for (let round = 0; round < 20; round++) {
        const session = await addSession(store, { userId: `user-${round}` });
        const key = keyOf(session);
        const newHash = randomBytes(32);
        const calls: (() => Promise<unknown>)[] = [
          () => peer.touch(key),
          () => store.touch(key, session.tokenHash),
          () => peer.replaceRecord(key, 1, randomBytes(16)),
          () => store.rotateToken(key, session.tokenHash, newHash),
          () => peer.touch(key, newHash),
          () => store.replaceRecord(key, 2, randomBytes(16)),
        ];
        calls.splice(round % (calls.length + 1), 0, () => store.revoke(key, "logout"));
        await Promise.all(calls.map((call) => call()));
        await assertFinal(store, { ...session, tokenHash: newHash });
        assert.equal((await inspect(store, session))?.revokeReason, "logout");
      }
    },
  },
  {
    title: "revoking a user's sessions revokes all of them and nobody else's, and says how many",
    async run({ store, clock }) {
      const anns = await addSessions(store, 5, { userId: "ann" });
      const bobs = await addSession(store, { userId: "bob" });
      clock.advance(10);
      assert.equal(await store.revokeUser("ann", "password changed"), 5);
      assert.equal(await store.revokeUser("ann", "password changed"), 0);
      assert.equal(await store.count("ann"), 0);
      assert.deepEqual(await store.getMany(anns.map(keyOf)), Array(5).fill(undefined));
      for (const session of anns) {
        await assertUntouched(store, {
          ...session,
          version: 2,
          tokenHash: new Uint8Array(),
          revokeTimeMs: clock.now(),
          revokeReason: "password changed",
        });
      }
      await assertUntouched(store, bobs);
      assert.equal(await store.count(), 1);
    },
  },
  {
    title: "revoking all but one of a user's sessions leaves exactly that one",
    async run({ store }) {
      const sessions = await addSessions(store, 4, { userId: "ann" });
      const [kept] = sessions;
      assert.ok(kept);
      assert.equal(await store.revokeUser("ann", "", kept.id), 3);
      assert.deepEqual(idsOf(await listAll(store, { ...ACTIVE, userId: "ann" })), [kept.id]);
      await assertUntouched(store, kept);
      assert.equal(await store.revokeUser("ann", "", kept.id), 0);
    },
  },
  {
    title: "an exception that is not one of the user's sessions spares none",
    async run({ store }) {
      await addSessions(store, 2, { userId: "ann" });
      const bobs = await addSession(store, { userId: "bob" });
      assert.equal(await store.revokeUser("ann", "", bobs.id), 2);
      await addSessions(store, 2, { userId: "ann" });
      assert.equal(await store.revokeUser("ann", "", "no-such-session"), 2);
      await assertUntouched(store, bobs);
    },
  },
  {
    title: "expired sessions are not counted among those revoked with their user's",
    async run({ store, clock }) {
      await addSession(store, { idleTimeoutMs: 1_000 });
      await addSession(store, { idleTimeoutMs: 1_001 });
      clock.advance(1_000);
      assert.equal(await store.revokeUser("user", ""), 1);
    },
  },
  {
    title: "a user's many sessions are revoked at once",
    async run({ store }) {
      await addSessions(store, 1_500);
      assert.equal(await store.revokeUser("user", ""), 1_500);
      assert.equal(await store.count(), 0);
      assert.equal((await listAll(store, EVERYTHING)).length, 1_500);
    },
  },
  {
    title: "racing revocations of a user and of single sessions revoke each session once",
    async run({ store, peer }) {
      const sessions = await addSessions(store, 30);
      const [all, again, ...singles] = await Promise.all([
        store.revokeUser("user", "all"),
        peer.revokeUser("user", "all"),
        ...sessions.map((session) => peer.revoke(keyOf(session), "single")),
      ]);
      const revoked = Number(all) + Number(again) + singles.filter(Boolean).length;
      assert.equal(revoked, 30);
      for (const session of await listAll(store, EVERYTHING)) {
        assert.equal(session.version, 2);
        assert.equal(hex(session.tokenHash), "");
      }
    },
  },
  {
    title: "of a session's creation and its user's revocation that race, either comes first",
    async run({ store, peer }) {
      for (let round = 0; round < 10; round++) {
        const userId = `user-${round}`;
        await addSession(store, { userId });
        const [created, revoked] = await Promise.all([
          store.create(newSession({ userId }), NO_LIMIT),
          peer.revokeUser(userId, ""),
        ]);
        const active = idsOf(await listAll(store, { ...ACTIVE, userId }));
        assert.ok(revoked === 1 || revoked === 2, `revoked ${revoked}`);
        assert.deepEqual(active, revoked === 1 ? [created.session.id] : []);
        assert.equal(await store.count(userId), active.length);
      }
    },
  },
];
