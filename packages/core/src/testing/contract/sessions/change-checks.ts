import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { addSession, assertSame, assertUntouched, hex, keyOf } from "./fixtures.js";
import type { SessionStoreCheck } from "./session-store-check.js";

const RACERS = 50;

/** Tokens, contents and versions. */
export const changeChecks: readonly SessionStoreCheck[] = [
  {
    title: "touching by a token hash works with the session's own and no other",
    async run({ store, clock }) {
      const session = await addSession(store);
      const other = await addSession(store);
      clock.advance(10);
      const nearly = Uint8Array.from(session.tokenHash);
      nearly[31] = (nearly[31] ?? 0) ^ 1;
      for (const wrong of [other.tokenHash, nearly, new Uint8Array(), nearly.subarray(0, 31)]) {
        assert.equal(await store.touch(keyOf(session), wrong), undefined);
      }
      await assertUntouched(store, session);
      assert.ok(await store.touch(keyOf(session), session.tokenHash));
    },
  },
  {
    title: "replacing the record at its version changes the record and adds one to the version",
    async run({ store }) {
      const session = await addSession(store);
      const record = randomBytes(80);
      const replaced = await store.replaceRecord(keyOf(session), 1, record);
      assert.ok(typeof replaced === "object");
      assertSame(replaced, { ...session, record, version: 2 });
      await assertUntouched(store, { ...session, record, version: 2 });
      const again = await store.replaceRecord(keyOf(session), 2, session.record);
      assert.ok(typeof again === "object");
      assertSame(again, { ...session, version: 3 });
    },
  },
  {
    title: "replacing the record at another version is a mismatch and changes nothing",
    async run({ store }) {
      const session = await addSession(store);
      await store.replaceRecord(keyOf(session), 1, session.record);
      for (const version of [0, 1, 3]) {
        const answer = await store.replaceRecord(keyOf(session), version, randomBytes(8));
        assert.equal(answer, "version_mismatch");
      }
      await assertUntouched(store, { ...session, version: 2 });
    },
  },
  {
    title: "of changes that race at one version exactly one wins",
    async run({ store, peer }) {
      const session = await addSession(store);
      const records = Array.from({ length: RACERS }, () => randomBytes(16));
      const answers = await Promise.all(
        records.map((record, i) => (i % 2 ? store : peer).replaceRecord(keyOf(session), 1, record)),
      );
      const winners = answers.filter((answer) => typeof answer === "object");
      assert.equal(winners.length, 1);
      const mismatches = answers.filter((answer) => answer === "version_mismatch");
      assert.equal(mismatches.length, RACERS - 1);
      const record = records[answers.findIndex((answer) => typeof answer === "object")];
      await assertUntouched(store, { ...session, record: record ?? session.record, version: 2 });
    },
  },
  {
    title: "touching does not get in the way of a change, nor a change of a touch",
    async run({ store, clock }) {
      const session = await addSession(store);
      clock.advance(10);
      const record = randomBytes(16);
      const [, replaced] = await Promise.all([
        store.touch(keyOf(session)),
        store.replaceRecord(keyOf(session), 1, record),
        store.touch(keyOf(session)),
      ]);
      assert.ok(typeof replaced === "object");
      await assertUntouched(store, {
        ...session,
        record,
        version: 2,
        lastAccessTimeMs: clock.now(),
        expireTimeMs: clock.now() + session.idleTimeoutMs,
      });
    },
  },
  {
    title: "rotating replaces the token, counts as authentication and activity, and adds a version",
    async run({ store, clock }) {
      const session = await addSession(store);
      clock.advance(10);
      const tokenHash = randomBytes(32);
      const rotated = await store.rotateToken(keyOf(session), session.tokenHash, tokenHash);
      const expected = {
        ...session,
        tokenHash,
        version: 2,
        authenticateTimeMs: clock.now(),
        lastAccessTimeMs: clock.now(),
        expireTimeMs: clock.now() + session.idleTimeoutMs,
      };
      assertSame(rotated, expected);
      await assertUntouched(store, expected);
    },
  },
  {
    title: "after a rotation the old token opens nothing and the new one everything",
    async run({ store }) {
      const session = await addSession(store);
      const key = keyOf(session);
      const newHash = randomBytes(32);
      const rotated = await store.rotateToken(key, session.tokenHash, newHash);
      assert.ok(rotated);
      assert.equal(await store.touch(key, session.tokenHash), undefined);
      assert.equal(await store.rotateToken(key, session.tokenHash, randomBytes(32)), undefined);
      assert.equal(await store.revoke(key, "", session.tokenHash), false);
      await assertUntouched(store, rotated);
      assert.ok(await store.touch(key, newHash));
      assert.equal(await store.revoke(key, "", newHash), true);
    },
  },
  {
    title: "a rotation with another token changes nothing",
    async run({ store, clock }) {
      const session = await addSession(store);
      const other = await addSession(store);
      clock.advance(10);
      for (const wrong of [other.tokenHash, new Uint8Array(), new Uint8Array(32)]) {
        assert.equal(await store.rotateToken(keyOf(session), wrong, randomBytes(32)), undefined);
      }
      await assertUntouched(store, session);
    },
  },
  {
    title: "of rotations that race exactly one wins, and its token is the one that counts",
    async run({ store, peer }) {
      const session = await addSession(store);
      const hashes = Array.from({ length: RACERS }, () => randomBytes(32));
      const answers = await Promise.all(
        hashes.map((hash, i) =>
          (i % 2 ? store : peer).rotateToken(keyOf(session), session.tokenHash, hash),
        ),
      );
      assert.equal(answers.filter((answer) => answer !== undefined).length, 1);
      const winner = hashes[answers.findIndex((answer) => answer !== undefined)];
      const after = await store.get(keyOf(session));
      assert.equal(hex(after?.tokenHash ?? session.tokenHash), hex(winner ?? new Uint8Array()));
      assert.equal(after?.version, 2);
    },
  },
  {
    title: "a rotation makes changes at the version before it mismatch",
    async run({ store }) {
      const session = await addSession(store);
      await store.rotateToken(keyOf(session), session.tokenHash, randomBytes(32));
      const answer = await store.replaceRecord(keyOf(session), 1, randomBytes(8));
      assert.equal(answer, "version_mismatch");
    },
  },
  {
    title: "a change of one session leaves all others alone",
    async run({ store, clock }) {
      const neighbours = [
        await addSession(store),
        await addSession(store, { userId: "bob" }),
        await addSession(store, { userId: "carol" }),
      ];
      const session = await addSession(store);
      clock.advance(10);
      const newHash = randomBytes(32);
      await store.touch(keyOf(session), session.tokenHash);
      await store.replaceRecord(keyOf(session), 1, randomBytes(8));
      await store.rotateToken(keyOf(session), session.tokenHash, newHash);
      await store.revoke(keyOf(session), "", newHash);
      for (const neighbour of neighbours) await assertUntouched(store, neighbour);
    },
  },
];
